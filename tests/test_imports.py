"""The method is read from top to bottom, and every room has its doors: who may import from whom."""

import ast
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

import s2dc_core
from s2dc_core import training

METHOD = ("options", "geometry", "matching", "losses", "encoder", "model", "views", "features", "plots")
"""In the order in which it is read; plots shows what all before it compute."""

APPENDIX = ("threads", "pointers", "statedicts", "intervals", "weights", "streaming", "official")
"""What the method calls from within a function, and a first reading leaves out. It may import from the method."""

DOORS = {
    "data": (),
    "training": ("data",),
    "methods": ("data", "training"),
    "pretraining": ("data", "training", "methods"),
    "library": ("training",),
    "downstream": ("data", "training", "library"),
    "evaluation": ("data",),
    "explorer": ("data", "evaluation", "library"),
    "exercises": (),
}
"""What each room may import from, beside the method, its appendix and itself."""

FREE = ("studies", "cli", "__main__")
"""What ties the rooms together; no other may import from it."""

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "s2dc_core"


def imports_of(source: str, package: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], bool]]:
    """What a file inside ``package`` imports from s2dc_core, as path components below it, and whether at its top.

    ``from s2dc_core.data import phantoms`` gives ("data", "phantoms"): a name may be a module, so it counts as one.
    """
    tree = ast.parse(source)
    within = {
        id(node) for function in ast.walk(tree) if isinstance(function, ast.FunctionDef) for node in ast.walk(function)
    }
    for node in ast.walk(tree):
        found = []
        if isinstance(node, ast.Import):
            found = [tuple(alias.name.split(".")) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            base += tuple(node.module.split(".")) if node.module else ()
            found = [(*base, alias.name) for alias in node.names]
        for module in found:
            if module[0] == "s2dc_core" and len(module) > 1:
                yield module[1:], id(node) not in within


def import_problems(path: Path, package: Path) -> list[str]:
    """Imports of one file of the package that go through no door."""
    place = path.relative_to(package).with_suffix("").parts
    top, problems = place[0], set()
    for module, at_top in imports_of(path.read_text(encoding="utf-8"), ("s2dc_core", *place[:-1])):
        target = module[0]
        if target == top and (package / top).is_dir():
            continue
        if any(part.startswith("_") and part != "__version__" for part in module):
            problems.add(f"{'.'.join(place)} imports {'.'.join(module)}, which is private")
        elif target == "__version__" or top in FREE:
            continue
        elif top in METHOD:
            later = target in METHOD and METHOD.index(target) >= METHOD.index(top)
            if later or target in (*DOORS, *FREE) or (target in APPENDIX and at_top and target not in APPENDIX[:4]):
                problems.add(f"{top} imports {target}, which is not read before it")
        elif top in APPENDIX:
            if target not in METHOD and target not in APPENDIX[: APPENDIX.index(top)]:
                problems.add(f"{top} imports {target}, which is not read before it")
        elif top == "__init__":
            if target != "threads":
                problems.add(f"__init__ imports {target}: whoever imports geometry would load it")
        elif target not in (*METHOD, *APPENDIX, *DOORS.get(top, ())):
            problems.add(f"{'.'.join(place)} imports {target}, to which {top} has no door")
    if top not in (*METHOD, *APPENDIX, *DOORS, *FREE, "__init__"):
        problems.add(f"{top} has no place in the house")
    return sorted(problems)


def write(package: Path, name: str, source: str) -> Path:
    path = package / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(source, encoding="utf-8")
    return path


def test_imports_go_through_doors():
    files = sorted(PACKAGE.rglob("*.py"))
    assert files
    assert [problem for path in files for problem in import_problems(path, PACKAGE)] == []


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("geometry.py", "from s2dc_core.matching import sinkhorn"),
        ("geometry.py", "from s2dc_core import losses"),
        ("geometry.py", "def f():\n    from .matching import sinkhorn"),
        ("losses.py", "import s2dc_core.model as m"),
        ("matching.py", "from s2dc_core.streaming import streamed_profiles"),
        ("plots.py", "from s2dc_core.data import phantom"),
        ("__init__.py", "from .training import Run"),
        ("data/loading.py", "from s2dc_core.training.loop import step"),
        ("data/loading.py", "from ..training import loop"),
        ("training/loop.py", "from s2dc_core.pretraining import pretrain"),
        ("training/loop.py", "def f():\n    from s2dc_core.methods import METHODS"),
        ("training/loop.py", "from s2dc_core.data import _cache"),
        ("methods/s2dc.py", "from s2dc_core.pretraining.run import Pretraining"),
        ("downstream/tasks.py", "from s2dc_core.pretraining import pretrain"),
        ("evaluation/probe.py", "from s2dc_core.downstream import Example"),
        ("library/arms.py", "from s2dc_core.pretraining import PretrainConfig"),
        ("explorer/maps.py", "from s2dc_core.training import Run"),
        ("pretraining/run.py", "from s2dc_core.studies import arms"),
        ("threads.py", "from s2dc_core.weights import load_encoder"),
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
        ("matching.py", "def f():\n    from s2dc_core.streaming import streamed_profiles"),
        ("streaming.py", "from s2dc_core.matching import MatchStatistics"),
        ("training/loop.py", "from s2dc_core.data import phantom\nfrom s2dc_core.losses import S2DCLoss"),
        ("training/loop.py", "from .schedule import cosine\nfrom s2dc_core.training.schedule import cosine"),
        ("pretraining/run.py", "from s2dc_core.training.run import Run\nfrom s2dc_core.methods import METHODS"),
        ("__init__.py", "from s2dc_core.threads import share_the_machine"),
        ("cli/pretrain.py", "from s2dc_core.training.loop import step\nfrom s2dc_core.studies import arms"),
    ],
)
def test_a_right_import_passes(tmp_path, name, source):
    write(tmp_path, "training/loop.py", "")
    assert import_problems(write(tmp_path, name, source), tmp_path) == []


