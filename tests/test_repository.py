"""What is committed works on every machine: no path of one of them, nothing heavy, no leftovers of a run."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LARGEST = 1_000_000
WEIGHTS = ROOT / "s2dc_core" / "library" / "weights"
LARGEST_WEIGHTS = 5_000_000
HOME = re.compile(r"(?<![\w.:/-])/(?:home|root|Users|work|mnt)/\w|\b[A-Z]:\\\\?Users\b")


def project_files() -> list[Path]:
    """Files that are in git, or would be by `git add`."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    try:
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this copy of the project is not a git repository")
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def file_problems(path: Path) -> list[str]:
    """Why a file should not be committed as it is."""
    largest = LARGEST_WEIGHTS if path.parent == WEIGHTS else LARGEST
    if path.stat().st_size > largest:
        return [f"{path.name} is larger than {largest / 1e6:g} MB"]
    text = path.read_bytes().decode("utf-8", errors="replace")
    lines = text.splitlines() if "\0" not in text else []
    return [f"{path.name}:{n} has a path of one machine" for n, line in enumerate(lines, 1) if HOME.search(line)]


def test_every_file_is_light_and_at_home_anywhere():
    files = project_files()
    assert ROOT / "LICENSE" in files
    assert [problem for path in files for problem in file_problems(path)] == []


def test_the_licence_is_whole():
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License" in text and "END OF TERMS AND CONDITIONS" in text


@pytest.mark.parametrize("path", ["home/ann/scan.nii", "Users/ann/scan.nii", "root/scan.nii"])
def test_a_path_of_one_machine_is_noticed(tmp_path, path):
    file = tmp_path / "a.py"
    file.write_text(f'first = 1\nscan = "{"/" + path}"\n')
    assert file_problems(file) == ["a.py:2 has a path of one machine"]
    file.write_text(f'page = "https://example.org/{path}"\nscan = "{path}"\n')
    assert file_problems(file) == []


def test_a_heavy_file_is_noticed(tmp_path):
    file = tmp_path / "weights.safetensors"
    file.write_bytes(b"0" * (LARGEST + 1))
    assert file_problems(file) == ["weights.safetensors is larger than 1 MB"]
