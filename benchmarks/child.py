"""Time and memory of one function, in a process of its own, against a floor that takes turns with it."""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import NamedTuple

import psutil
import torch

GB = 1e9
SHARE_OF_FREE_MEMORY = 0.7


class Measured(NamedTuple):
    """Median seconds of the function and of its floor, and the most memory that the function added, in GB."""

    seconds: float
    floor: float
    memory: float

    @property
    def ratio(self) -> float:
        return self.seconds / self.floor


def measure(function: Callable, floor: Callable, repeats: int, device: str) -> Measured:
    """One run alone for memory, which also warms up, then function and floor in turns."""
    memory = _added_memory(function, device)
    seconds(floor, device)
    times = [(seconds(function, device), seconds(floor, device)) for _ in range(repeats)]
    return Measured(*(median(column) for column in zip(*times, strict=True)), memory)


def in_child(script: str, *arguments: object) -> Measured:
    """Run ``script --child arguments`` and read what it prints last: its Measured as JSON."""
    command = [sys.executable, str(Path(script).resolve()), "--child", *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, arguments))} failed with exit code {done.returncode}, see above")
    return Measured(**json.loads(done.stdout.splitlines()[-1]))


def table(
    script: str,
    about: str,
    forms: Mapping[str, float],
    sizes: Mapping[str, Sequence[int]],
    child: Callable[[str, int, int, int, str], Measured],
    floor: str,
) -> int:
    """A benchmark's command: one row per number of tokens, one cell per form, each measured in a child of its own.

    Args:
        script: the file of the benchmark, which the children run.
        about: its docstring.
        forms: name to a guess of the N x N matrices that it holds; 0 for one whose memory grows with N.
        sizes: device to numbers of tokens.
        child: measures (form, tokens, width, repeats, device).
        floor: title of the column with the seconds that the others are multiples of.
    """
    parser = argparse.ArgumentParser(description=about.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", type=int, help="numbers of tokens N")
    parser.add_argument("--width", type=int, default=512, help="of a token")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", choices=["cpu", "cuda"])
    parser.add_argument("--child", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        form, *numbers, device = options.child
        print(json.dumps(child(form, *map(int, numbers), device)._asdict()))
        return 0
    print(f"{machine(options.device)}; width {options.width}; medians of {options.repeats}\n")
    print(f"| N | {floor} | " + " | ".join(forms) + " |\n" + "| --- " * (2 + len(forms)) + "|", flush=True)
    before: dict[str, tuple[int, float]] = {}
    for tokens in options.sizes or sizes[options.device]:
        cells, floors = [], []
        for form, guess in forms.items():
            size, memory = before.get(form, (tokens, guess * 4 * tokens**2 / GB))
            needed = memory * (tokens / size) ** (2 if guess else 1)
            before[form] = (tokens, needed)
            if needed > SHARE_OF_FREE_MEMORY * free_memory(options.device):
                cells.append(f"does not fit ({needed:.0f} GB)")
                continue
            found = in_child(script, form, tokens, options.width, options.repeats, options.device)
            before[form] = (tokens, found.memory)
            floors.append(found.floor)
            cells.append(f"{found.ratio:.3g} x, {found.memory:.2g} GB")
        print(f"| {tokens:,} | {median(floors):.3g} s | " + " | ".join(cells) + " |", flush=True)
    return 0


def free_memory(device: str) -> float:
    """GB that are free on the device."""
    if device == "cuda":
        return torch.cuda.mem_get_info()[0] / GB
    return psutil.virtual_memory().available / GB


def machine(device: str) -> str:
    """What the numbers were taken on."""
    name = torch.cuda.get_device_name() if device == "cuda" else f"{_processor()}, {torch.get_num_threads()} threads"
    return f"{name}; torch {torch.__version__}; {time.strftime('%Y-%m-%d')}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return "CPU"


def seconds(function: Callable, device: str) -> float:
    """Of one call."""
    _wait(device)
    start = time.perf_counter()
    function()
    _wait(device)
    return time.perf_counter() - start


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def _added_memory(function: Callable, device: str) -> float:
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        function()
        return (torch.cuda.max_memory_allocated() - before) / GB
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # forgets the peak of what came before
    before = psutil.Process().memory_info().rss
    function()
    return max(_peak() - before, 0) / GB


def _peak() -> int:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
