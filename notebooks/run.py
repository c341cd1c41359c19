"""Runs the notebooks headless and says what each of them cost.

    python notebooks/run.py                              # all notebooks, profile "teaching"
    python notebooks/run.py --profile ci --only 01 03    # two of them, in seconds
    python notebooks/run.py --only 02 -p iterations 50   # one parameter changed
    python notebooks/run.py --jobs 2                     # two at a time, each with half of the cores
    python notebooks/run.py --solved --out outputs/solved  # the exercises' solutions in place of their stubs

A profile is a file profiles/NAME.yaml of parameters and budgets. A notebook that it does not name runs with
the defaults that the notebook itself declares. The executed notebooks, an HTML page of each, the traceback of
those that failed and report.json are left in the output folder.
"""

import argparse
import ast
import json
import os
import re
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from itertools import repeat
from math import ceil
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import nbformat
import papermill
import psutil
import yaml
from joblib import cpu_count
from nbconvert import HTMLExporter
from papermill.exceptions import PapermillExecutionError
from traitlets.config import Config

from s2dc_core.exercises import with_solutions

HERE = Path(__file__).resolve().parent
ALT_TEXTS = """{%- extends 'lab/index.html.j2' -%}
{%- block data_png scoped -%}
{{ super() | replace('<img ', '<img alt="' ~ (output | get_metadata('alt', 'image/png') | escape_html) ~ '" ', 1) }}
{%- endblock data_png -%}"""
"""The page's template: a picture's alternative text is the one of its output, which nbconvert leaves out."""

PATIENCE = 10
"""A notebook over its time budget is slow; one that takes this many times its budget has failed."""


class UsageError(Exception):
    """What was asked for cannot be run. Raised before anything runs."""


@dataclass
class Result:
    """What one run of a notebook cost and what was wrong with it. Memory in GB of 10^9 bytes."""

    name: str
    parameters: dict[str, Any]
    minutes: float
    minutes_budget: float | None
    peak_gb: float
    memory_budget_gb: float | None
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def verdict(self) -> str:
        """FAILED, slow or ok."""
        return "FAILED" if self.problems else "slow" if self.warnings else "ok"

    def compare_with_budgets(self) -> None:
        """Add a problem or a warning for each budget that the run went over."""
        if self.memory_budget_gb is not None and self.peak_gb > self.memory_budget_gb:
            self.problems.append(f"{self.peak_gb:.2f} GB, over its budget of {self.memory_budget_gb:g} GB")
        if self.minutes_budget is not None and self.minutes > self.minutes_budget:
            message = f"{self.minutes:.2f} minutes, over its budget of {self.minutes_budget:g} minutes"
            hopeless = self.minutes > PATIENCE * self.minutes_budget
            (self.problems if hopeless else self.warnings).append(message)


class PeakMemory(threading.Thread):
    """Largest resident memory of the processes that started while it was open, their children included."""

    def __init__(self, interval: float = 0.1):
        super().__init__(daemon=True)
        self.process = psutil.Process()
        self.before = set(self.process.children(recursive=True))
        self.interval, self.closed, self.gigabytes = interval, threading.Event(), 0.0

    def run(self):
        while not self.closed.wait(self.interval):
            started = set(self.process.children(recursive=True)) - self.before
            self.gigabytes = max(self.gigabytes, sum(map(self._resident, started)) / 1e9)

    @staticmethod
    def _resident(process: psutil.Process) -> int:
        try:
            return process.memory_info().rss
        except psutil.Error:  # it ended between the listing and the question
            return 0

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *exception):
        self.closed.set()
        self.join()


def find_notebooks(folder: Path, only: list[str] | None = None) -> dict[str, Path]:
    """The notebooks of a folder by name, in order; or those whose names start with one of ``only``."""
    found = {path.stem: path for path in sorted(folder.glob("*.ipynb"))}
    if not found:
        raise UsageError(f"there is no notebook in {folder}")
    for prefix in only or []:
        if not any(name.startswith(prefix) for name in found):
            raise UsageError(f"no notebook is called {prefix}; there are {', '.join(found)}")
    return {name: path for name, path in found.items() if not only or name.startswith(tuple(only))}


