"""The runner, on small notebooks each broken in one way."""

import json
import os
import subprocess
import sys
import time
from types import SimpleNamespace

import nbformat
import pytest
from bs4 import BeautifulSoup
from joblib import cpu_count
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from notebooks.run import (
    HERE,
    PeakMemory,
    Result,
    UsageError,
    as_seen_from_here,
    execution_problems,
    main,
    plan,
    run_notebook,
    that_fit,
)
from s2dc_core.exercises import cells_of
from s2dc_core.threads import SPINS

KERNEL = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
PARAMETERS = "side = 4\nname: str = 'a=b'\nscan = None  # a file of yours"
kernel = pytest.mark.notebook


def write_notebook(folder, *sources, name="00_trial", tag=None):
    """A notebook of a title, the parameters and the given code cells; ``tag`` goes on the last of them."""
    cells = [new_code_cell(source) for source in (PARAMETERS, *sources)]
    cells[0].metadata["tags"] = ["parameters"]
    if tag:
        cells[-1].metadata["tags"] = [tag]
    path = folder / f"{name}.ipynb"
    nbformat.write(new_notebook(cells=[new_markdown_cell("# Trial"), *cells], metadata=KERNEL), path)
    return path


def write_profile(folder, text, name="teaching"):
    path = folder / "profiles" / f"{name}.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)


def names(folder):
    return sorted(file.name for file in folder.iterdir())


def test_paths_are_seen_from_where_the_command_was_given(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "one.nii").write_text("x")
    (tmp_path / "run" / "step_0000100").mkdir(parents=True)
    (tmp_path / "gpu").mkdir()
    here = str(tmp_path.resolve())
    assert as_seen_from_here(["one.nii", "two.nii", 3]) == [f"{here}/one.nii", "two.nii", 3]
    assert as_seen_from_here("run/step_0000100") == f"{here}/run/step_0000100"
    assert as_seen_from_here("gpu") == "gpu"  # a recipe, though a folder has that name


@kernel
def test_a_good_notebook_passes(tmp_path):
    """Parameters arrive, the notebook's folder is its working directory, and its kernel is this interpreter's."""
    here = f"import os, sys\nassert os.getcwd() == {str(tmp_path)!r}\nassert sys.prefix == {sys.prefix!r}"
    path = write_notebook(tmp_path, here, "assert scan is None\nprint('the side is', side)")
    out = tmp_path / "out"
    result = run_notebook(path, out, {"side": 7}, minutes=5, memory_gb=4)
    assert (result.verdict, result.problems, result.warnings) == ("ok", [], [])
    assert 0 < result.minutes < 5 and 0.01 < result.peak_gb < 1
    assert names(out) == ["00_trial.html", "00_trial.ipynb"]
    assert "the side is 7" in (out / "00_trial.html").read_text()
    assert str(tmp_path) not in nbformat.read(out / "00_trial.ipynb", 4).metadata.papermill.output_path


DRAWS = """from s2dc_core import plots
with plots.figure_grid(1, 2) as (figure, axes):
    axes[0, 0].plot([0, 1], label='raw')
    axes[0, 0].set(title='Dice of $L_{p2p}$', xlabel='bodies', ylabel='Dice')
    axes[0, 0].legend()
    figure.suptitle('Half a \"scan\" & more')
figure"""
BARE = "import matplotlib.pyplot as plt\nfigure, axes = plt.subplots()\nplt.close(figure)\nfigure"


@kernel
def test_every_picture_has_an_alternative_text_of_its_own(tmp_path):
    """In the notebook and in its page; also one that was not drawn by the course."""
    again = DRAWS.replace("Half a", "Another").replace("\nfigure", "\ndisplay(figure)")
    path = write_notebook(tmp_path, "from IPython.display import display", DRAWS, again, BARE)
    out = tmp_path / "out"
    assert run_notebook(path, out).problems == []
    outputs = [output for cell in nbformat.read(out / "00_trial.ipynb", 4).cells for output in cell.get("outputs", [])]
    texts = [output.metadata["image/png"]["alt"] for output in outputs if "image/png" in output.data]
    first = 'Half a "scan" & more. Dice of L_p2p (Dice against bodies). Legend: raw.'
    assert texts == [first, first.replace("Half a", "Another"), "Picture 3, below: Trial"]
    page = (out / "00_trial.html").read_text(encoding="utf-8")
    assert [tag["alt"] for tag in BeautifulSoup(page, "html.parser").find_all("img")] == texts
    assert "No description has been provided" not in page


