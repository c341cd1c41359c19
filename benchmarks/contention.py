"""A training step of `teaching`, alone and with a second and a third training of the same kind beside it.

OpenMP's threads wait for each other at the end of every loop that they share. That they spin for a while before they
sleep gains a little alone, and costs much where another process needs the core. Every training is a process of its
own; from when all are warm each takes steps until all have measured. Settings take turns in every round.

    python benchmarks/contention.py [--settings ours 5000] [--steps 6] [--rounds 3] [--processes 3] [--against FOLDER]
    python benchmarks/contention.py --settings ours --steps 2 --rounds 1    # to see that it works

A setting is a spin count, or `openmp` (its own), `passive` (none) or `ours`. FOLDER holds another s2dc_core, such as a
checkout of an earlier commit, which is measured as it is.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

from tqdm import tqdm

import s2dc_core  # before torch, as the command has it

ROOT = Path(__file__).resolve().parents[1]
USERS = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "OMP_NUM_THREADS", "KMP_BLOCKTIME")
"""What the terminal may have set, and the children must not see."""
NAMED = {
    "openmp": {"GOMP_SPINCOUNT": "300000", "KMP_BLOCKTIME": "200"},  # what GNU's, and LLVM's, have if nothing is set
    "passive": {"OMP_WAIT_POLICY": "PASSIVE"},
    "ours": {},
}
SETTINGS = ["openmp", "20000", "5000", "1000", "passive", "ours"]
WARM_UP = 2


class Trainings:
    """Processes that train at the same time, as a context; they are ended when it is left.

    Args:
        count: of processes.
        steps: that each is measured over.
        setting: environment variables.
        package: the folder that holds s2dc_core.
    """

    def __init__(self, count: int, steps: int, setting: Mapping[str, str], package: Path):
        kept = {name: value for name, value in os.environ.items() if name not in USERS}
        command = [sys.executable, str(Path(__file__).resolve()), "--child", str(steps)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        environment = {**kept, **setting, "PYTHONPATH": str(package)}
        self.package = package
        self.children = [subprocess.Popen(command, env=environment, **pipes) for _ in range(count)]

    def __enter__(self) -> "Trainings":
        return self

    def __exit__(self, *exception) -> None:
        for child in self.children:
            child.kill()
        for child in self.children:
            child.communicate()

    def seconds(self) -> tuple[float, str]:
        """Median seconds of a step in the slowest of them, from when all are warm, and what they ran on."""
        about = [_next_line(child) for child in self.children]
        if strangers := {found["package"] for found in about} - {str(self.package / "s2dc_core")}:
            sys.exit(f"a training imported {strangers}, not what {self.package} holds")
        for child in self.children:
            child.stdin.write("go\n")
            child.stdin.flush()
        return max(median(_next_line(child)["seconds"]) for child in self.children), about[0]["machine"]


def _next_line(child: subprocess.Popen) -> dict:
    for line in child.stdout:
        if line.startswith("{"):  # the rest is what a training says by itself
            return json.loads(line)
    sys.exit(f"a training failed with exit code {child.wait()}, see above")


def train(steps: int) -> None:
    """A training that says when it is warm, waits for a line, says what its next steps took, and goes on."""
    from child import machine

    from s2dc_core.data import open_scan
    from s2dc_core.pretraining import PretrainConfig, pretrain

    parent, times = os.getppid(), []

    def clock(_run) -> None:
        if os.getppid() != parent:  # it was ended, and cannot end this one
            sys.exit()
        times.append(time.perf_counter())
        if len(times) == WARM_UP + 1:
            about = {"package": str(Path(s2dc_core.__file__).parent), "machine": machine("cpu")}
            print(json.dumps(about), flush=True)
            sys.stdin.readline()
            times[-1] = time.perf_counter()
        if len(times) == WARM_UP + steps + 1:
            measured = times[WARM_UP:]
            print(json.dumps({"seconds": [b - a for a, b in zip(measured, measured[1:], strict=False)]}), flush=True)

    config = PretrainConfig.from_recipe("teaching", steps=1_000_000)
    pretrain(config, [open_scan("phantom_ct", shape=(96, 96, 96))], progress=False, device="cpu", on_step=clock)


def table(found: Mapping[str, Sequence[Sequence[float]]]) -> str:
    """Medians over the rounds, and how many times as long as alone each of several took.

    Args:
        found: by setting, and for each number of processes, the seconds of every round.
    """
    counts = range(1, 1 + len(next(iter(found.values()))))
    heads = ["alone, seconds", *(f"the slowest of {count}" for count in counts[1:])]
    lines = ["| setting | " + " | ".join(heads) + " |", "| --- " * (1 + len(heads)) + "|"]
    for name, (alone, *others) in found.items():
        ratios = [[b / a for a, b in zip(alone, each, strict=True)] for each in others]
        spread = [f"{median(each):.2f} times ({min(each):.2f} to {max(each):.2f})" for each in ratios]
        own = f"{median(alone):.3f} ({min(alone):.3f} to {max(alone):.3f})"
        lines.append("| " + " | ".join([name, own, *spread]) + " |")
    return "\n".join(lines)


def _setting(name: str) -> str:
    if name not in NAMED and not name.isdecimal():
        raise argparse.ArgumentTypeError(f"{name!r} is neither a spin count nor one of {', '.join(NAMED)}")
    return name


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--settings", nargs="+", type=_setting, default=SETTINGS, help=f"spin counts, {', '.join(NAMED)}"
    )
    parser.add_argument("--steps", type=int, default=6, help="that each training is measured over")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=3, help="at a time, at most")
    parser.add_argument("--against", type=Path, help="a folder with another s2dc_core")
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        train(options.child)
        return 0
    forms = {name: (NAMED.get(name, {"GOMP_SPINCOUNT": name}), ROOT) for name in options.settings}
    if options.against:
        forms[f"as it is in {options.against.name}"] = ({}, options.against.resolve())
    found = {name: [[] for _ in range(options.processes)] for name in forms}
    total = options.rounds * options.processes * len(forms)
    with tqdm(total=total, leave=False, disable=not sys.stderr.isatty()) as bar:
        for _ in range(options.rounds):
            for name, (setting, package) in forms.items():
                for count in range(1, options.processes + 1):
                    with Trainings(count, options.steps, setting, package) as trainings:
                        seconds, machine = trainings.seconds()
                    found[name][count - 1].append(seconds)
                    bar.update()
    print(f"{machine}; medians of {options.rounds} rounds of {options.steps} steps (least to most)\n")
    print(table(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
