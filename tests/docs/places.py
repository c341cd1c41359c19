"""The folders in which a page's blocks run: what each page speaks of, small and generated."""

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import torch

from s2dc_core.data import open_scan
from s2dc_core.library.results import WEIGHTS
from s2dc_core.pretraining import PretrainConfig
from s2dc_core.pretraining.regions import draw_regions
from s2dc_core.training.rates import optimiser_of
from s2dc_core.weights import export_encoder
from tests.data.miniature import MAKERS
from tests.pretraining.test_pretrain import CONFIG, blobs
from tests.test_weights import as_ssl, parameters

SIZE = {"shape": (32, 24, 32), "spacing": (7.5, 7.5, 7.5)}


def save(values: torch.Tensor, file: Path, affine: np.ndarray) -> None:
    """A NIfTI file."""
    nib.save(nib.Nifti1Image(np.asarray(values, dtype=np.float32), affine), file)


def for_scans(folder: Path) -> dict:
    """Two scans with labels, weights in MONAI's layout, and a checkpoint of the recipe `teaching`."""
    for seed, name in enumerate(("scan", "other")):
        scan = open_scan("phantom_ct", seed=seed, **SIZE)
        save(scan.raw, folder / f"{name}.nii.gz", scan.affine)
    save(scan.label, folder / "organs.nii.gz", scan.affine)
    torch.save(as_ssl(parameters()[1]), folder / "model_swinvit.pt")
    checkpoint = folder / "my_run" / "step_0002000"
    checkpoint.mkdir(parents=True)
    (checkpoint / "encoder.safetensors").write_bytes((WEIGHTS / "s2dc.safetensors").read_bytes())
    return {}


def for_data(folder: Path) -> dict:
    """Trees of the data sets that the page names."""
    for name, root in {"msd_spleen": "msd", "btcv": "BTCV", "tcia_covid19": "TCIA"}.items():
        MAKERS[name](folder / root)
    return {}


def for_pretraining(folder: Path) -> dict:
    """A folder of scans."""
    (folder / "my_scans").mkdir()
    for seed in range(3):
        scan = open_scan("phantom_ct", seed=seed, **SIZE)
        save(scan.raw, folder / "my_scans" / f"case_{seed}.nii.gz", scan.affine)
    return {}


def for_finetuning(folder: Path) -> dict:
    """Trees of the data sets, a checkpoint that fits the small recipe, and an image with its label."""
    for name, root in {"btcv": "BTCV", "cc_ccii": "CC-CCII", "brats23": "BRATS"}.items():
        MAKERS[name](folder / root)
    checkpoint = folder / "my_run" / "step_0100000"
    checkpoint.mkdir(parents=True)
    export_encoder(parameters(depths=(2, 2, 2, 2))[0], checkpoint / "encoder.safetensors")
    label = torch.zeros(64, 64, 64, dtype=torch.int32)
    label[20:40, 20:40, 20:40] = 1
    return {"image": torch.randn(1, 64, 64, 64) + label, "label": label}


def for_methods(_folder: Path) -> dict:
    """What a training step works on."""
    config = PretrainConfig(**{**vars(CONFIG), "steps": 1, "batch": 1})
    method, regions = config.build().train(), draw_regions(config, [blobs(0), blobs(1)], 0)
    views = method.views(regions)
    student, teacher = method.student(views.source), method.teach(views.target)
    leaves = [tokens.detach().requires_grad_() for tokens in student.tokens]
    return {
        "method": method,
        "optimiser": optimiser_of(method, config)[0],
        "regions": regions,
        "query": student.pooled.detach().requires_grad_(),
        "positive": method.embed(views.positives),
        "negatives": method.queue.negatives(),
        "student_tokens": leaves,
        "teacher_tokens": teacher.tokens,
        "matches": views.matches,
    }


PLACES: dict[str, Callable[[Path], dict]] = {
    "scans.md": for_scans,
    "explorer.md": for_scans,
    "data.md": for_data,
    "pretraining.md": for_pretraining,
    "finetuning.md": for_finetuning,
    "methods.md": for_methods,
}
"""By page; what each returns are the names that its Python blocks find."""
