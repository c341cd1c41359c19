"""The core is read from top to bottom: a file imports only from files above it, and it stays short."""

import ast
import io
import tokenize
from pathlib import Path

import pytest

CORE = (
    *("options", "geometry", "streaming", "matching", "losses", "encoder"),
    *("pointers", "statedicts", "weights", "model", "views", "features", "plots"),
)
WINGS = ("data", "training", "explorer", "exercises")
FREE = ("__init__", "__main__", "cli")
"""Files that tie the others together. __init__ is held to the core: importing geometry must not load a wing."""

BENEATH = ("threads",)
"""What __init__ needs before anything else is loaded; it imports nothing of the package."""

PACKAGE = Path(__file__).resolve().parents[1] / "s2dc_core"
LONGEST = 1350


def imported_modules(source: str, package: tuple[str, ...]) -> set[tuple[str, ...]]:
    """What a file inside ``package`` imports from s2dc_core, as path components below s2dc_core.

    ``from s2dc_core.data import phantoms`` gives ("data", "phantoms"): a name may be a module, so it counts as one.
    """
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {tuple(alias.name.split(".")) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            base += tuple(node.module.split(".")) if node.module else ()
            found |= {(*base, alias.name) for alias in node.names}
    return {module[1:] for module in found if module[0] == "s2dc_core" and len(module) > 1}


def is_inside(module: tuple[str, ...], package: Path) -> bool:
    """Whether an import goes past the public face of a wing: to a module in it, or to a private name."""
    within = module[1:]
    if not within:
        return False
    file = package.joinpath(*module[:2])
    return len(within) > 1 or within[0].startswith("_") or file.is_dir() or file.with_suffix(".py").exists()


def import_problems(path: Path, package: Path) -> list[str]:
    """Imports of one file of the package that do not run upward."""
    place = path.relative_to(package).with_suffix("").parts
    home = ("s2dc_core", *place[:-1])
    top, problems = place[0], []
    for module in sorted(imported_modules(path.read_text(encoding="utf-8"), home)):
        target = module[0]
        if target == top and (package / top).is_dir():
            continue
        if top in BENEATH:
            problems.append(f"{top} imports {target}, and it lies beneath all")
        elif top in CORE and target in CORE and CORE.index(target) >= CORE.index(top):
            problems.append(f"{top} imports {target}, which is not above it")
        elif top in (*CORE, "__init__") and target in (*WINGS, *FREE[1:]):
            problems.append(f"{top} imports {target}, which is beside the core")
        elif top in WINGS and target in WINGS and target != top and is_inside(module, package):
            problems.append(f"{'.'.join(place)} imports {'.'.join(module)}, the inside of another wing")
    if top not in (*CORE, *WINGS, *FREE, *BENEATH):
        problems.append(f"{top} has no place in the reading order")
    return problems


def write(package: Path, name: str, source: str) -> Path:
    path = package / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(source)
    return path


def test_imports_run_upward():
    files = sorted(PACKAGE.rglob("*.py"))
    assert files
    assert [problem for path in files for problem in import_problems(path, PACKAGE)] == []


def code_lines(source: str) -> int:
    """Lines that hold code: blank lines, comments and docstrings are there to be read, not to be understood."""
    aside = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    held = {line for t in tokens if t.type not in aside for line in range(t.start[0], t.end[0] + 1)}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            held -= set(range(node.lineno, node.end_lineno + 1))
    return len(held)


def test_the_papers_part_can_be_read_in_an_afternoon():
    """The method, from geometry to features; no part of it are figures, other projects' files and refused options."""
    method = [name for name in CORE if name not in ("options", "pointers", "statedicts", "weights", "plots")]
    lines = {name: code_lines((PACKAGE / f"{name}.py").read_text(encoding="utf-8")) for name in method}
    assert sum(lines.values()) < LONGEST, lines


def test_code_lines_leave_out_what_explains():
    assert code_lines('"""One.\n\nTwo."""\n\n# three\nx = (\n    4,\n)\n') == 3


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("geometry.py", "from s2dc_core.matching import sinkhorn"),
        ("geometry.py", "from s2dc_core import losses"),
        ("geometry.py", "def f():\n    from .matching import sinkhorn"),
        ("losses.py", "import s2dc_core.model as m"),
        ("plots.py", "from s2dc_core.data import phantom"),
        ("__init__.py", "from .training import pretrain"),
        ("data/loading.py", "from s2dc_core.training.loop import step"),
        ("data/loading.py", "from ..training import loop"),
        ("training/loop.py", "from s2dc_core.data import _cache"),
        ("threads.py", "from s2dc_core.geometry import warp"),
        ("helpers.py", ""),
    ],
)
def test_a_wrong_import_is_noticed(tmp_path, name, source):
    write(tmp_path, "training/loop.py", "")
    path = write(tmp_path, name, source)
    assert len(import_problems(path, tmp_path)) == 1


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("losses.py", "from s2dc_core.matching import MatchStatistics\nfrom .geometry import Matches"),
        ("training/loop.py", "from s2dc_core.data import phantom\nfrom s2dc_core.losses import S2DCLoss"),
        ("training/loop.py", "from .schedule import cosine\nfrom s2dc_core.training.schedule import cosine"),
        ("explorer.py", "import torch\nfrom s2dc_core import plots"),
        ("__init__.py", "from s2dc_core.threads import share_the_machine"),
        ("cli.py", "from s2dc_core.training.loop import step\nfrom s2dc_core.data import phantom"),
    ],
)
def test_a_right_import_passes(tmp_path, name, source):
    assert import_problems(write(tmp_path, name, source), tmp_path) == []
