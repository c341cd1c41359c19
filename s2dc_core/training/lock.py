"""One run at a time writes in a folder."""

import atexit
import errno
import fcntl
import os
import socket
import time
import warnings
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO
from weakref import WeakSet

_HELD: "WeakSet[BinaryIO]" = WeakSet()
"""Files of this process that are open for their locks."""

_RESERVED: dict[Path, "FolderLock"] = {}
"""Locks of folders whose runs this process makes ready."""


def _let_go_in_child() -> None:
    """A reader that outlives a killed run must not hold its folder."""
    for handle in list(_HELD):
        handle.close()
    _RESERVED.clear()


os.register_at_fork(after_in_child=_let_go_in_child)


class FolderLock:
    """That only one run writes in a folder: from its making to `close`, or to the end of the process.

    The system keeps it with the open file, so that a process that is killed leaves none behind; on NFS it holds between
    machines.

    Args:
        folder: which exists.

    Raises:
        ValueError: if another run holds it, in this process or elsewhere.

    Warns:
        UserWarning: where the file system has no locks; then nothing is held.
    """

    def __init__(self, folder: Path):
        self.folder, self.file = folder, folder / ".lock"
        self._handle = self._locked()
        if self._handle is None:
            warnings.warn(f"{folder} lies on a file system without locks: let no other run write in it", stacklevel=2)
            return
        _HELD.add(self._handle)
        started = time.strftime("%Y-%m-%d %H:%M:%S")
        with suppress(OSError):  # of a full disk, where it is held all the same
            self._handle.truncate(0)
            self._handle.write(f"process {os.getpid()} on {socket.gethostname()}, since {started}".encode())

    def close(self) -> None:
        """Let others write in the folder; a second time it does nothing."""
        if self._handle and not self._handle.closed:
            self.file.unlink(missing_ok=True)
            self._handle.close()

    def _locked(self) -> BinaryIO | None:
        while True:
            handle = open(self.file, "a+b", buffering=0)  # noqa: SIM115
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                handle.seek(0)
                holder = handle.read().decode(errors="replace")
                handle.close()
                if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                    return None
                raise ValueError(
                    f"another run writes in {self.folder} ({holder}): wait for its end, or give another folder; the "
                    "processes of one run are started by `accelerate launch` or `torchrun`"
                ) from error
            if self.file.exists() and os.path.samestat(os.fstat(handle.fileno()), self.file.stat()):
                return handle
            handle.close()  # who held it has removed it since it was opened


def reserve_folder(folder: Path) -> None:
    """Hold a folder for the run that this process makes ready: another is refused now, not when it has read its scans.

    Raises:
        ValueError: as FolderLock.
    """
    if folder.resolve() not in _RESERVED:
        _RESERVED[folder.resolve()] = FolderLock(folder)
        atexit.register(lambda: take_folder(folder).close() if folder.resolve() in _RESERVED else None)


def take_folder(folder: Path) -> FolderLock:
    """The lock of a folder: the one that was reserved in this process, or a new one.

    Raises:
        ValueError: as FolderLock.
    """
    return _RESERVED.pop(folder.resolve(), None) or FolderLock(folder)