def refuse_unknown_parameters(path: Path, parameters: dict[str, Any]) -> None:
    """Raise for a parameter that the cell tagged ``parameters`` does not assign (papermill would only warn)."""
    cells = nbformat.read(path, as_version=4).cells
    source = "\n".join(cell.source for cell in cells if "parameters" in cell.metadata.get("tags", []))
    names = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name))
    declared = {name.id for name in names if isinstance(name.ctx, ast.Store)}
    if unknown := sorted(set(parameters) - declared):
        known = ", ".join(sorted(declared)) or "none"
        raise UsageError(f"{path.stem} has no parameter {', '.join(unknown)}; it declares {known}")


def as_seen_from_here(value: Any) -> Any:
    """Paths of files, and of folders written with a slash, made absolute: a notebook runs in its own folder.

    Lists entry by entry; anything else as it is. Without its slash a folder could be a word, such as a recipe's name.
    """
    if isinstance(value, list):
        return [as_seen_from_here(entry) for entry in value]
    if isinstance(value, str) and value:
        path = Path(value).expanduser()
        if path.is_file() or ("/" in value and path.is_dir()):
            return str(path.resolve())
    return value


def load_profile(name: str, folder: Path) -> dict[str, dict[str, Any]]:
    """Read profiles/NAME.yaml: for each notebook its parameters and budgets, and nothing else."""
    path = folder / "profiles" / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in path.parent.glob("*.yaml"))) or "none"
        raise UsageError(f"there is no profile {name}; there are {known}")
    try:
        profile = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise UsageError(f"{path.name} is not valid YAML: {error}") from error
    entries = profile.get("notebooks") if isinstance(profile, dict) and len(profile) == 1 else None
    if not isinstance(entries, dict):
        raise UsageError(f"{path.name} must hold one mapping, called notebooks ({{}} for none)")
    for notebook, entry in entries.items():
        known = {"parameters": dict, "minutes": int | float, "memory_gb": int | float}
        for key, value in entry.items() if isinstance(entry, dict) else [(entry, None)]:
            if key not in known or not isinstance(value, known[key]):
                expected = "parameters (a mapping), minutes and memory_gb (numbers)"
                raise UsageError(f"{path.name}, {notebook}: cannot use {key}: {value}; it takes {expected}")
    return entries


def plan(folder: Path, profile: str, only: list[str] | None, overrides: dict) -> list[tuple[Path, dict]]:
    """Each notebook to run with its entry of the profile. Whatever is wrong is found here, before any runs."""
    known, entries = find_notebooks(folder), load_profile(profile, folder)
    for name, entry in entries.items():
        if name not in known:
            raise UsageError(f"profile {profile} names {name}; there are {', '.join(known)}")
        refuse_unknown_parameters(known[name], entry.get("parameters", {}))
    jobs = []
    for name, path in find_notebooks(folder, only).items():
        refuse_unknown_parameters(path, overrides)
        entry = entries.get(name, {})
        jobs.append((path, {**entry, "parameters": {**entry.get("parameters", {}), **overrides}}))
    return jobs


def execution_problems(notebook: nbformat.NotebookNode) -> list[str]:
    """What shows that a notebook did not really run: each code cell must have, in order, without an error."""
    problems = []
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for number, cell in enumerate(code, start=1):
        if cell.execution_count != number:
            problems.append(f"code cell {number} was skipped or out of order (count {cell.execution_count})")
        elif not (cell.metadata.get("papermill", {}).get("duration") or 0) > 0:
            problems.append(f"code cell {number} took no time, so it did not run")
        if any(output.output_type == "error" for output in cell.outputs):
            problems.append(f"code cell {number} ended with an error")
    return problems if code else ["it has no code cell"]


def execute(path: Path, target: Path, parameters: dict, timeout: int | None, folder: Path) -> tuple[str, str] | None:
    """Run a notebook in a folder; None, or what went wrong in one line and in full."""
    # Without it, a kernel called python3 in the user's home can hide the one of this interpreter.
    os.environ["JUPYTER_PREFER_ENV_PATH"] = "1"
    encrypted = Config({"KernelManager": {"transport_encryption": "auto"}})  # other users may share the machine
    settings = {"kernel_name": "python3", "cwd": folder, "execution_timeout": timeout, "config": encrypted}
    bar = {"desc": target.stem, "disable": None}  # None: only where a person watches
    try:
        papermill.execute_notebook(path, target, parameters, progress_bar=bar, **settings)
    except PapermillExecutionError as error:
        return f"In [{error.exec_count}] raised {error.ename}: {error.evalue}".splitlines()[0], str(error)
    except Exception as error:  # a kernel that died or hung: the other notebooks still run
        message = (str(error).strip() or "no message").splitlines()[0]
        return f"{type(error).__name__}: {message}", traceback.format_exc()
    return None


