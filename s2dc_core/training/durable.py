"""Files that are whole or not there, after a crash of the machine too; and what is said when a disk is full."""

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

FULL = (errno.ENOSPC, errno.EDQUOT)
"""What the system says of a full disk, and of a user who has had his share of it."""


class DiskFull(OSError):
    """There is no room for a file of a run."""


def write_durably(file: Path, data: bytes) -> None:
    """Write a file beside its place, see it onto the disk, and rename it; a file of that name is replaced whole.

    Raises:
        OSError: if it cannot be written; nothing half-written stays.
    """
    beside = file.with_name(file.name + ".part")
    try:
        with open(beside, "wb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
        os.replace(beside, file)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    sync(file.parent)


def sync(place: Path) -> None:
    """See a file, or the names in a folder, onto the disk."""
    handle = os.open(place, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems have no such thing for folders
            raise
    finally:
        os.close(handle)


def replace_folder(new: Path, place: Path) -> None:
    """Move a folder to a place, whose old one goes; killed in between, `put_back` finds the old one."""
    old = _old(place)
    with suppress(FileNotFoundError):  # a folder cannot be replaced in one move
        os.replace(place, old)
    os.replace(new, place)
    sync(place.parent)
    shutil.rmtree(old, ignore_errors=True)


def put_back(place: Path) -> None:
    """Undo what a killed `replace_folder` has left."""
    if _old(place).exists():
        if place.exists():
            shutil.rmtree(_old(place))
        else:
            os.replace(_old(place), place)


def _old(place: Path) -> Path:
    return place.with_name(f".{place.name}.old")


@contextmanager
def told_when_full(folder: Path, what: str, needed: Callable[[], int], after: str = "") -> Iterator[None]:
    """In one sentence that a folder's disk is full, for what is written in the block.

    Args:
        what: is written.
        needed: bytes that it takes.
        after: what is to be said after that.

    Raises:
        DiskFull: saying how much is free, and how much is needed.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in FULL and not isinstance(error, DiskFull):
            raise
        free = shutil.disk_usage(folder).free
        quota = ", or all that this user may take is taken" if free > needed() else ""
        raise DiskFull(
            f"the disk of {folder} is full{quota}: {what} takes {megabytes(needed())}, {megabytes(free)} are free; "
            f"make room{after}"
        ) from error


def megabytes(size: int) -> str:
    """Bytes as text."""
    return f"{size / 1e6:,.1f} MB"
