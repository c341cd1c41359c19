"""Scans that are prepared once, kept on disk and read back one at a time, for folders that do not fit into memory."""

import glob
import hashlib
import json
import os
import zlib
from collections.abc import Callable, Sequence
from functools import cache
from importlib.metadata import version
from numbers import Real
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from s2dc_core.data import dicom, files, labelmaps, pixels, scans, slices, stacks, suv
from s2dc_core.data.scans import CT_WINDOW, Scan, Spacings, check_spacing, load_scan

# Of Scan. Not written as such: who checks the kind of an entry would read a file for it.
Scans = Sequence


class ScanFacts(NamedTuple):
    """What a run has to know of a scan before it reads it.

    Attributes:
        name, modality: see Scan.
        shape, spacing: voxels, and their sides in mm.
        checksum: CRC-32 of the normalised voxels.
        rule, window: of the intensities, see Scan.
    """

    name: str
    modality: str
    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    checksum: int
    rule: str | None = None
    window: tuple[float, float] | None = None

    def __str__(self) -> str:
        return f"{self.name}: {self.modality}, {self.shape} voxels of {self.spacing} mm, {self.checksum:08x}"


class CachedScans(Sequence[Scan]):
    """The scans of some files, each prepared from its file once and read from the cache afterwards.

    An entry is a file of tensors, written beside its place and renamed, so that several processes may share a cache
    (MONAI's PersistentDataset moves its files in from another disk, where others can meet half of one). Its name holds
    the file's path, size and time, the settings, and the code and libraries that prepare scans: whatever of these
    changes, the scan is prepared anew.

    Attributes:
        files, facts: of each scan.
    """

    def __init__(
        self,
        folder: str | Path,
        modality: str,
        spacing: Spacings = None,
        rule: str = "default",
        window: tuple[Real, Real] = CT_WINDOW,
    ):
        self.files: list[Path] = []
        self.facts: list[ScanFacts] = []
        self._entries: list[Path] = []
        self._folder = Path(folder).expanduser()
        self._folder.mkdir(parents=True, exist_ok=True)
        spacing = None if spacing is None else check_spacing(spacing)
        self._settings = {"modality": modality, "spacing": spacing, "rule": rule, "window": window}

    def add(self, file: Path, check: Callable[[ScanFacts], object] | None = None) -> None:
        """Take a file in, preparing it if the cache does not hold it yet, unless a check of its facts refuses it.

        Raises:
            ValueError, FileNotFoundError: as load_scan, or by the check.
        """
        item = {"file": str(file.absolute()), "stamp": _stamp(file), "made by": _makers(), **self._settings}
        entry = self._folder / f"{hashlib.sha256(json.dumps(item).encode()).hexdigest()}.safetensors"
        try:
            with safe_open(entry, framework="pt") as kept:
                facts = _facts_in(kept)
        except (FileNotFoundError, SafetensorError):
            facts = facts_of([self._prepare(file, entry)])[0]
        if check:
            check(facts)
        self.files.append(file)
        self.facts.append(facts)
        self._entries.append(entry)

    def rename(self, names: Sequence[str]) -> None:
        """Call the scans otherwise than their files."""
        self.facts = [facts._replace(name=name) for facts, name in zip(self.facts, names, strict=True)]

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Scan:
        """A scan, without labels and intensities as stored (`raw` is then `volume`).

        Raises:
            ValueError, FileNotFoundError: if it is no longer in the cache, and its file cannot be read either.
        """
        try:
            with safe_open(self._entries[index], framework="pt") as kept:
                tensors = {name: kept.get_tensor(name) for name in kept.keys()}  # noqa: SIM118
        except (FileNotFoundError, SafetensorError):
            return self._prepare(self.files[index], self._entries[index])._replace(name=self.facts[index].name)
        facts = self.facts[index]
        volume, background = tensors["volume"], float(tensors["background"])
        affine, foreground = tensors["affine"].numpy(), tensors["foreground"]
        known = (facts.spacing, None, {}, facts.modality, background, foreground, facts.name, facts.rule, facts.window)
        return Scan(volume, volume[0], affine, *known)

    def _prepare(self, file: Path, entry: Path) -> Scan:
        scan = load_scan(file, **self._settings)
        scan = scan._replace(raw=scan.volume[0])
        tensors = {
            "volume": scan.volume.contiguous(),
            "foreground": scan.foreground.contiguous(),
            "affine": torch.from_numpy(np.ascontiguousarray(scan.affine)),
            "background": torch.tensor(scan.background, dtype=torch.float64),
        }
        beside = entry.with_name(f".{entry.name}.{os.getpid()}.part")
        try:
            beside.write_bytes(save(tensors, metadata={"facts": json.dumps(facts_of([scan])[0]._asdict())}))
            os.replace(beside, entry)
        finally:
            beside.unlink(missing_ok=True)
        return scan


def facts_of(scans: Scans) -> list[ScanFacts]:
    """The facts of each scan; those of CachedScans are at hand, others are computed."""
    if isinstance(scans, CachedScans):
        return list(scans.facts)
    return [
        ScanFacts(
            scan.name,
            scan.modality,
            tuple(scan.volume.shape[1:]),
            tuple(scan.spacing),
            zlib.crc32(scan.volume.numpy().tobytes()),
            scan.rule,
            scan.window,
        )
        for scan in scans
    ]


def _facts_in(kept: safe_open) -> ScanFacts:
    values = json.loads(kept.metadata()["facts"])
    return ScanFacts(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})


def _stamp(file: Path) -> list:
    """Changes when the file does, one beside it under the same name (.raw with .mhd), or one of a series."""
    found = sorted(file.iterdir()) if file.is_dir() else sorted(file.parent.glob(f"{glob.escape(file.stem)}.*"))
    return [[part.name, part.stat().st_size, part.stat().st_mtime_ns] for part in found]


@cache
def _makers() -> str:
    """The code and the libraries that decide what a prepared scan holds."""
    modules = (scans, files, dicom, slices, pixels, suv, stacks, labelmaps)
    sources = b"".join(Path(module.__file__).read_bytes() for module in modules)
    names = ("monai", "nibabel", "numpy", "pydicom", "scipy", "simpleitk", "torch")
    return ", ".join([hashlib.sha256(sources).hexdigest(), *(f"{name} {version(name)}" for name in names)])
