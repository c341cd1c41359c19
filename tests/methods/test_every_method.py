"""What every pretext task must do, whatever it is; a new one is added to METHODS and to SMALL, and to nothing else."""

import json
import math
import os
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from s2dc_core.encoder import Encoder, EncoderConfig
from s2dc_core.methods import METHODS
from s2dc_core.options import make
from s2dc_core.pretraining import PretrainConfig, Pretraining, draw_views, dry_run, gradient_reach, pretrain
from s2dc_core.pretraining.regions import RegionDraws, draw_regions
from s2dc_core.studies.ablation import PublishedMatches
from s2dc_core.weights import load_encoder
from tests.pretend import counted, pretended
from tests.pretraining.test_pretrain import blobs

ROOT = Path(__file__).resolve().parents[2]
ENCODER = EncoderConfig(
    embed_dim=12, heads=(1, 2, 4, 8), window=2, depths=(1, 1, 1, 1), use_v2=False, sub_volume=(32, 32, 32)
)
SMALL = {
    "s2dc": {
        "hidden": 16,
        "out": 8,
        "levels": (1, 2),
        "joined": True,
        "token_head": "none",
        "matched_tokens": 20,
        "loss_options": {"contrast_weight": 0.1},
    },
    "simmim": {"sub_volumes": (1, 1, 1), "cell": 8},
    "mae3d": {"sub_volumes": (1, 1, 1), "cell": 8, "width": 24, "blocks": 1, "heads": 2, "learning_rate": 3e-4},
    "simclr": {"hidden": 16, "out": 8, "views": {"rotation_deg": 5, "translation_mm": 1}},
    "moco_v3": {"hidden": 64, "out": 32, "views": {"rotation_deg": 5, "translation_mm": 1}},
    "swin_unetr": {"sub_volumes": (1, 1, 1), "out": 16},
    "swinmm": {"sub_volumes": (1, 1, 1), "out": 16, "cell": 8},
    "jigsaw": {"hidden": 16, "out": 8},
    "position_label": {"level": 3, "pairs": 50},
    "rot": {"sub_volumes": (1, 1, 1), "hidden": (64, 64)},
    "models_genesis": {"sub_volumes": (1, 1, 1)},
    "rubik": {"sub_volumes": (1, 1, 1), "critic": 0.1},
    "voco": {"bases": (3, 1, 1), "crop": (8, 8, 8), "hidden": 64, "out": 64},
    "pcrlv2": {
        "sub_volumes": (1, 1, 1),
        "pairs": 2,
        "locals": 1,
        "global_sides": (20, 24),
        "local_sides": (8, 12),
        "local_size": 16,
        "learning_rate": 1e-5,
    },
    "gl_mae": {
        "sub_volumes": (1, 1, 1),
        "locals": 1,
        "global_sides": (24, 28),
        "local_sides": (12, 16),
        "hidden": 16,
        "width": 16,
        "prototypes": 16,
        "temperature": 1.0,  # at 0.1 the centre's first moves raise its loss
        "teacher_temperature": 0.5,
        "weights": (1.0, 1.0, 0.1, 0.1),
    },
    "gvsl": {
        "damage": {
            "shuffle": 0.8,
            "windows": 500,
            "window": 16,
            "one_size": True,
            "falling": 0.0,
            "inside": 1.0,
            "boxes": 30,
            "box": (10, 5),
        },
        "hidden": 16,
        "flow_hidden": (8, 8),
        "restore_hidden": 8,
        "window": 5,
        "weights": (0.1, 1.0, 0.1),  # at a rate of 2e-3 its registration of blobs goes too far
        "learning_rate": 1e-5,
    },
    "pcrlv1": {
        "queue": 32,
        "hidden": 16,
        "out": 8,
        "damage": {"curve": 0.0, "windows": 100},
        "learning_rate": 1e-5,
    },
    "vicregl": {
        "out": 16,
        "local_out": 8,
        "views": {"rotation_deg": 5, "translation_mm": 1},
        "learning_rate": 1e-5,
    },
}
"""Options of a few seconds; levels and cells that fit sub-volumes of 32. Where a rate is named, the first steps of the
default one would make differences of the seventh digit to such of the fourth."""
REACHED = {
    "s2dc": {"contrast": 5, "patch_to_patch": 3, "patch_to_structure": 3},
    "simmim": {"total": 5},
    "mae3d": {"total": 5},
    "simclr": {"total": 5},
    "moco_v3": {"total": 5},
    "jigsaw": {"clustering": 4, "location": 4},
    "position_label": {"total": 4},
    "swin_unetr": {"rotation": 5, "contrast": 5, "reconstruction": 4},
    "swinmm": {"rotation": 5, "contrast": 5, "reconstruction": 4, "agreement": 4},
    "rot": {"total": 5},
    "models_genesis": {"total": 5},
    "rubik": {"restoration": 5, "told": 0, "fooled": 5},
    "voco": dict.fromkeys(("overlapped", "apart", "bases"), 5),
    "pcrlv2": dict.fromkeys(("restored", "alike", "coarse", "local_alike"), 5),
    "gl_mae": dict.fromkeys(("restored", "local_restored", "alike", "local_alike"), 5),
    "gvsl": dict.fromkeys(("registered", "restored", "smooth"), 5),
    "pcrlv1": {"contrast": 5, "restored": 4},
    "vicregl": dict.fromkeys(("difference", "variance", "covariance"), 5),
}
"""How many of the patch embedding and the four stages each term trains."""
WAITS = dict.fromkeys(SMALL, 1) | {"s2dc": 3}
COPIES = {
    "s2dc": 9,
    "simmim": 4,
    "mae3d": 4,
    "simclr": 7,
    "moco_v3": 7,
    "jigsaw": 5,
    "position_label": 6,
    "swin_unetr": 7,
    "swinmm": 6,
    "rot": 4,
    "models_genesis": 8,
    "rubik": 3,
    "voco": 4,
    "pcrlv2": 9,
    "gl_mae": 4,
    "gvsl": 12,
    "pcrlv1": 15,
    "vicregl": 8,
}
"""How often a step of a batch of two waits for its device, and copies something there, at most."""
SCANS = [blobs(0), blobs(1)._replace(name="other")]

