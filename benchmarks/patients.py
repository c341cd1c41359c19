"""Two scans brought over each other by their tokens: seconds and memory, and SimpleITK's registration in the same run.

Matching is that of all tokens of two scans of 96^3 by the shipped encoder (24^3 tokens of 336 channels), in both
directions; then a generated body on another in the course's size, step by step, with what each gives in Dice.

    python benchmarks/patients.py [--rounds 5] [--quick]
"""

import argparse
import resource
import time
from collections.abc import Callable
from statistics import mean, median

import s2dc_core  # noqa: F401  before torch, as the command has it

import torch  # isort: skip

from s2dc_core.data import open_scan
from s2dc_core.evaluation import (
    Side,
    align_matches,
    bend,
    body_tokens,
    carry_labels,
    dice_by_label,
    encoded_by,
    match_tokens,
    register,
    token_sides,
)
from s2dc_core.evaluation.deformation import AGAIN, ROUNDS
from s2dc_core.library import open_weights


def timed(work: Callable, rounds: int = 1) -> tuple[object, float]:
    """What it gives, and the median of its seconds."""
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        given = work()
        seconds.append(time.perf_counter() - start)
    return given, median(seconds)


def peak_mb() -> float:
    """Most memory that this process has held so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def match_cubes(rounds: int) -> None:
    """All tokens of two scans of 96^3."""
    encode = encoded_by(open_weights("s2dc"))
    scans = [open_scan("phantom_ct", seed=seed, shape=(96, 96, 96)) for seed in (1000, 1001)]
    one, two = (encode(scan)[0] for scan in scans)
    _, seconds = timed(lambda: match_tokens(one, two), rounds)
    count, channels = one.features.shape[:3].numel(), one.features.shape[-1]
    print(f"two scans of 96^3, {count} x {count} tokens of {channels} channels, matched in both directions:")
    print(f"  {seconds:.2f} s (median of {rounds}), {torch.get_num_threads()} threads, {peak_mb():.0f} MB held")


def carry_over(shape: tuple[int, int, int]) -> None:
    """Labels of one generated body on another, in each way."""
    scans = [open_scan("phantom_ct", seed=seed, shape=shape) for seed in (1000, 1001)]
    encode = encoded_by(open_weights("s2dc"), like=scans[0])
    (one, two), seconds = timed(lambda: [Side.of(scan, encode) for scan in scans])
    masks = {"source_inside": one.body, "target_inside": two.body}
    rows = [("encode both", seconds, None)]
    matches, seconds = timed(lambda: match_tokens(one.tokens, two.tokens, **masks))
    rows.append((f"match {int(one.body.sum())} x {int(two.body.sum())} body tokens", seconds, None))
    affine, seconds = timed(lambda: align_matches(matches, token_sides(one.tokens)))
    rows.append(("affine by RANSAC", seconds, affine))
    moved = affine
    passes = {"deformation": ROUNDS, "second pass, finer grid": AGAIN}
    for (words, rounds), there, here in zip(passes.items(), one.finer, two.finer, strict=True):
        inside = {
            "source_inside": body_tokens(there, scans[0].foreground),
            "target_inside": body_tokens(here, scans[1].foreground),
        }
        moved, seconds = timed(lambda t=there, h=here, m=moved, i=inside | {"rounds": rounds}: bend(t, h, m, **i))
        rows.append((words, seconds, moved))
    for kind in ("affine", "bspline"):
        given, seconds = timed(lambda kind=kind: register(*scans, kind))
        rows.append((f"SimpleITK, {kind}", seconds, given))
    print(f"generated CT, {' x '.join(map(str, shape))} voxels; Dice in voxels, mean over organs:")
    for words, seconds, given in rows:
        print(f"  {words:40s}{seconds:7.2f} s{'' if given is None else f'{carried_dice(*scans, given):8.2f}'}")


def carried_dice(source, target, moved) -> float:
    """Mean Dice of the labels that an alignment carries."""
    carried = carry_labels(source.label, source.affine, target.raw.shape, target.affine, moved)
    return mean(dice_by_label(target.label.long(), carried).values())


def main() -> None:
    """Both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="small bodies, to see that it works")
    options = parser.parse_args()
    match_cubes(1 if options.quick else options.rounds)
    carry_over((96, 64, 96) if options.quick else (144, 96, 144))


if __name__ == "__main__":
    main()
