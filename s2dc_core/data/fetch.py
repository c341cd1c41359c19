"""Fetch a data set: download what is public, verify it, unpack it; make what is generated."""

import errno
import glob
import hashlib
import json
import os
import re
import shutil
import tarfile
import time
import zipfile
import zlib
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nibabel as nib
import numpy as np
import requests
from monai.apps.utils import extractall
from tqdm.auto import tqdm

from s2dc_core.data.manifests import Manifest
from s2dc_core.data.scans import Scan, open_scan

ZENODO = "https://zenodo.org/api/records"
ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz")
CHUNK = 1 << 16  # bytes; what a broken connection loses at most
TIMEOUT = 60  # seconds without a byte
ATTEMPTS = 5
PAUSE = 2.0  # seconds before the first further attempt


def fetch(manifest: Manifest, root: str | Path, progress: bool = True) -> list[Path]:
    """Bring a data set under a folder; what lies there already is kept, so an interrupted fetch goes on.

    A download is written beside its place (``.part``), goes on where it stopped if its checksum is known, is verified
    and only then renamed; an archive is unpacked in a folder of its own, moved into place, and deleted.

    Returns:
        What was added: files, or the folders and files that an archive held.

    Raises:
        ValueError: for a data set that needs an account or a download tool of its own (naming the way to it), a wrong
            checksum, or an archive that is damaged or would write elsewhere.
        OSError: if the server or the disk fails.
    """
    root = Path(os.path.expanduser(root))
    if manifest.generated:
        return list(_generate(manifest, root, progress))
    if manifest.members:
        raise ValueError(f"{manifest.name} is a collection: fetch its members {', '.join(manifest.members)}")
    if not manifest.files:
        where = f" at {manifest.access['where']}" if "where" in manifest.access else ""
        raise ValueError(
            f"{manifest.name} cannot be fetched by this command: {manifest.access['how']}{where}. "
            f"Then `s2dc data check {manifest.name} --root DIR` says whether it is all there"
        )
    root.mkdir(parents=True, exist_ok=True)
    return [added for entry in _listed(manifest) for added in _bring(entry, root, progress)]


def _listed(manifest: Manifest) -> Iterator[dict[str, Any]]:
    """The files to fetch with url, name and checksum; a Zenodo record's own list is asked for them."""
    for entry in manifest.files:
        if "zenodo" not in entry:
            yield entry
            continue
        url = f"{ZENODO}/{entry['zenodo']}"
        try:
            with requests.get(url, timeout=TIMEOUT) as response:
                response.raise_for_status()
                record = response.json()["files"]
            found = [file for file in record if fnmatch(file["key"], entry["names"])]
            files = [
                {"name": file["key"], "url": file["links"]["self"], "checksum": file["checksum"]} for file in found
            ]
        except (requests.RequestException, KeyError, TypeError, ValueError) as error:
            raise OSError(f"{url} gave no list of files: {_reason(error)}") from error
        if not files or not all(re.fullmatch(r"[\w-][\w.-]*", file["name"]) for file in files):
            raise ValueError(f"{url} lists no file {entry['names']} with a plain name")
        yield from files


def _bring(entry: dict[str, Any], root: Path, progress: bool) -> list[Path]:
    file, note = root / entry["name"], root / f".{entry['name']}.fetched"
    if _is_there(note, entry["checksum"], root):
        return []
    ours = not file.exists()  # what the user put there is used, and never deleted
    if ours:
        download(entry["url"], file, entry["checksum"], progress)
    elif entry["checksum"] and not _is_whole(file, entry["checksum"], progress):
        raise ValueError(f"{file} is there and has another checksum than {entry['checksum']}: move it away")
    added = [file]
    if file.name.endswith(ARCHIVES):
        added = unpack(file, root)
        if ours:
            file.unlink()
    known = {"checksum": entry["checksum"], "added": [each.name for each in added]}
    note.write_text(json.dumps(known), encoding="utf-8")
    return added