TOGETHER = """
import sys
from tests.methods.test_every_method import SCANS, pretrain, small
folder, *methods = sys.argv[1:]
for method in methods:
    pretrain(small(method, batch=1, steps=4), SCANS, progress=False, folder=f"{folder}/{method}", device=None)
"""

every_method = pytest.mark.parametrize("method", METHODS)


def small(method, **changes):
    values = {"encoder": ENCODER, "method": method, "steps": 6, "batch": 2, "warmup": 1, **SMALL[method], **changes}
    return PretrainConfig(**values)


@every_method
def test_a_dry_run_says_what_it_costs(method):
    """With as few regions as it can learn from, where it is to show what each term trains."""
    config = small(method)
    said = dry_run(config, SCANS, steps=1, device="cpu")
    assert all(term in said for term in REACHED[method])
    assert f"{config.batch * config.options.parts((32, 32, 32), ENCODER)} {config.options.PARTS}" in said


@every_method
def test_its_loss_falls(method):
    """Of the same regions, before and after."""
    config = small(method, steps=30, learning_rate=2e-3)
    run = Pretraining(config, SCANS, device="cpu")
    views = [draw_views(config, SCANS, first) for first in range(0, 8, 2)]

    def loss():
        with torch.no_grad():
            return sum(float(run.forward(each)[0].total) for each in views)

    for each in views * 4 if hasattr(run.model, "queue") else ():  # contrasts grow with it: it is empty, or random
        with torch.no_grad():
            run.model.queue.add(run.forward(each)[1][:, : run.model.queue.features.shape[1]])
    before = loss()
    for _ in range(config.steps):
        run.step()
    assert loss() < 0.97 * before


@every_method
def test_the_same_seed_gives_the_same_run_and_another_another(method):
    """The global random numbers decide nothing, and stay as they are."""
    runs = []
    for seed in (0, 0, 1):
        torch.manual_seed(len(runs))
        before = torch.get_rng_state()
        runs.append(pretrain(small(method, seed=seed, steps=3), SCANS, progress=False, device="cpu"))
        assert torch.equal(torch.get_rng_state(), before)
    assert runs[0].history == runs[1].history != runs[2].history
    for one, other in zip(runs[0].model.parameters(), runs[1].model.parameters(), strict=True):
        assert torch.equal(one, other)


