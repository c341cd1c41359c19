"""Scans that are prepared once, kept on disk and read back one at a time, for folders that do not fit into memory."""

import hashlib
import json
import zlib
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from pickle import UnpicklingError
from typing import NamedTuple

import numpy as np
import torch
from monai.data import PersistentDataset
from monai.data.utils import json_hashing
from monai.transforms import Transform

from s2dc_core.data import dicom, nifti, scans
from s2dc_core.data.scans import Scan, Spacings, load_scan


class ScanFacts(NamedTuple):
    """What a run has to know of a scan before it reads it.

    Attributes:
        name, modality: see Scan.
        shape, spacing: voxels, and their sides in mm.
        checksum: CRC-32 of the normalised voxels.
    """

    name: str
    modality: str
    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    checksum: int

    def __str__(self) -> str:
        return f"{self.name}: {self.modality}, {self.shape} voxels of {self.spacing} mm, {self.checksum:08x}"


def facts_of(scans: Sequence[Scan]) -> list[ScanFacts]:
    """The facts of each scan; those of CachedScans are at hand, others are computed."""
    return list(scans.facts) if isinstance(scans, CachedScans) else [_facts(scan) for scan in scans]


def _facts(scan: Scan) -> ScanFacts:
    checksum = zlib.crc32(scan.volume.numpy().tobytes())
    return ScanFacts(scan.name, scan.modality, tuple(scan.volume.shape[1:]), tuple(scan.spacing), checksum)


class CachedScans(Sequence):
    """The scans of some files, each read from its file once and from the cache afterwards.

    The cache is MONAI's PersistentDataset. Its key holds the file's path, size and time, the settings, and the code
    that prepares scans: whatever of these changes, the scan is prepared anew.

    Attributes:
        files, facts: of each scan.
    """

    def __init__(self, folder: str | Path, modality: str, spacing: Spacings = None, rule: str = "default"):
        self.files: list[Path] = []
        self.facts: list[ScanFacts] = []
        spacing = None if spacing is None else list(spacing)
        self._settings = {"modality": modality, "spacing": spacing, "rule": rule, "code": _code()}
        self._folder = Path(folder).expanduser()
        self._folder.mkdir(parents=True, exist_ok=True)
        self._dataset = PersistentDataset([], _ReadScan(), self._folder, hash_func=json_hashing)

    def add(self, file: Path, check: Callable[[ScanFacts], object] | None = None) -> None:
        """Take a file in, preparing it if the cache does not hold it yet, unless a check of its facts refuses it.

        Raises:
            ValueError, FileNotFoundError: as load_scan, or by the check.
        """
        self._dataset.data.append({"file": str(file.absolute()), "stamp": _stamp(file), **self._settings})
        try:
            facts = self._recorded_facts()
            if check:
                check(facts)
        except BaseException:
            self._dataset.data.pop()
            raise
        self.files.append(file)
        self.facts.append(facts)

    def _recorded_facts(self) -> ScanFacts:
        """The facts of the item added last, from the record beside its tensors if there is one."""
        record = self._place(-1).with_suffix(".json")
        if record.is_file() and record.with_suffix(".pt").is_file():
            values = json.loads(record.read_text(encoding="utf-8"))
            return ScanFacts(**{name: tuple(v) if isinstance(v, list) else v for name, v in values.items()})
        facts = _facts(self[-1])
        beside = record.with_suffix(".part")
        beside.write_text(json.dumps(facts._asdict()), encoding="utf-8")
        beside.replace(record)
        return facts

    def _place(self, index: int) -> Path:
        return self._folder / f"{json_hashing(self._dataset.data[index]).decode()}.pt"

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Scan:
        """A scan, without labels and intensities as stored (`raw` is then `volume`).

        Raises:
            ValueError, FileNotFoundError: if it is no longer in the cache, and its file cannot be read either.
        """
        try:
            kept = self._dataset[index]
        except (RuntimeError, EOFError, UnpicklingError):  # half-written by a process that was killed
            if not self._place(index).is_file():
                raise
            self._place(index).unlink()
            kept = self._dataset[index]
        about = json.loads(bytes(kept["about"].tolist()))
        about["spacing"] = tuple(about["spacing"])
        volume, affine = kept["volume"], np.asarray(kept["affine"])
        return Scan(volume, volume[0], affine, label=None, names={}, foreground=kept["foreground"], **about)


def _stamp(file: Path) -> str:
    """Changes when the file does, or one of the files of a series."""
    found = sorted(file.iterdir()) if file.is_dir() else [file]
    stamps = [[part.name, part.stat().st_size, part.stat().st_mtime_ns] for part in found]
    return hashlib.sha256(json.dumps(stamps).encode()).hexdigest()


class _ReadScan(Transform):
    """From a file's item to tensors alone: what they are read back with runs no code."""

    def __call__(self, item: dict) -> dict[str, torch.Tensor]:
        scan = load_scan(item["file"], modality=item["modality"], spacing=item["spacing"], rule=item["rule"])
        about = {name: getattr(scan, name) for name in ("spacing", "modality", "background", "name")}
        return {
            "volume": scan.volume,
            "foreground": scan.foreground,
            "affine": torch.from_numpy(scan.affine),
            "about": torch.tensor(list(json.dumps(about).encode()), dtype=torch.uint8),
        }


@cache
def _code() -> str:
    sources = b"".join(Path(module.__file__).read_bytes() for module in (scans, nifti, dicom))
    return hashlib.sha256(sources).hexdigest()