def listed(text: str) -> list[tuple[str, str, str]]:
    """Names, what they hold and where the paper has it, of the tables of a text."""
    rows = [tuple(cell.strip(" `") for cell in line.split("|")[1:4]) for line in text.splitlines() if line[:2] == "| "]
    return [row for row in rows if row[0] not in ("file", "room", "---")]


def test_there_is_one_list_of_files():
    """What __init__ says each holds is what docs/core.md and the book say, of every file and room there is."""
    rows = listed(s2dc_core.__doc__)
    there = {path.name + "/" * path.is_dir() for path in PACKAGE.iterdir() if not path.name.startswith("_")}
    assert {name for name, _, _ in rows} == {name.removesuffix(".py") for name in there}
    assert [name.removesuffix("/") for name, _, _ in rows][: len(METHOD)] == list(METHOD)
    page, book = ((ROOT / name).read_text(encoding="utf-8") for name in ("docs/core.md", "book/api/index.md"))
    on_page, in_book = listed(page), listed(book.replace("{doc}", ""))
    assert [row for row in rows if row not in on_page] == []
    pages = {row[0]: row for row in in_book}
    for name, holds, paper in rows:
        if (page := pages.get(name.removesuffix("/"))) is not None:
            assert page == (name.removesuffix("/"), holds, paper)
    assert len(pages) > 20


@pytest.mark.parametrize(
    "name", ["pretrain", "PretrainConfig", "Monitor", "finetune", "open_weights", "scan_silhouettes", "mean_interval"]
)
def test_what_lay_in_training_before_there_were_rooms_is_found_there(name):
    rooms = ("pretraining", "downstream", "evaluation", "library", "intervals")
    homes = [room for room in map(import_module, (f"s2dc_core.{room}" for room in rooms)) if hasattr(room, name)]
    assert [getattr(training, name) is getattr(home, name) for home in homes] == [True]
    with pytest.raises(AttributeError, match="has no attribute 'pretrian'"):
        _ = training.pretrian