def solve(path: Path, folder: Path) -> Path:
    """A copy of a notebook, in another folder, whose exercises are solved."""
    notebook = nbformat.read(path, as_version=4)
    nbformat.write(nbformat.from_dict(with_solutions(notebook)), folder / f"solved_{path.name}")
    return folder / f"solved_{path.name}"


def describe_pictures(notebook: nbformat.NotebookNode) -> None:
    """A picture that does not say what it shows, as those of `plots` do, gets its number and the heading above it."""
    heading, number = "the first heading", 0
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            heading = next((line for line in reversed(cell.source.splitlines()) if line.startswith("#")), heading)
        for output in cell.get("outputs", []):
            for kind in filter(re.compile("image/").match, output.get("data", {})):
                number += 1
                words = f"Picture {number}, below: {heading.lstrip('# ')}"
                output.metadata.setdefault(kind, {}).setdefault("alt", words)


def publish(executed: Path, out_dir: Path) -> nbformat.NotebookNode:
    """Move an executed notebook and its HTML page into the output folder, over those of an earlier run."""
    notebook = nbformat.read(executed, as_version=4)
    notebook.metadata.papermill.update(input_path=executed.name, output_path=executed.name)
    describe_pictures(notebook)
    nbformat.write(notebook, executed)
    html, _ = HTMLExporter(raw_template=ALT_TEXTS).from_notebook_node(notebook, {"metadata": {"name": executed.stem}})
    page = executed.with_suffix(".html")
    page.write_text(html, encoding="utf-8")
    for file in (executed, page):
        os.replace(file, out_dir / file.name)
    return notebook


def run_notebook(
    path: Path,
    out_dir: Path,
    parameters: dict[str, Any] | None = None,
    minutes: float | None = None,
    memory_gb: float | None = None,
    solved: bool = False,
) -> Result:
    """Run one notebook and judge the run.

    Args:
        path: the notebook; its folder is the working directory of the run.
        out_dir: where NAME.ipynb and NAME.html go, and NAME.error.txt if it failed while running.
        parameters: values that replace the declared defaults.
        minutes: time budget.
        memory_gb: memory budget of the kernel and all its children together.
        solved: with the solutions of its exercises in place of the stubs.

    Raises:
        UsageError: if the notebook does not declare one of the parameters.
    """
    path, out_dir, parameters = Path(path).resolve(), Path(out_dir).resolve(), parameters or {}
    refuse_unknown_parameters(path, parameters)
    out_dir.mkdir(parents=True, exist_ok=True)
    error_file = out_dir / f"{path.stem}.error.txt"
    timeout = None if minutes is None else ceil(PATIENCE * minutes * 60)
    with tempfile.TemporaryDirectory(dir=out_dir, prefix=".running-") as scratch:
        executed, started = Path(scratch) / path.name, time.perf_counter()
        source = solve(path, Path(scratch)) if solved else path
        with PeakMemory() as memory:
            error = execute(source, executed, parameters, timeout, path.parent)
        taken = (time.perf_counter() - started) / 60
        notebook = publish(executed, out_dir) if executed.exists() else None
    error_file.unlink(missing_ok=True)
    if error:
        error_file.write_text(error[1], encoding="utf-8")
    problems = [error[0]] if error else execution_problems(notebook)
    result = Result(path.stem, parameters, taken, minutes, memory.gigabytes, memory_gb, problems)
    result.compare_with_budgets()
    return result