@kernel
def test_another_kernel_called_python3_is_not_used(tmp_path, monkeypatch):
    spec = tmp_path / "share" / "kernels" / "python3" / "kernel.json"
    spec.parent.mkdir(parents=True)
    spec.write_text(json.dumps({"argv": ["false"], "display_name": "Other", "language": "python"}))
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "share"))
    monkeypatch.setenv("JUPYTER_PREFER_ENV_PATH", "0")
    assert run_notebook(write_notebook(tmp_path, "1 + 1"), tmp_path / "out").problems == []


@kernel
def test_threads_of_a_kernel_soon_sleep(tmp_path):
    """Although its notebook, unlike the course's, loads torch first; started from an environment that says nothing."""
    path = write_notebook(tmp_path, f"import os\nassert os.environ['GOMP_SPINCOUNT'] == {SPINS!r}, os.environ")
    started = "import sys\nfrom notebooks.run import run_notebook\nprint(run_notebook(*sys.argv[1:]).problems)"
    hidden = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
    clean = {name: value for name, value in os.environ.items() if name not in hidden}
    command = [sys.executable, "-c", started, path, tmp_path / "out"]
    done = subprocess.run(command, cwd=HERE.parent, env=clean, capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr


@kernel
def test_a_notebook_that_raises_fails_and_leaves_what_it_did(tmp_path):
    path = write_notebook(tmp_path, "print('before')", "1 / 0", "print('after')")
    result = run_notebook(path, tmp_path / "out")
    assert result.verdict == "FAILED"
    assert result.problems == ["In [3] raised ZeroDivisionError: division by zero"]
    assert "1 / 0" in (tmp_path / "out" / "00_trial.error.txt").read_text()
    page = (tmp_path / "out" / "00_trial.html").read_text()
    assert "before" in page and "ZeroDivisionError" in page

    write_notebook(tmp_path, "print('mended')")
    assert run_notebook(path, tmp_path / "out").problems == []
    assert names(tmp_path / "out") == ["00_trial.html", "00_trial.ipynb"]
    assert "mended" in (tmp_path / "out" / "00_trial.html").read_text()


@kernel
@pytest.mark.parametrize(
    ("sources", "tag"),
    [
        (["import sys\nsys.exit(0)", "assert False"], None),  # papermill takes this for a good end
        (["assert False"], "skip-execution"),
        (["  "], None),
    ],
)
def test_a_skipped_cell_fails(tmp_path, sources, tag):
    result = run_notebook(write_notebook(tmp_path, *sources, tag=tag), tmp_path / "out")
    assert result.verdict == "FAILED"
    assert any("was skipped" in problem for problem in result.problems)


@kernel
def test_an_error_that_is_allowed_by_a_tag_fails(tmp_path):
    path = write_notebook(tmp_path, "raise ValueError('no')", tag="raises-exception")
    assert "ValueError" in run_notebook(path, tmp_path / "out").problems[0]


@kernel
def test_a_kernel_that_dies_fails_and_leaves_what_it_did(tmp_path):
    path = write_notebook(tmp_path, "print('before')", "import os\nos._exit(9)")
    result = run_notebook(path, tmp_path / "out")
    assert "DeadKernelError" in result.problems[0]
    assert names(tmp_path / "out") == ["00_trial.error.txt", "00_trial.html", "00_trial.ipynb"]


@kernel
def test_memory_of_kernel_and_children_counts(tmp_path):
    child = "import subprocess, sys\ncode = 'import time; block = b\"1\" * 300_000_000; time.sleep(1)'"
    path = write_notebook(tmp_path, child, "subprocess.run([sys.executable, '-c', code], check=True)")
    result = run_notebook(path, tmp_path / "out", memory_gb=0.3)
    assert result.verdict == "FAILED"
    assert "over its budget of 0.3 GB" in result.problems[0]
    assert result.peak_gb < 1


def test_memory_of_processes_that_were_there_before_does_not_count():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE):
        with PeakMemory(interval=0.01) as memory:
            time.sleep(0.3)
        assert memory.gigabytes == 0


@kernel
def test_a_notebook_that_hangs_is_ended_at_ten_times_its_budget(tmp_path):
    path = write_notebook(tmp_path, "import time\ntime.sleep(300)")
    result = run_notebook(path, tmp_path / "out", minutes=0.005)
    assert result.minutes < 1
    assert "CellTimeoutError" in result.problems[0]
    assert "over its budget of 0.005 minutes" in result.problems[1]


@pytest.mark.parametrize(
    ("minutes", "gigabytes", "verdict"),
    [(1, 2, "ok"), (1.1, 2, "slow"), (9.9, 2, "slow"), (10.1, 2, "FAILED"), (1, 2.1, "FAILED")],
)
def test_budgets(minutes, gigabytes, verdict):
    result = Result("00_trial", {}, minutes, 1, gigabytes, 2)
    result.compare_with_budgets()
    assert result.verdict == verdict
    assert len(result.problems + result.warnings) == (verdict != "ok")