@every_method
def test_it_goes_on_bit_for_bit(method, tmp_path):
    whole = pretrain(small(method), SCANS, progress=False, device="cpu")
    pretrain(small(method, steps=6), SCANS, progress=False, device="cpu", folder=tmp_path, save_every=2, keep=3)
    for late in ("step_0000004", "step_0000006"):
        for file in (tmp_path / late).iterdir():
            file.unlink()
        (tmp_path / late).rmdir()
    again = pretrain(small(method), SCANS, progress=False, device="cpu", folder=tmp_path, resume=True)
    assert again.history == whole.history
    for (name, one), other in zip(whole.model.state_dict().items(), again.model.state_dict().values(), strict=True):
        assert torch.equal(one, other), name


@every_method
def test_another_methods_checkpoint_is_refused(method, tmp_path):
    other = next(name for name in METHODS if name != method)
    pretrain(small(other, steps=1), SCANS, progress=False, device="cpu", folder=tmp_path)
    with pytest.raises(ValueError, match=f"follows another recipe: .*method: {other} there, {method} here"):
        pretrain(small(method), SCANS, progress=False, device="cpu", folder=tmp_path, resume=True)


@every_method
def test_accumulated_batches_are_one_batch_unless_it_says_otherwise(method):
    config = small(method, steps=3, batch=2)
    if config.whole_batch:
        pytest.skip("a region's loss depends on the others of its batch")
    whole = pretrain(config, SCANS, progress=False, device="cpu").history
    parts = pretrain(replace(config, batch=1, accumulate=2), SCANS, progress=False, device="cpu").history
    assert np.array(parts) == pytest.approx(np.array(whole), abs=1e-5)


@every_method
def test_a_region_has_its_own_value(method):
    config = small(method, batch=3)
    if config.whole_batch:
        pytest.skip("a region's loss depends on the others of its batch")
    run = Pretraining(config, SCANS, device="cpu")
    terms, _ = run.model(draw_views(config, SCANS))
    assert terms.total.shape == (3,)
    for k in range(3):
        alone, _ = run.model(draw_views(replace(config, batch=1), SCANS, first=k))
        torch.testing.assert_close(torch.stack(alone)[:, 0], torch.stack(terms)[:, k], atol=1e-5, rtol=1e-5)


@pytest.fixture(scope="module")
def together(request, tmp_path_factory):
    """The folder of the runs of two processes, which train one method after the other; and what they said."""
    test, folder = test_two_processes_are_one.__name__, tmp_path_factory.mktemp("together")
    chosen = [item.callspec.params["method"] for item in request.session.items if item.name.startswith(test)]
    (folder / "child.py").write_text(TOGETHER, encoding="utf-8")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    command += [str(folder / "child.py"), str(folder), *chosen]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, timeout=300 + 60 * len(chosen))
    return folder, done.stderr.decode(errors="replace")


@pytest.mark.slow
@every_method
def test_two_processes_are_one(method, together):
    folder, said = together
    assert (folder / method / "step_0000004").is_dir(), said
    two = Pretraining.resume(folder / method, SCANS, "cpu")
    one = Pretraining(small(method, steps=4), SCANS, "cpu")
    for _ in range(4):
        one.step()
    assert np.array(two.history) == pytest.approx(np.array(one.history), abs=1e-5)


@every_method
def test_its_gradient_reaches_the_stages_that_it_says(method):
    found = gradient_reach(small(method), SCANS[0])
    assert {term: sum(norm > 0 for norm in norms.values()) for term, norms in found.norms.items()} == REACHED[method]


@every_method
def test_it_keeps_to_its_device_and_hardly_waits(method):
    with pretended() as device:
        run = Pretraining(small(method), SCANS, device=device)
        run.step()
        with counted() as counts:
            run.step()
        assert {value.device.type for value in run.model.state_dict().values()} == {device.type}
        found = run.history[-1]
    plain = Pretraining(small(method), SCANS, device="cpu")
    plain.step()
    assert found == pytest.approx(plain.step(), abs=1e-4)
    assert counts.waits.total() <= WAITS[method], counts.waits.most_common()
    assert counts.copies.total() <= COPIES[method], counts.copies.most_common()


@every_method
def test_its_encoder_is_exported_under_the_names_of_all(method, tmp_path):
    pretrain(small(method, steps=1), SCANS, progress=False, device="cpu", folder=tmp_path)
    encoder, report = load_encoder(tmp_path / "step_0000001" / "encoder.safetensors")
    assert not (report.missing or report.unexpected or report.wrong_shape) and encoder.config == ENCODER
    sizes = {name: value.shape for name, value in encoder.state_dict().items()}
    assert sizes == {name: value.shape for name, value in Encoder(ENCODER).state_dict().items()}


