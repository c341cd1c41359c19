"""Fetching from a server on this computer: what goes wrong ends with one clear error and nothing half-written."""

import errno
import functools
import hashlib
import http.server
import importlib
import io
import json
import shutil
import tarfile
import tempfile
import threading
import zipfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import requests
from monai.apps import DecathlonDataset

from s2dc_core.cli import main
from s2dc_core.data import fetch, load_manifest, require_cases
from tests.data.miniature import msd_spleen
from tests.data.test_manifests import CONTENT

# The package holds the function under the module's name.
fetching = importlib.import_module("s2dc_core.data.fetch")


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves `contents`, honouring ranges; breaks connections off after some bytes as often as it is told to."""

    contents: dict[str, bytes] = {}
    breaks: list[int] = []
    asked: list[str] = []
    ranges = True

    def do_GET(self):
        self.asked.append(self.headers.get("Range", "all"))
        content = self.contents.get(self.path)
        if content is None:
            self.send_error(404)
            return
        start = int(self.headers["Range"].split("=")[1].rstrip("-")) if self.ranges and "Range" in self.headers else 0
        if start and start >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.wfile.write(content[start:][: self.breaks.pop(0) if self.breaks else None])

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    for name, value in (("contents", {}), ("breaks", []), ("asked", []), ("ranges", True)):
        monkeypatch.setattr(Handler, name, value)
    monkeypatch.setattr(fetching, "PAUSE", 0.0)
    monkeypatch.setattr(fetching, "CHUNK", 100)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=functools.partial(running.serve_forever, poll_interval=0.01), daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def archive(members, kind="tar", links=()):
    """An archive in memory of {name: content} and of (name, target, type) links."""
    place = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(place, "w") as made:
            for name, content in members.items():
                made.writestr(name, content)
        return place.getvalue()
    with tarfile.open(fileobj=place, mode="w:gz" if kind == "tar.gz" else "w") as made:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            made.addfile(info, io.BytesIO(content))
        for name, target, link in links:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = link, target
            made.addfile(info)
    return place.getvalue()


GOOD = {"Set/images/a.nii.gz": b"a" * 3000, "Set/images/b.nii.gz": b"b" * 5000, "Set/dataset.json": b"{}"}


def manifest_of(tmp_path, server, content, name="set.tar", checksum="sha256"):
    """A manifest with one file on the server; checksum "wrong" or None also."""
    Handler.contents[f"/{name}"] = content
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    listed = {"sha256": digest, "md5": f"md5:{hashlib.md5(content).hexdigest()}", "wrong": f"md5:{'0' * 32}"}
    entry = {"url": f"{server}/{name}", "name": name, "checksum": listed.get(checksum)}
    file = tmp_path / "tiny.json"
    file.write_text(json.dumps({**CONTENT, "name": "tiny", "files": [entry]}))
    return load_manifest(file)


def left(root):
    return (
        sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()) if root.exists() else []
    )


@pytest.mark.parametrize("kind", ["tar", "tar.gz", "zip"])
@pytest.mark.parametrize("checksum", ["sha256", "md5", None])
def test_an_archive_is_fetched_verified_and_unpacked_once(tmp_path, server, kind, checksum):
    root = tmp_path / "root"
    manifest = manifest_of(tmp_path, server, archive(GOOD, kind), f"set.{kind}", checksum)
    assert [path.name for path in fetch(manifest, root, progress=False)] == ["Set"]
    assert left(root) == sorted([f".set.{kind}.fetched", *GOOD])
    assert all((root / name).read_bytes() == content for name, content in GOOD.items())
    assert fetch(manifest, root, progress=False) == [] and len(Handler.asked) == 1


def test_a_file_that_is_no_archive_is_kept_as_it_is(tmp_path, server):
    manifest = manifest_of(tmp_path, server, b"1,2\n", "table.csv")
    assert fetch(manifest, tmp_path / "root", progress=False) == [tmp_path / "root" / "table.csv"]


def test_broken_connections_are_taken_up_where_they_broke(tmp_path, server):
    content = archive(GOOD)
    manifest = manifest_of(tmp_path, server, content)
    Handler.breaks[:] = [1000, 2000, 700]
    fetch(manifest, tmp_path / "root", progress=False)
    assert Handler.asked == ["all", "bytes=1000-", "bytes=3000-", "bytes=3700-"]
    assert left(tmp_path / "root") == sorted([".set.tar.fetched", *GOOD])


def test_a_later_command_goes_on_with_what_an_earlier_one_left(tmp_path, server, capsys):
    content = archive(GOOD)
    manifest_of(tmp_path, server, content)
    Handler.breaks[:] = [1000] + [0] * 10
    command = ["data", "fetch", str(tmp_path / "tiny.json"), "--root", str(tmp_path / "root")]
    assert main(command) == 2
    error = capsys.readouterr().err
    assert (
        error.count("\n") == 1 and "set.tar broke off" in error and "1000 bytes are kept, run again to go on" in error
    )
    assert left(tmp_path / "root") == ["set.tar.part"]
    Handler.breaks.clear()
    Handler.asked.clear()
    assert main(command) == 0
    assert Handler.asked == ["bytes=1000-"] and left(tmp_path / "root") == sorted([".set.tar.fetched", *GOOD])


def test_a_server_without_ranges_sends_all_again(tmp_path, server, monkeypatch):
    monkeypatch.setattr(Handler, "ranges", False)
    manifest = manifest_of(tmp_path, server, archive(GOOD))
    Handler.breaks[:] = [1000]
    fetch(manifest, tmp_path / "root", progress=False)
    assert left(tmp_path / "root") == sorted([".set.tar.fetched", *GOOD])


def test_a_whole_part_is_verified_and_not_asked_for_again(tmp_path, server):
    content = archive(GOOD)
    manifest = manifest_of(tmp_path, server, content)
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "set.tar.part").write_bytes(content)
    fetch(manifest, tmp_path / "root", progress=False)
    assert left(tmp_path / "root") == sorted([".set.tar.fetched", *GOOD])


def test_without_a_checksum_nothing_of_an_earlier_attempt_is_trusted(tmp_path, server):
    manifest = manifest_of(tmp_path, server, archive(GOOD), checksum=None)
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "set.tar.part").write_bytes(b"of another version")
    Handler.breaks[:] = [1000]
    with pytest.raises(OSError, match="broke off .*: nothing is kept"):
        fetch(manifest, tmp_path / "root", progress=False)
    assert left(tmp_path / "root") == [] and Handler.asked == ["all"]
    fetch(manifest, tmp_path / "root", progress=False)
    assert left(tmp_path / "root") == sorted([".set.tar.fetched", *GOOD])


def test_a_wrong_checksum_leaves_nothing(tmp_path, server):
    manifest = manifest_of(tmp_path, server, archive(GOOD), checksum="wrong")
    with pytest.raises(
        ValueError, match=r"set.tar does not have the checksum md5:0{32}: the download was deleted, run again"
    ):
        fetch(manifest, tmp_path / "root", progress=False)
    assert left(tmp_path / "root") == []


def test_a_changed_file_behind_a_part_is_noticed(tmp_path, server):
    """The first bytes are of an earlier version: only the checksum can tell."""
    manifest = manifest_of(tmp_path, server, archive(GOOD))
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "set.tar.part").write_bytes(b"x" * 1000)
    with pytest.raises(ValueError, match="the download was deleted, run again"):
        fetch(manifest, tmp_path / "root", progress=False)
    assert left(tmp_path / "root") == []


def test_what_is_not_there_is_one_error(tmp_path, server, capsys):
    manifest_of(tmp_path, server, b"")
    Handler.contents.clear()
    assert main(["data", "fetch", str(tmp_path / "tiny.json"), "--root", str(tmp_path / "root")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "/set.tar cannot be downloaded: 404 Not Found" in error
    assert left(tmp_path / "root") == []


SYM, HARD = tarfile.SYMTYPE, tarfile.LNKTYPE
ABSOLUTE = f"{tempfile.gettempdir()}/evil_of_a_test.txt"


@pytest.mark.parametrize(
    ("members", "kind", "links"),
    [
        ({**GOOD, "../evil.txt": b"x"}, "tar", ()),
        ({**GOOD, "Set/../../evil.txt": b"x"}, "zip", ()),
        ({**GOOD, ABSOLUTE: b"x"}, "tar.gz", ()),
        ({**GOOD, ABSOLUTE: b"x"}, "zip", ()),
        (GOOD, "tar", [("Set/out", "/etc", SYM)]),
        (GOOD, "tar", [("Set/passwords", "/etc/passwd", HARD)]),
        (GOOD, "tar", [("Set/inside", "images/a.nii.gz", SYM)]),
    ],
)
def test_an_archive_that_leads_elsewhere_is_refused_as_a_whole(tmp_path, server, members, kind, links):
    root = tmp_path / "in" / "root"
    manifest = manifest_of(tmp_path, server, archive(members, kind, links), f"set.{kind}")
    with pytest.raises(ValueError, match=rf"set.{kind} was not unpacked: (Unsafe path|Symbolic link|Hard link)"):
        fetch(manifest, root, progress=False)
    assert left(root) == [f"set.{kind}"]
    assert not (tmp_path / "in" / "evil.txt").exists() and not (tmp_path / "evil.txt").exists()
    assert not Path(ABSOLUTE).exists()


def test_what_was_fetched_and_is_gone_is_fetched_again(tmp_path, server):
    manifest = manifest_of(tmp_path, server, archive(GOOD))
    fetch(manifest, tmp_path / "root", progress=False)
    shutil.rmtree(tmp_path / "root" / "Set")
    (tmp_path / "root" / ".unpacking-set.tar-killed").mkdir()
    assert [path.name for path in fetch(manifest, tmp_path / "root", progress=False)] == ["Set"]
    assert not list((tmp_path / "root").glob(".unpacking-*"))


def test_an_archive_that_the_user_brought_is_used_and_never_deleted(tmp_path, server):
    content = archive(GOOD)
    manifest = manifest_of(tmp_path, server, content)
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "set.tar").write_bytes(content[:900])
    with pytest.raises(ValueError, match="set.tar is there and has another checksum than sha256:.*: move it away"):
        fetch(manifest, tmp_path / "root", progress=False)
    (tmp_path / "root" / "set.tar").write_bytes(content)
    fetch(manifest, tmp_path / "root", progress=False)
    assert left(tmp_path / "root") == sorted([".set.tar.fetched", "set.tar", *GOOD]) and Handler.asked == []


def test_a_damaged_archive_is_refused(tmp_path, server):
    for kind in ("tar", "tar.gz", "zip"):
        made = archive(GOOD, kind)
        manifest = manifest_of(tmp_path, server, made[: len(made) // 3], f"set.{kind}")
        with pytest.raises(ValueError, match=rf"set.{kind} was not unpacked"):
            fetch(manifest, tmp_path / kind, progress=False)
        assert left(tmp_path / kind) == [f"set.{kind}"]


def test_what_is_there_already_is_not_written_over(tmp_path, server):
    manifest = manifest_of(tmp_path, server, archive(GOOD))
    (tmp_path / "root" / "Set").mkdir(parents=True)
    with pytest.raises(ValueError, match="set.tar was not unpacked: .* holds Set already, move it away"):
        fetch(manifest, tmp_path / "root", progress=False)
    assert left(tmp_path / "root") == ["set.tar"]


def test_a_full_disk_is_told_before_anything_is_written(tmp_path, server, monkeypatch):
    manifest = manifest_of(tmp_path, server, archive(GOOD))
    monkeypatch.setattr(fetching.shutil, "disk_usage", lambda place: SimpleNamespace(free=100))
    with pytest.raises(OSError, match="there is no space for .*set.tar: nothing is kept, make room and run again"):
        fetch(manifest, tmp_path / "root", progress=False)
    assert left(tmp_path / "root") == []


def test_a_disk_that_fills_up_leaves_nothing_half_written(tmp_path, server, monkeypatch):
    manifest = manifest_of(tmp_path, server, archive(GOOD))

    def chunks(response, size):
        yield b"x" * 1000
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(requests.Response, "iter_content", chunks)
        with pytest.raises(OSError, match="there is no space for"):
            fetch(manifest, tmp_path / "root", progress=False)
    assert left(tmp_path / "root") == []

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(fetching.tarfile.TarFile, "extractfile", full)
    with pytest.raises(OSError, match="set.tar was not unpacked: No space left on device"):
        fetch(manifest, tmp_path / "root", progress=False)
    assert left(tmp_path / "root") == ["set.tar"]


def test_what_was_fetched_of_the_decathlon_is_opened_by_monai(tmp_path, server):
    """The small archive under the real one's name, in place of MONAI's own downloader, which cannot go on."""
    msd_spleen(tmp_path / "made")
    with tarfile.open(tmp_path / "made.tar", "w") as made:
        made.add(tmp_path / "made" / "Task09_Spleen", "Task09_Spleen")
    content = (tmp_path / "made.tar").read_bytes()
    Handler.contents["/Task09_Spleen.tar"] = content
    Handler.breaks[:] = [5000]
    manifest = load_manifest("msd_spleen")
    entry = {
        **manifest.files[0],
        "url": f"{server}/Task09_Spleen.tar",
        "checksum": f"md5:{hashlib.md5(content).hexdigest()}",
    }
    manifest = replace(manifest, files=[entry])
    fetch(manifest, tmp_path / "root", progress=False)
    theirs = DecathlonDataset(tmp_path / "root", "Task09_Spleen", "validation", cache_num=0)
    assert len(theirs) == 2 and theirs[0]["image"].shape == (24, 20, 16)
    assert sum(case.section == "validation" for case in require_cases(manifest, tmp_path / "root")) == 2


def test_a_zenodo_records_own_list_gives_files_and_checksums(tmp_path, server, monkeypatch):
    contents = {f"subset{k}.zip": archive({f"subset{k}/a.mhd": b"x" * k}, "zip") for k in range(3)}
    record = [
        {"key": name, "checksum": f"md5:{hashlib.md5(made).hexdigest()}", "links": {"self": f"{server}/{name}"}}
        for name, made in contents.items()
    ]
    Handler.contents |= {f"/{name}": made for name, made in contents.items()}
    Handler.contents["/7"] = json.dumps(
        {"files": [*record, {"key": "notes.csv", "checksum": "", "links": {}}]}
    ).encode()
    file = tmp_path / "tiny.json"
    file.write_text(json.dumps({**CONTENT, "name": "tiny", "files": [{"zenodo": 7, "names": "subset*.zip"}]}))
    monkeypatch.setattr(fetching, "ZENODO", server)
    fetch(load_manifest(file), tmp_path / "root", progress=False)
    assert [name for name in left(tmp_path / "root") if not name.startswith(".")] == [
        f"subset{k}/a.mhd" for k in range(3)
    ]
    Handler.contents["/7"] = json.dumps({"files": [{**record[0], "key": "subset/../../x.zip"}]}).encode()
    with pytest.raises(ValueError, match="lists no file subset.*zip with a plain name"):
        fetch(load_manifest(file), tmp_path / "other", progress=False)
    Handler.contents["/7"] = b"{}"
    with pytest.raises(OSError, match="gave no list of files"):
        fetch(load_manifest(file), tmp_path / "other", progress=False)


def test_what_needs_an_account_says_the_way(tmp_path, capsys):
    assert main(["data", "fetch", "btcv", "--root", str(tmp_path / "root")]) == 2
    error = capsys.readouterr().err
    for words in (
        "btcv cannot be fetched by this command",
        "register at Synapse",
        "syn3193805",
        "s2dc data check btcv",
    ):
        assert words in error
    with pytest.raises(ValueError, match="ct_1k is a collection: fetch its members btcv, tcia_covid19"):
        fetch(load_manifest("ct_1k"), tmp_path / "root")
    assert not (tmp_path / "root").exists()
