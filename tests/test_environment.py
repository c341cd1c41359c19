"""pyproject.toml, environment.yml and requirements.lock name the same packages, in versions that agree."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import s2dc_core

ROOT = Path(__file__).resolve().parents[1]
PYPI_NAME = {"pytorch": "torch"}
"""Packages that conda-forge calls by another name; capitals and dashes do not count."""


def pyproject_requirements(text: str) -> dict[str, str]:
    """Package to version range, of the core and every extra, and of Python itself."""
    project = tomllib.loads(text)["project"]
    listed = [*project["dependencies"], *sum(project["optional-dependencies"].values(), [])]
    parsed = [Requirement(line) for line in [*listed, f"python {project['requires-python']}"]]
    return {canonicalize_name(requirement.name): str(requirement.specifier) for requirement in parsed}


def conda_requirements(text: str) -> dict[str, str]:
    """The same of an environment.yml, with PyPI's names."""
    listed = []
    for line in yaml.safe_load(text)["dependencies"]:
        listed += line["pip"] if isinstance(line, dict) else [line]
    parsed = [Requirement(line) for line in listed if line not in ("pip", "-e .")]
    return {
        canonicalize_name(PYPI_NAME.get(requirement.name, requirement.name)): str(requirement.specifier)
        for requirement in parsed
    }


def lock_problems(text: str, required: dict[str, str]) -> list[str]:
    """Lines that are no plain pin, packages of one vendor's GPU, and requirements that the pins do not meet."""
    pins = [line for line in text.splitlines() if line and not line.startswith("#")]
    problems = [f"not a plain pin: {line}" for line in pins if not re.fullmatch(r"[\w.-]+==[\w.]+", line)]
    problems += [f"not for every machine: {line}" for line in pins if re.match("nvidia|cuda|triton", line, re.I)]
    versions = {canonicalize_name(name): version for name, _, version in (pin.partition("==") for pin in pins)}
    for name, specifier in required.items():
        if name not in versions:
            problems.append(f"not pinned: {name}")
        elif not Requirement(name + specifier).specifier.contains(versions[name]):
            problems.append(f"pinned outside its range {specifier}: {name} {versions[name]}")
    return problems


def test_conda_and_pip_users_get_the_same_packages():
    conda = conda_requirements((ROOT / "environment.yml").read_text())
    assert conda == pyproject_requirements((ROOT / "pyproject.toml").read_text())


def test_every_package_of_the_conda_environment_says_what_needs_it():
    lines = (ROOT / "environment.yml").read_text().splitlines()
    packages = [line for line in lines if re.match(r"  - \w[\w-]* [<>=]", line) and "python >=" not in line]
    assert len(packages) > 20
    assert [line for line in packages if not re.search(r"  # \w", line)] == []


def test_the_lock_pins_everything_and_nothing_of_one_machine():
    required = pyproject_requirements((ROOT / "pyproject.toml").read_text())
    del required["python"]
    text = (ROOT / "requirements.lock").read_text()
    assert lock_problems(text, required) == []
    assert "\ntorch==2.13.0\n" in text


def test_the_version_is_written_once_in_effect():
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] == s2dc_core.__version__
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == s2dc_core.__version__


def test_everything_names_the_same_pythons():
    classifiers = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["classifiers"]
    versions = [line.rpartition(" ")[2] for line in classifiers if ":: Python :: 3." in line]
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())["jobs"]
    assert jobs["test"]["strategy"]["matrix"]["python"] == versions == ["3.11", "3.12", "3.13"]
    for name in ("README.md", "book/index.md", "requirements.lock"):
        assert f"Python {versions[0]} to {versions[-1]}" in (ROOT / name).read_text(), name


@pytest.mark.parametrize(
    "line",
    [
        "torch==2.13.0+cpu",
        "torch==2.10.0",
        "numpy>=2",
        "pot @ file:///somewhere/pot.whl",
        "--extra-index-url somewhere",
        "nvidia-cublas==13.1",
        "# torch==2.13.0",
    ],
)
def test_a_bad_lock_is_noticed(line):
    assert lock_problems(f"{line}\n", {"torch": ">=2.11"})


def test_a_missing_package_and_another_range_are_noticed():
    project = '[project]\nrequires-python = ">=3.11"\ndependencies = ["torch>=2.11,<3", "POT>=0.9"]\n'
    wanted = pyproject_requirements(project + "[project.optional-dependencies]\ndev = ['pytest>=8']\n")
    head = "dependencies:\n  - python >=3.11\n  - pip\n  - pot >=0.9\n"
    assert conda_requirements(head + "  - pytorch >=2.11,<3\n  - pytest >=8\n  - pip: [-e .]\n") == wanted
    assert conda_requirements(head + "  - pytorch >=2.11,<3\n") != wanted
    assert conda_requirements(head + "  - pytorch >=2.12,<3\n  - pytest >=8\n") != wanted