def table(results: list[Result], minutes: float) -> str:
    """Minutes, peak memory, budgets and verdict of each notebook, then what was wrong; `minutes` is what all took."""

    def row(name: str, *numbers: float | str | None) -> str:
        cells = (f"{n:.2f}" if isinstance(n, int | float) else n or "-" for n in numbers)
        return f"{name:<{width}}" + "".join(f"{cell:>9}" for cell in cells)

    width = max(len(result.name) for result in results)
    lines = [row("notebook", "minutes", "budget", "peak GB", "budget") + "  verdict"]
    for r in results:
        numbers = (r.minutes, r.minutes_budget, r.peak_gb, r.memory_budget_gb)
        lines.append(f"{row(r.name, *numbers)}  {r.verdict}")
    lines.append(row("all", minutes, " ", max(r.peak_gb for r in results)))
    return "\n".join(lines + [f"{r.name}: {line}" for r in results for line in r.problems + r.warnings])


def write_report(results: list[Result], profile: str, out_dir: Path) -> None:
    """The table as JSON, replaced whole after each notebook."""
    notebooks = [{**asdict(result), "verdict": result.verdict} for result in results]
    report = {"profile": profile, "python": sys.version.split()[0], "notebooks": notebooks}
    partial = out_dir / ".report.json"
    partial.write_text(json.dumps(report, indent=2, default=str) + "\n", encoding="utf-8")
    os.replace(partial, out_dir / "report.json")


def that_fit(wanted: int, entries: list[dict]) -> int:
    """How many notebooks may run at a time: those wanted, as far as free memory holds them by their budgets."""
    largest = max((entry.get("memory_gb", 0) for entry in entries), default=0)
    fitting = int(psutil.virtual_memory().available / 1e9 // largest) if largest else wanted
    return max(1, min(wanted, fitting, len(entries)))


def run_all(jobs: list[tuple[Path, dict]], at_a_time: int, out_dir: Path, solved: bool) -> Iterator[Result]:
    """Run each notebook with its entry, in the order of the jobs; side by side each may take as many times as long."""
    if at_a_time > 1:
        jobs = [
            (path, {**each, "minutes": at_a_time * each["minutes"]} if "minutes" in each else each)
            for path, each in jobs
        ]
    titles = [f"[{number}/{len(jobs)}] {path.stem}" for number, (path, _) in enumerate(jobs, start=1)]
    work = (titles, *zip(*jobs, strict=True), repeat(out_dir), repeat(solved))
    if at_a_time == 1:
        yield from map(_run, *work)
        return
    # A process each: of threads, each would count the other's kernel as its own memory.
    with ProcessPoolExecutor(at_a_time, get_context("spawn"), _take_share, (at_a_time,)) as pool:
        yield from pool.map(_run, *work)


def _run(title: str, path: Path, entry: dict, out_dir: Path, solved: bool) -> Result:
    print(title, flush=True)
    return run_notebook(path, out_dir, solved=solved, **entry)


def _take_share(of: int) -> None:
    os.environ["LOKY_MAX_CPU_COUNT"] = str(max(1, cpu_count() // of))  # s2dc_core.threads asks it in the kernel


def main(arguments: list[str] | None = None, folder: Path = HERE) -> int:
    """Command line; 0 if every notebook ran within its limits, 1 if one failed, 2 if none could be run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--profile", default="teaching", help="a file of notebooks/profiles (teaching)")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="notebooks by name or number, such as 01")
    parser.add_argument("--out", type=Path, default=HERE.parent / "outputs", help="output folder (outputs)")
    parser.add_argument("--solved", action="store_true", help="with the exercises' solutions in place of their stubs")
    parser.add_argument("--jobs", type=int, default=1, help="notebooks at a time, fewer if memory is short (1)")
    parser.add_argument("-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"))
    options = parser.parse_args(arguments)
    try:
        overrides = {name: as_seen_from_here(yaml.safe_load(value)) for name, value in options.p}
        jobs = plan(folder, options.profile, options.only, overrides)
        if options.jobs < 1:
            raise UsageError(f"--jobs must be at least 1, not {options.jobs}")
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    at_a_time, results, started = that_fit(options.jobs, [entry for _, entry in jobs]), [], time.perf_counter()
    if at_a_time < min(options.jobs, len(jobs)):
        print(f"{at_a_time} at a time: free memory does not hold {options.jobs} by their budgets")
    for result in run_all(jobs, at_a_time, options.out, options.solved):
        results.append(result)
        write_report(results, options.profile, options.out)
    minutes = (time.perf_counter() - started) / 60
    print(f"\n{table(results, minutes)}\n\nThe executed notebooks and their HTML pages are in {options.out}")
    return 1 if any(result.problems for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