def test_all_start_from_one_encoder():
    """The one that the seed alone gives."""
    expected = Encoder.from_seed(ENCODER, 3).state_dict()
    for method in METHODS:
        for name, value in small(method, seed=3).build().encoder.state_dict().items():
            assert torch.equal(value, expected[name]), (method, name)


@every_method
def test_its_recipe_survives_json(method):
    config = small(method)
    assert PretrainConfig.from_dict(json.loads(json.dumps(config.as_dict()))) == config
    assert make(METHODS[method], json.loads(json.dumps(asdict(config.options)))) == config.options


@every_method
def test_a_plan_is_small_and_lies_on_the_cpu(method):
    """It goes from one process to another; volumes do not belong in it."""
    draw = RegionDraws(small(method), SCANS)[0]
    assert all(isinstance(value, torch.Tensor) and value.device.type == "cpu" for value in draw.plan.values())
    assert sum(value.nbytes for value in draw.plan.values()) < draw.region.volume.nbytes / 10


@every_method
def test_views_are_made_without_chance(method):
    config = small(method)
    built, regions = config.build(), draw_regions(config, SCANS)
    one, other = built.views(regions), built.views(regions)
    leaves = [torch.utils._pytree.tree_leaves(views) for views in (one, other)]
    for left, right in zip(*leaves, strict=True):
        assert torch.equal(left, right) and not left.requires_grad


@every_method
def test_a_constant_volume_gives_numbers(method):
    flat = [scan._replace(volume=scan.volume * 0 + 1) for scan in SCANS]
    run = Pretraining(small(method, steps=3), flat, device="cpu")
    for _ in range(3):
        assert all(math.isfinite(value) for value in run.step())
    assert all(torch.isfinite(weight).all() for weight in run.model.parameters())


def test_an_unknown_method_names_the_known():
    with pytest.raises(ValueError, match="unknown method 'simmin': did you mean simmim?"):
        PretrainConfig(method="simmin")
    with pytest.raises(ValueError, match="unknown method 'byol': there are s2dc, simmim"):
        PretrainConfig.from_recipe("teaching", ["method=byol"])


def test_options_of_another_method_are_refused():
    with pytest.raises(ValueError, match="queue: options of another method, simmim has cell, ratio, sub_volumes"):
        PretrainConfig(method="simmim", queue=8)
    with pytest.raises(ValueError, match="options of another method, simmim has"):
        PretrainConfig.from_recipe("teaching", ["method=simmim"])
    with pytest.raises(ValueError, match="ratio: options of another method"):
        PretrainConfig(ratio=0.5)


def test_a_method_that_does_not_fit_the_encoder_is_refused():
    with pytest.raises(ValueError, match="cell 12 must be a multiple of the patch, 2, and divide sub_volume"):
        small("simmim", cell=12)
    with pytest.raises(ValueError, match="must be multiples of 32, a token at 4 of levels"):
        small("s2dc", levels=(4,), encoder=replace(ENCODER, sub_volume=(16, 16, 16)))


def test_options_given_in_two_ways():
    """The later way counts, a kind of options stays what it is, and what is given twice at once is refused."""
    config = PretrainConfig.from_recipe("teaching", queue=7)
    assert replace(config, hidden=9).options == replace(config.options, hidden=9)
    assert PretrainConfig.from_recipe("teaching", options={"hidden": 8}).options.hidden == 8
    for twice in (["hidden=8", "options.hidden=9"], ["hidden=8", "options={queue: 3}"]):
        with pytest.raises(ValueError, match="is given twice"):
            PretrainConfig.from_recipe("teaching", twice)
    for words in (["quue=8"], ["options.quue=8"]):
        with pytest.raises(ValueError, match="no field 'quue': did you mean queue"):
            PretrainConfig.from_recipe("teaching", words)
    own = PublishedMatches(queue=5)
    kept = PretrainConfig(options=own)
    assert kept.options is own and type(replace(kept, hidden=9).options) is PublishedMatches
    with pytest.raises(ValueError, match="a recipe of s2dc cannot hold PublishedMatches"):
        PretrainConfig.from_recipe("teaching", options=own)
