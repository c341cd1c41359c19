"""Views and whole steps at the paper's sizes, against a plain rendering of the published recipe's passes.

Both see the same voxels: one region of sub-volumes of 96^3, Swin 48 with v2 blocks. The plain rendering transforms crop
by crop with MONAI (the region once, each sub-volume once more), runs the teacher over three sets of crops, all
sub-volumes in one batch and without flash attention; losses, optimiser and moving average are ours. The published
script also traces anomalies and carries an unused block of 32 million weights, which are left out here.

    python benchmarks/step.py [--counts 2 2 1] [--repeats 3] [--views-only] [--device cuda]
"""

import argparse
import itertools
import math
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median

import nibabel as nib
import numpy as np
import torch
from child import machine, seconds
from monai.data import MetaTensor
from monai.transforms import Affined, Compose, RandAffined, RandShiftIntensityd, Resized, SpatialCropd, ToTensord
from tqdm import tqdm

from s2dc_core.data import Scan, open_scan, open_scans
from s2dc_core.geometry import Matches, random_affine, split_region, warp
from s2dc_core.pretraining import PretrainConfig, Pretraining, step_times
from s2dc_core.pretraining.regions import RegionDraws, regions_of

SPACING = (1.5, 1.5, 1.5)


def smooth_scan(config: PretrainConfig) -> Scan:
    """Random tissue that fills one region."""
    shape = [n * side for n, side in zip(config.options.views.counts, config.encoder.sub_volume, strict=True)]
    coarse = torch.randn(1, 1, *(side // 16 for side in shape), generator=torch.Generator().manual_seed(0))
    volume = torch.nn.functional.interpolate(coarse, size=shape, mode="trilinear")[0]
    everywhere = torch.ones(shape, dtype=torch.bool)
    return Scan(volume, volume[0], None, SPACING, None, {}, "ct", -2.0, everywhere, "smooth")


def crop_by_crop(volume: torch.Tensor, config: PretrainConfig) -> tuple[torch.Tensor, ...]:
    """Clean crops, crops of the warped region and augmented crops, each [G, 1, 96, 96, 96].

    As in the published script every crop is a chain of dictionary transforms of its own: cut, brought to the size of a
    sub-volume (which it has), and, if it is to be augmented, shifted in intensity and warped.
    """
    views, side = config.options.views, config.encoder.sub_volume
    image, key = {"image": MetaTensor(volume)}, {"keys": ["image"]}
    shift = RandShiftIntensityd(**key, offsets=views.intensity_shift, prob=0.1)
    angle, voxels = math.radians(20), views.translation_mm / SPACING[0] / 2
    motion = {"rotate_params": (0, 0, angle), "translate_params": (voxels, voxels, 0), "scale_params": (1.1,) * 3}
    warped = Compose([Affined(**key, **motion, padding_mode="zeros"), shift])(image)
    ranges = {
        "rotate_range": [math.radians(views.positive_rotation_deg)] * 3,
        "translate_range": [views.positive_translation_mm / SPACING[0]] * 3,
        "scale_range": [0.1] * 3,
    }
    own = [shift, RandAffined(**key, **ranges, prob=1.0, spatial_size=side, padding_mode="zeros")]
    sets = ([], [], [])
    for cell in itertools.product(*map(range, views.counts)):
        start = [n * s for n, s in zip(cell, side, strict=True)]
        cut = SpatialCropd(**key, roi_start=start, roi_end=[n + s for n, s in zip(start, side, strict=True)])
        resize = Resized(**key, spatial_size=side, mode="trilinear", align_corners=True)
        for crops, source, more in zip(sets, (image, warped, image), ([], [], own), strict=True):
            crops.append(Compose([cut, resize, *more, ToTensord(**key)])(source)["image"].as_subclass(torch.Tensor))
    return tuple(torch.stack(crops) for crops in sets)


def plain_step(run: Pretraining, volume: torch.Tensor, matches: list[Matches]) -> None:
    """The published passes: the student over the clean crops, the teacher over all three sets."""
    clean, warped, augmented = (crops.to(run.device) for crops in crop_by_crop(volume, run.config))
    student, teacher = run.model.student, run.model.teacher
    level = run.config.options.levels[0]
    maps = student.encoder(clean)
    with torch.no_grad():
        target_maps = teacher.encoder(warped)
        positives, _ = teacher.embed(augmented), teacher.embed(clean)
        target = _tokens(teacher, target_maps[level])
    terms = run.model.loss(
        student.pool(maps), positives, run.model.queue.negatives(), _tokens(student, maps[level]), target, matches[0]
    )
    run.optimiser.zero_grad()
    terms.total.backward()
    run.optimiser.step()
    run.model.update_teacher()
    run.model.queue.add(positives)


def _tokens(branch: torch.nn.Module, cells: torch.Tensor) -> torch.Tensor:
    """All sub-volumes' tokens as those of one region; their order does not change the work."""
    tokens = branch.token_heads[0](cells.movedim(1, -1))
    return torch.nn.functional.normalize(tokens, dim=-1).flatten(0, 3)[None]


def set_flash(run: Pretraining, on: bool) -> None:
    """Flash attention in the teacher, which needs no gradient."""
    for part in run.model.modules():
        if hasattr(part, "use_flash_attention"):
            part.use_flash_attention = on


def in_turns(forms: Mapping[str, Callable], repeats: int, device: str) -> dict[str, list[float]]:
    """Seconds of each form, one after the other in every round, after a first round that is not counted."""
    found = {name: [] for name in forms}
    with tqdm(total=(repeats + 1) * len(forms), leave=False, disable=not sys.stderr.isatty()) as bar:
        for _ in range(repeats + 1):
            for name, form in forms.items():
                found[name].append(seconds(form, device))
                bar.update()
    return {name: times[1:] for name, times in found.items()}


def show(title: str, found: Mapping[str, list[float]], against: str) -> None:
    """A table of medians, with each round's ratio to the form it is compared with."""
    print(f"\n| {title} | seconds | {against} takes, times this |\n| --- | --- | --- |")
    for name, times in found.items():
        ratios = [other / own for other, own in zip(found[against], times, strict=True)]
        print(f"| {name} | {median(times):.3g} | {median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) |")
    sys.stdout.flush()


def parts_of_a_step(device: str, repeats: int) -> None:
    """Where a step of `teaching` goes, and how much of its processor time are the encoder's own passes."""
    recipe = PretrainConfig.from_recipe("teaching")
    scans = [open_scan("phantom_ct")]
    times = step_times(recipe, scans, repeats, device)
    run = Pretraining(recipe, scans, device)
    views = run.prepare([run.draws()[0]])
    student, teacher = (branch.encoder for branch in (run.model.student, run.model.teacher))
    crops = [split_region(volume, recipe.encoder.sub_volume) for volume in (views.source, views.target)]
    ends = [torch.randn_like(level) for level in student(crops[0])[1:]]

    def passes() -> None:
        torch.autograd.backward(student(crops[0])[1:], ends)
        with torch.no_grad():
            teacher(crops[1]), teacher(views.positives)

    print("\n| a step of `teaching` | seconds |\n| --- | --- |")
    for name, value in times.items():
        print(f"| {name} | {value:.4f} |")
    if device == "cpu":
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # the processor time of several holds their waiting for each other
        own, whole = (median(_processor_time(work) for _ in range(3 * repeats)) for work in (passes, run.step))
        torch.set_num_threads(threads)
        print(
            f"\nthe encoder's own passes: {own:.3f} of {whole:.3f} s of processor time on one thread, {own / whole:.0%}"
        )


def reading(repeats: int) -> None:
    """Cutting a region out of a scan of 274 x 274 x 300 voxels that lies in the cache."""
    values = torch.randn(274, 274, 300, generator=torch.Generator().manual_seed(0)).mul(40).add(40).numpy()
    values[:20], values[-20:] = -1000, -1000
    print("\n| a region out of the cache | seconds |\n| --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "scan.nii.gz"
        nib.save(nib.Nifti1Image(values.astype("int16"), np.diag([1.5, 1.5, 1.5, 1])), file)
        scans, _ = open_scans([file], "ct", cache=Path(folder) / "cache")
        for side in (96, 128):
            places = [tuple(slice(a, a + side) for a in (40 + k, 50, 60 + k)) for k in range(3 * repeats)]
            times = [seconds(lambda place=place: scans.cut(0, place), "cpu") for place in places]
            print(f"| {side} x {side} x {side} | {median(times):.4f} |")


def _processor_time(work: Callable) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--counts", nargs=3, type=int, help="sub-volumes of the region; default 2 2 1, on a GPU 4 4 1")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--views-only", action="store_true")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", choices=["cpu", "cuda"])
    options = parser.parse_args()
    counts = options.counts or ([4, 4, 1] if options.device == "cuda" else [2, 2, 1])
    recipe = PretrainConfig.from_recipe("paper_ct", [f"views.counts={counts}"], loss="default")
    scan = smooth_scan(recipe)
    print(
        f"{machine(options.device)}; a region of {' x '.join(map(str, counts))} sub-volumes; {options.repeats} rounds"
    )

    parts_of_a_step(options.device, options.repeats)
    reading(options.repeats)
    forms = {
        "MONAI, crop by crop": lambda: crop_by_crop(scan.volume, recipe),
        "ours, planned and made": _views(recipe, scan, options.device),
        "of ours, the trilinear sampling": _sampling(recipe, scan, options.device),
    }
    show("views of a region", in_turns(forms, 3 * options.repeats, options.device), "MONAI, crop by crop")
    if options.views_only:
        return 0

    matches = _views(recipe, scan, options.device)().matches
    variants = {
        "ours": {},
        "ours, teacher without flash attention": {},
        "ours, bfloat16": {"precision": "bfloat16"},
    }
    steps = {"the published passes": _plain(recipe, scan, matches, options.device)}
    for name, fields in variants.items():
        steps[name] = _ours(PretrainConfig.from_dict({**recipe.as_dict(), **fields}), scan, options.device, name)
    show("a step", in_turns(steps, options.repeats, options.device), "the published passes")
    return 0


def _views(recipe: PretrainConfig, scan: Scan, device: str) -> Callable:
    """Every decision on a region and what is made of it, as one process does it for a step."""
    method, draws = recipe.build(), RegionDraws(recipe, [scan])
    return lambda: method.views(regions_of([draws[0]], device))


def _sampling(recipe: PretrainConfig, scan: Scan, device: str) -> Callable:
    """The region and its sub-volumes, each warped once by a matrix that is at hand."""
    views = _views(recipe, scan, device)()
    parts = split_region(views.source, recipe.encoder.sub_volume)
    own = random_affine(recipe.encoder.sub_volume, SPACING, 15, (0.9, 1.1), 8).to(device)
    return lambda: (warp(views.source, views.H), warp(parts, own))


def _plain(recipe: PretrainConfig, scan: Scan, matches: list[Matches], device: str) -> Callable:
    run = Pretraining(PretrainConfig.from_dict({**recipe.as_dict(), "gradient_checkpointing": None}), [scan], device)
    set_flash(run, False)
    return lambda: plain_step(run, scan.volume, matches)


def _ours(recipe: PretrainConfig, scan: Scan, device: str, name: str) -> Callable:
    at_a_time = None if device == "cuda" else 1  # a CPU's caches hold one
    run = Pretraining(
        PretrainConfig.from_dict({**recipe.as_dict(), "gradient_checkpointing": at_a_time}), [scan], device
    )
    set_flash(run, "without" not in name)
    return run.step


if __name__ == "__main__":
    sys.exit(main())