def _is_there(note: Path, checksum: str | None, root: Path) -> bool:
    """Whether a note says that this file was fetched, and what it brought is still there."""
    try:
        known = json.loads(note.read_text(encoding="utf-8"))
        return known["checksum"] == checksum and all((root / name).exists() for name in known["added"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return False


def download(url: str, file: Path, checksum: str | None, progress: bool = True) -> None:
    """Download a file, going on after interruptions; it appears under its name only when it is whole and verified.

    Args:
        checksum: "md5:..." or another of hashlib's; None if the source gives none, and then no part of an earlier
            attempt is trusted.

    Raises:
        ValueError: for a wrong checksum; the download is deleted.
        OSError: if the server refuses, the connection breaks five times without progress (what came is kept for the
            next attempt if there is a checksum), or the disk is full (nothing is kept).
    """
    part = file.with_name(f"{file.name}.part")
    if checksum is None:
        part.unlink(missing_ok=True)
    failures = 0
    while True:
        before = part.stat().st_size if part.exists() else 0
        try:
            _receive(url, part, progress)
            break
        except requests.HTTPError as error:
            raise OSError(
                f"{url} cannot be downloaded: {error.response.status_code} {error.response.reason}"
            ) from error
        except requests.RequestException as error:
            gained = part.exists() and part.stat().st_size > before
            failures = 1 if gained and checksum else failures + 1
            if failures >= ATTEMPTS or (part.exists() and checksum is None):
                if checksum is None:
                    part.unlink(missing_ok=True)
                kept = (
                    f"{part.stat().st_size} bytes are kept, run again to go on" if part.exists() else "nothing is kept"
                )
                raise OSError(f"{url} broke off ({_reason(error)}): {kept}") from error
            time.sleep(PAUSE * 2 ** (failures - 1))
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            part.unlink(missing_ok=True)
            raise OSError(f"there is no space for {file}: nothing is kept, make room and run again") from error
    if checksum and not _is_whole(part, checksum, progress):
        part.unlink()
        raise ValueError(f"{url} does not have the checksum {checksum}: the download was deleted, run again")
    os.replace(part, file)


def _receive(url: str, part: Path, progress: bool) -> None:
    """Append what is missing to a part, or start it again if the server sends all."""
    have = part.stat().st_size if part.exists() else 0
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
        if response.status_code == 416:  # nothing is missing, or the file has changed: the checksum tells
            return
        response.raise_for_status()
        have = have if response.status_code == 206 else 0
        length = response.headers.get("Content-Length")
        total = None if length is None else have + int(length)
        if total and total - have > shutil.disk_usage(part.parent).free:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        bar = tqdm(
            total=total, initial=have, desc=part.stem, disable=not progress, unit="B", unit_scale=True, leave=False
        )
        with part.open("ab" if have else "wb") as file, bar:
            for chunk in response.iter_content(CHUNK):
                file.write(chunk)
                bar.update(len(chunk))
        if total and part.stat().st_size != total:
            raise requests.ConnectionError(f"{part.stat().st_size} of {total} bytes came")


def _is_whole(file: Path, checksum: str, progress: bool) -> bool:
    kind, _, expected = checksum.partition(":")
    digest = hashlib.new(kind, usedforsecurity=False)
    bar = tqdm(total=file.stat().st_size, desc="verify", disable=not progress, unit="B", unit_scale=True, leave=False)
    with file.open("rb") as content, bar:
        while chunk := content.read(CHUNK):
            digest.update(chunk)
            bar.update(len(chunk))
    return digest.hexdigest() == expected


def unpack(archive: Path, root: Path) -> list[Path]:
    """Unpack an archive, and move it into a folder once all of it is unpacked; what it added there.

    Raises:
        ValueError: for a damaged archive, one with absolute names, "..", or links, or with what is there already.
        OSError: if the disk is full.
    """
    prefix = f".unpacking-{archive.name}-"
    for stale in root.glob(f"{glob.escape(prefix)}*"):  # of an attempt that was killed
        shutil.rmtree(stale)
    with TemporaryDirectory(prefix=prefix, dir=root) as place:
        try:
            kind = "zip" if archive.name.endswith(".zip") else "tar"
            extractall(archive, place, file_type=kind, has_base=False)  # refuses links and names that lead elsewhere
        except (ValueError, tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, NotImplementedError) as error:
            raise ValueError(f"{archive} was not unpacked: {_reason(error)}") from error
        except OSError as error:
            raise OSError(f"{archive} was not unpacked: {error.strerror or error}") from error
        found = sorted(Path(place).iterdir())
        if there := [each.name for each in found if (root / each.name).exists()]:
            raise ValueError(f"{archive} was not unpacked: {root} holds {', '.join(there)} already, move it away")
        return [each.rename(root / each.name) for each in found]


def _reason(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def _generate(manifest: Manifest, root: Path, progress: bool) -> Iterator[Path]:
    """Write the images and label maps of a generated data set that are not there yet."""
    part = manifest.layouts[0]["parts"][0]
    image = manifest.generated["image"]
    for seed in tqdm(manifest.generated["seeds"], desc=manifest.name, disable=not progress, unit="scan", leave=False):
        names = [part["images"]["image"], part["label"]]
        names = [re.sub(r"\{case\}", image, re.sub(r"\{patient:4\}", f"{seed:04d}", name)) for name in names]
        if all((root / name).exists() for name in names):
            continue
        scan = open_scan(image, seed=seed)
        for name, values in zip(names, _voxels(scan), strict=True):
            yield _save(root / name, values, scan.affine)


def _voxels(scan: Scan) -> tuple[np.ndarray, np.ndarray]:
    label = scan.label.numpy().astype(np.uint8)
    raw = scan.raw.numpy()
    return (np.round(raw).astype(np.int16) if scan.modality == "ct" else raw), label


def _save(file: Path, values: np.ndarray, affine: np.ndarray) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = file.with_name(f".part-{file.name}")
    try:
        nib.save(nib.Nifti1Image(values, affine), beside)
        return beside.rename(file)
    finally:
        beside.unlink(missing_ok=True)
