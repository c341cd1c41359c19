"""Browser tests run with ``make test-browser`` alone: JupyterLab, started for them, and Debian's Chromium, headless."""

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[2]
FLAGS = [
    "--no-sandbox",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--ignore-gpu-blocklist",
    "--disable-background-networking",
    "--no-first-run",
]
PLACES = ("chromium", "chromium-browser", "google-chrome")


def pytest_ignore_collect(collection_path, config):
    """Leave these tests out unless the markers ask for them and nothing else."""
    return True if config.option.markexpr != "browser" else None


def chromium() -> str:
    """Path of a Chromium; the test is skipped where there is none."""
    found = next((path for name in PLACES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"no browser: none of {', '.join(PLACES)} is installed (Debian: apt-get install chromium)")
    return found


@pytest.fixture(scope="session")
def pictures() -> Path:
    """outputs/browser, emptied: what this run saw and measured."""
    folder = ROOT / "outputs" / "browser"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


class Lab:
    """A JupyterLab on this computer, with its token, in a folder of its own."""

    def __init__(self, folder: Path):
        self.folder, self.token = folder, secrets.token_hex(16)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        home = {
            name: str(folder / name.lower())
            for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")
        }
        command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--ip=127.0.0.1", f"--port={self.port}"]
        command += [f"--ServerApp.root_dir={folder}", f"--IdentityProvider.token={self.token}"]
        command += ["--ServerApp.port_retries=0", "--allow-root"]
        quiet = folder / "settings" / "@jupyterlab" / "apputils-extension" / "notification.jupyterlab-settings"
        quiet.parent.mkdir(parents=True)
        quiet.write_text('{"fetchNews": "false", "checkForUpdates": false}')
        with (folder / "lab.log").open("w") as log:
            environment = {
                **os.environ,
                **home,
                "OMP_NUM_THREADS": "1",
                "JUPYTERLAB_SETTINGS_DIR": str(folder / "settings"),
            }
            self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=folder)

    def address(self, path: str) -> str:
        """Of a page, with the token."""
        return f"http://127.0.0.1:{self.port}/{path}?token={self.token}&reset"

    def wait(self, seconds: float = 90) -> None:
        """Until it answers."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.process.poll() is not None:
                break
            try:
                with urllib.request.urlopen(self.address("api/status"), timeout=2):
                    return
            except OSError:
                time.sleep(0.3)
        raise RuntimeError("JupyterLab did not start:\n" + (self.folder / "lab.log").read_text()[-3000:])

    def stop(self) -> None:
        """End it, and its kernels with it."""
        self.process.terminate()
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()


@pytest.fixture(scope="session")
def lab(tmp_path_factory) -> Iterator[Lab]:
    """One JupyterLab for all tests."""
    chromium()
    server = Lab(tmp_path_factory.mktemp("lab"))
    try:
        server.wait()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def browser() -> Iterator:
    """One Chromium for all tests, without any other host than this computer."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install -e '.[dev]'")
    with sync_api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
        yield found
        found.close()


class Notebook:
    """A notebook in JupyterLab, and its kernel's facts.

    The notebook's cells write what the test asks for into facts.json; nothing is read off the page but pictures.
    """

    def __init__(self, lab: Lab, browser, name: str, cells: list[str]):
        self.lab, self.browser, self.path = lab, browser, lab.folder / name
        book = nbformat.v4.new_notebook()
        book["metadata"]["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
        book["cells"] = [nbformat.v4.new_code_cell(cell) for cell in cells]
        nbformat.write(book, self.path)
        self.page = None
        self.facts_file = lab.folder / f"{self.path.stem}.json"

    def open(self) -> "Notebook":
        """Open it in a new page."""
        self.page = self.browser.new_page(viewport={"width": 1500, "height": 1300})
        self.page.goto(self.lab.address(f"lab/tree/{self.path.name}"))
        self.page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=90_000)
        self.page.wait_for_selector("text=/\\| Idle/", timeout=90_000)
        return self

    def run(self) -> "Notebook":
        """Run all cells from a fresh kernel, and wait for the viewers."""
        self.page.keyboard.press("Escape")
        self.page.click("text=Run >> visible=true")
        self.page.click("text=Run All Cells >> visible=true")
        return self

    def facts(self, known=lambda facts: True, seconds: float = 60) -> dict:
        """What the kernel wrote last, once it is as wanted."""
        end, last = time.monotonic() + seconds, None
        while time.monotonic() < end:
            try:
                last = json.loads(self.facts_file.read_text())
                if known(last):
                    return last
            except (FileNotFoundError, json.JSONDecodeError):
                pass
            self.page.wait_for_timeout(50)
        picture = ROOT / "outputs" / "browser" / "failed.png"
        self.page.screenshot(path=picture)
        raise AssertionError(f"the kernel did not come to what was waited for; last: {str(last)[:1500]}; see {picture}")

    def close(self) -> None:
        """Close the page; the kernel goes on."""
        self.page.close()