def test_without_budgets_nothing_is_too_much():
    result = Result("00_trial", {}, 1000, None, 1000, None)
    result.compare_with_budgets()
    assert result.verdict == "ok"


def executed_cell(count, duration=0.1, outputs=()):
    metadata = {"papermill": {"duration": duration}}
    return new_code_cell("1", execution_count=count, metadata=metadata, outputs=list(outputs))


@pytest.mark.parametrize(
    ("cells", "problem"),
    [
        ([executed_cell(1), executed_cell(None)], "code cell 2 was skipped"),
        ([executed_cell(2), executed_cell(3)], "code cell 1 was skipped or out of order (count 2)"),
        ([executed_cell(1), executed_cell(3)], "code cell 2 was skipped or out of order (count 3)"),
        ([executed_cell(1, duration=0)], "code cell 1 took no time"),
        ([executed_cell(1, duration=None)], "code cell 1 took no time"),
        ([executed_cell(1, outputs=[new_output("error", ename="E", evalue="", traceback=[])])], "ended with an error"),
        ([new_markdown_cell("# Only words")], "no code cell"),
    ],
)
def test_what_did_not_run_is_noticed(cells, problem):
    good = new_notebook(cells=[executed_cell(1), new_markdown_cell("word"), executed_cell(2)])
    assert execution_problems(good) == []
    assert problem in "; ".join(execution_problems(new_notebook(cells=cells)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("notebooks: {00_trial: {parameters: {sides: 3}}}", "00_trial has no parameter sides; it declares name, scan"),
        ("notebooks: {01_other: {minutes: 1}}", "names 01_other; there are 00_trial"),
        ("notebooks: {00_trial: {minute: 1}}", "teaching.yaml, 00_trial: cannot use minute: 1"),
        ("notebooks: {00_trial: {minutes: soon}}", "cannot use minutes: soon"),
        ("notebooks: {00_trial: {parameters: [side]}}", "cannot use parameters"),
        ("notebooks: {00_trial: 3}", "00_trial: cannot use 3"),
        ("notebooks: [00_trial]", "must hold one mapping, called notebooks"),
        ("notebooks:", "must hold one mapping, called notebooks"),
        ("notebook: {}", "must hold one mapping, called notebooks"),
        ("", "must hold one mapping, called notebooks"),
        ("notebooks: {", "not valid YAML"),
    ],
)
def test_a_bad_profile_is_refused(tmp_path, text, message):
    write_notebook(tmp_path)
    write_profile(tmp_path, text)
    with pytest.raises(UsageError) as refused:
        plan(tmp_path, "teaching", None, {})
    assert message in str(refused.value)


def test_profile_and_command_line_meet(tmp_path):
    """The command line wins; a notebook without an entry keeps its declared defaults and has no budget."""
    write_notebook(tmp_path)
    write_notebook(tmp_path, name="01_other")
    write_profile(tmp_path, "notebooks: {00_trial: {parameters: {side: 5, name: b}, minutes: 2, memory_gb: 1.5}}")
    (first, entry), (second, empty) = plan(tmp_path, "teaching", None, {"side": 6})
    assert (first.stem, second.stem) == ("00_trial", "01_other")
    assert entry == {"parameters": {"side": 6, "name": "b"}, "minutes": 2, "memory_gb": 1.5}
    assert empty == {"parameters": {"side": 6}}
    assert [path.stem for path, _ in plan(tmp_path, "teaching", ["01"], {})] == ["01_other"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--profile", "tiny"], "there is no profile tiny; there are ci, teaching"),
        (["--only", "00", "07"], "no notebook is called 07; there are 00_trial, 01_other"),
        (["-p", "sides", "3"], "has no parameter sides"),
        (["--jobs", "0"], "--jobs must be at least 1, not 0"),
    ],
)
def test_a_bad_request_is_refused_before_anything_runs(tmp_path, capsys, arguments, message):
    write_notebook(tmp_path)
    write_notebook(tmp_path, name="01_other")
    write_profile(tmp_path, "notebooks: {}")
    write_profile(tmp_path, "notebooks: {}", "ci")
    assert main([*arguments, "--out", str(tmp_path / "out")], tmp_path) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_no_notebook_is_an_error(tmp_path, capsys):
    assert main([], tmp_path) == 2
    assert "there is no notebook in" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["sides", "str"])
def test_an_unknown_parameter_is_refused_by_run_notebook(tmp_path, name):
    """A name that the parameters cell only reads is no parameter."""
    with pytest.raises(UsageError, match=f"has no parameter {name}; it declares name, scan, side"):
        run_notebook(write_notebook(tmp_path), tmp_path / "out", {name: 3})
    assert not (tmp_path / "out").exists()


@kernel
def test_all_run_although_the_first_fails_and_the_report_says_so(tmp_path, capsys):
    write_notebook(tmp_path, "assert side == 3, side")
    write_notebook(tmp_path, "assert side == 4", name="01_other")
    write_profile(tmp_path, "notebooks: {00_trial: {parameters: {side: 5}}, 01_other: {minutes: 3, memory_gb: 2}}")
    out = tmp_path / "out"
    assert main(["--out", str(out)], tmp_path) == 1
    printed = capsys.readouterr().out
    assert "00_trial: In [3] raised AssertionError: 5" in printed
    report = json.loads((out / "report.json").read_text())
    assert report["profile"] == "teaching"
    assert [(entry["name"], entry["verdict"]) for entry in report["notebooks"]] == [
        ("00_trial", "FAILED"),
        ("01_other", "ok"),
    ]
    assert report["notebooks"][1]["memory_budget_gb"] == 2 and report["notebooks"][1]["peak_gb"] > 0
    assert f"{report['notebooks'][1]['minutes']:.2f}     3.00" in printed
    assert main(["--out", str(out), "-p", "side", "3", "--only", "00"], tmp_path) == 0


SPAN = """
import os, time
before = time.time()
while len(os.listdir("started")) < 2 and time.time() < before + 60:
    open(f"started/{os.getpid()}", "w").close()
    time.sleep(0.1)
print(len(os.listdir("started")), os.environ["LOKY_MAX_CPU_COUNT"])
"""


@kernel
def test_two_at_a_time_share_the_cores_and_have_twice_their_time(tmp_path, capsys):
    share = max(1, cpu_count() // 2)
    (tmp_path / "started").mkdir()
    for name in ("00_trial", "01_other"):
        write_notebook(tmp_path, SPAN, name=name)
    write_profile(tmp_path, "notebooks: {00_trial: {minutes: 3, memory_gb: 0.5}, 01_other: {memory_gb: 0.5}}")
    out = tmp_path / "out"
    assert main(["--out", str(out), "--jobs", "2"], tmp_path) == 0
    for name in ("00_trial", "01_other"):
        assert nbformat.read(out / f"{name}.ipynb", 4).cells[-1].outputs[0].text.split() == ["2", f"{share}"]
    report = json.loads((out / "report.json").read_text())["notebooks"]
    assert [entry["name"] for entry in report] == ["00_trial", "01_other"]
    assert [entry["minutes_budget"] for entry in report] == [6, None]
    assert all(0 < entry["peak_gb"] < 0.4 for entry in report)  # one kernel, not both
    assert "at a time" not in capsys.readouterr().out


def test_no_more_at_a_time_than_free_memory_holds(monkeypatch):
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=9.9e9))
    entries = [{"memory_gb": 3}, {"memory_gb": 4, "minutes": 1}, {}, {}]
    assert [that_fit(wanted, entries) for wanted in (1, 2, 3)] == [1, 2, 2]
    assert that_fit(2, [{"memory_gb": 5.0}, {}]) == 1 and that_fit(2, [{"memory_gb": 50}]) == 1
    assert that_fit(3, [{}, {}]) == 2  # no budgets, two notebooks


def test_a_file_is_named_as_its_caller_sees_it(tmp_path, monkeypatch):
    (tmp_path / "scan.nii.gz").touch()
    monkeypatch.chdir(tmp_path)
    assert as_seen_from_here("scan.nii.gz") == str(tmp_path / "scan.nii.gz")
    assert [as_seen_from_here(value) for value in ("absent.nii.gz", "", 3)] == ["absent.nii.gz", "", 3]


@pytest.mark.parametrize("profile", ["ci", "teaching", "gpu", "paper"])
def test_the_profiles_of_the_course_fit_its_notebooks(profile):
    if not list(HERE.glob("*.ipynb")):
        pytest.skip("there is no notebook yet")
    assert plan(HERE, profile, None, {})


@kernel
def test_solutions_take_the_place_of_the_stubs(tmp_path):
    """In the notebook's own folder, which `use` cells may read from; and only if asked for."""
    (tmp_path / "here.txt").write_text("found")
    path = write_notebook(tmp_path, "open('here.txt').read()")
    notebook = nbformat.read(path, as_version=4)
    own = (cell for cell in cells_of("02") if cell["metadata"]["exercise"]["part"] != "use")  # those read the lesson
    notebook.cells += map(nbformat.from_dict, own)
    nbformat.write(notebook, path)
    for solved, said in ((True, "02.1: right"), (False, "02.1: not done yet")):
        assert run_notebook(path, tmp_path / "out", solved=solved).problems == []
        assert said in (tmp_path / "out" / path.name).read_text()
    assert names(tmp_path / "out") == ["00_trial.html", "00_trial.ipynb"]
