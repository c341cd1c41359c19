"""Scans that are prepared once, kept on disk and read back one at a time, for folders that do not fit into memory."""

import glob
import hashlib
import json
import os
import platform
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from functools import cache
from importlib.metadata import version
from itertools import product
from numbers import Real
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from einops import rearrange
from joblib import Parallel, cpu_count, delayed
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from tqdm.auto import tqdm

from s2dc_core.data import dicom, files, intensities, labelmaps, pixels, scans, slices, stacks, suv, units
from s2dc_core.data.intensities import CT_WINDOW
from s2dc_core.data.scans import Scan, Spacings, check_spacing, load_scan
from s2dc_core.views import bounding_box

# Of Scan. Not written as such: who checks the kind of an entry would read a file for it.
Scans = Sequence


UNUSABLE = (OSError, SafetensorError, ValueError, KeyError, TypeError)
"""What an entry raises that is not there, is damaged, or was written by an earlier version."""
BLOCK = 32
"""Voxels along each side of what an entry keeps together and is read whole."""
WORTH = 2**26
"""Bytes of files from which it is worth to start other processes, which takes some seconds."""
MOST = 8
"""Processes that prepare at a time, each of which holds a whole scan several times over."""
HERE = "{file}"
"""Stands for the path in what is said of a file, which may be reached by another one the next time."""


class ScanFacts(NamedTuple):
    """What a run has to know of a scan before it reads it.

    Attributes:
        name, modality: see Scan.
        shape, spacing: voxels, and their sides in mm.
        checksum: CRC-32 of the normalised voxels.
        rule, window, scale, offset: of the intensities, see Scan.
    """

    name: str
    modality: str
    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    checksum: int
    rule: str | None = None
    window: tuple[float, float] | None = None
    scale: float = 1.0
    offset: float = 0.0

    def __str__(self) -> str:
        return f"{self.name}: {self.modality}, {self.shape} voxels of {self.spacing} mm, {self.checksum:08x}"


class Outline(NamedTuple):
    """What must be known of a scan to read a part of it.

    Attributes:
        name, shape, spacing: see ScanFacts.
        background: normalised value of air.
        box: along each axis the first voxel of the foreground and the one beyond its last; of all the scan if it has
            none.
        empty: whether it has none.
    """

    name: str
    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    background: float
    box: tuple[tuple[int, int], ...]
    empty: bool


class _Note(NamedTuple):
    """What an entry says of itself: facts and outline of the scan, its blocks' checksums, what is odd."""

    facts: ScanFacts
    affine: np.ndarray
    background: float
    box: tuple[tuple[int, int], ...]
    empty: bool
    blocks: list[int]
    remarks: list[str]


class CachedScans(Sequence[Scan]):
    """The scans of some files, each prepared from its file once and read from the cache afterwards.

    An entry is a file of tensors, written beside its place and renamed, so that several processes may share a cache
    (MONAI's PersistentDataset moves its files in from another disk, where others can meet half of one). Its name holds
    the file's path, size and time, the settings, and the code and libraries that prepare scans: whatever of these
    changes, the scan is prepared anew. So it is if an entry is damaged, or lies under another's name. Volume and
    foreground lie in blocks of BLOCK voxels a side, and the checksums of those that are read are compared each time.

    Attributes:
        files, facts: of each scan.
        in_parts: that `outline` and `cut` read parts of scans.
    """

    in_parts = True

    def __init__(
        self,
        folder: str | Path,
        modality: str,
        spacing: Spacings = None,
        rule: str = "default",
        window: tuple[Real, Real] = CT_WINDOW,
        scale: Real = 1.0,
        offset: Real = 0.0,
    ):
        self.files: list[Path] = []
        self.facts: list[ScanFacts] = []
        self._entries: list[Path] = []
        self._outlines: list[Outline] = []
        self._folder = Path(folder).expanduser()
        self._folder.mkdir(parents=True, exist_ok=True)
        spacing = None if spacing is None else check_spacing(spacing)
        self._settings = {"modality": modality, "spacing": spacing, "rule": rule, "window": window}
        self._settings |= {"scale": float(scale), "offset": float(offset)}

    def add(self, file: Path, check: Callable[[ScanFacts], object] | None = None) -> None:
        """Take a file in, preparing it if the cache does not hold it yet, unless a check of its facts refuses it.

        Raises:
            ValueError, FileNotFoundError: as load_scan, or by the check.

        Warns:
            UserWarning: of the file as load_scan, also where the cache holds it.
        """
        entry = self._entry_of(file)
        try:
            with safe_open(entry, framework="pt") as kept:
                note = _noted(kept, entry)
        except UNUSABLE:
            scan, facts, remarks = self._prepare(file)
            note = _write(scan, facts, remarks, entry)
        for sentence in note.remarks:
            warnings.warn(sentence.replace(HERE, str(file)), stacklevel=2)
        if check:
            check(note.facts)
        self.files.append(file)
        self.facts.append(note.facts)
        self._entries.append(entry)
        known = (note.facts.shape, note.facts.spacing, note.background, note.box, note.empty)
        self._outlines.append(Outline(note.facts.name, *known))

    def prepare(self, files: Sequence[Path], processes: int | None = None, progress: bool = False) -> None:
        """Prepare the files that the cache does not hold in several processes at once, if they are large enough.

        Of what cannot be used nothing is said here: `add` meets it again.

        Args:
            processes: None for as many as there are cores, MOST at most, shared with the others of a launcher.
        """
        cores = min(cpu_count() // int(os.environ.get("WORLD_SIZE", 1)), MOST)
        missing: dict[Path, int] = {}
        for file in files:
            with suppress(OSError, ValueError):
                if not self._entry_of(file).exists():
                    missing[file] = sum(size for _, size, _ in _stamp(file))
        processes = min(processes or cores, len(missing))
        if processes < 2 or sum(missing.values()) < WORTH:
            return
        work = Parallel(processes, return_as="generator_unordered")
        jobs = (delayed(_prepare_alone)(self._folder, self._settings, file) for file in missing)
        with suppress(BrokenProcessPool):  # one of them was killed, for want of memory perhaps: one after another then
            for _ in tqdm(work(jobs), total=len(missing), disable=not progress, unit="scan", leave=False):
                pass

    def _entry_of(self, file: Path) -> Path:
        item = {"file": str(file.absolute()), "stamp": _stamp(file), "made by": _makers(), **self._settings}
        return self._folder / f"{hashlib.sha256(json.dumps(item).encode()).hexdigest()}.safetensors"

    def rename(self, names: Sequence[str]) -> None:
        """Call the scans otherwise than their files."""
        self.facts = [facts._replace(name=name) for facts, name in zip(self.facts, names, strict=True)]

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Scan:
        """A scan, without labels and intensities as stored (`raw` is then `volume`).

        Raises:
            ValueError: if the cache no longer holds it whole, and its file cannot be read either, or has changed.
        """
        try:
            return _read(self._entries[index])._replace(name=self.facts[index].name)
        except UNUSABLE as damage:
            return self._prepare_again(index, damage)

    def outline(self, index: int) -> Outline:
        """What must be known of a scan to read a part of it, without reading any."""
        return self._outlines[index]._replace(name=self.facts[index].name)

    def cut(self, index: int, window: Sequence[slice]) -> tuple[torch.Tensor, torch.Tensor]:
        """Volume and foreground within a window of the voxels, as far as the scan reaches; only their blocks are read.

        Raises:
            ValueError: as of a whole scan.
        """
        try:
            return _read_window(self._entries[index], window)
        except UNUSABLE as damage:
            scan = self._prepare_again(index, damage)
            return scan.volume[(slice(None), *window)], scan.foreground[tuple(window)]

    def _prepare_again(self, index: int, damage: Exception) -> Scan:
        file, entry = self.files[index], self._entries[index]
        try:
            scan, facts, remarks = self._prepare(file)
            if facts._replace(name=self.facts[index].name) != self.facts[index]:
                raise ValueError(f"{file} has changed since it was first read")
        except (OSError, ValueError) as error:
            gone = "is no longer there" if isinstance(damage, FileNotFoundError) else f"is damaged ({damage})"
            raise ValueError(f"{error}; and its entry {entry.name} in the cache {self._folder} {gone}") from error
        with suppress(OSError):  # the scan is at hand, and the cache will be asked again
            _write(scan, facts, remarks, entry)
        return scan._replace(raw=scan.volume[0], name=self.facts[index].name)

    def _prepare(self, file: Path) -> tuple[Scan, ScanFacts, list[str]]:
        remarks: list[str] = []
        with overheard(file, remarks):
            scan = load_scan(file, **self._settings)
        return scan, facts_of([scan])[0], [sentence.replace(str(file), HERE) for sentence in remarks]


def _prepare_alone(folder: Path, settings: Mapping, file: Path) -> None:
    with suppress(Exception), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        CachedScans(folder, **settings).add(file)


@contextmanager
def overheard(file: Path, remarks: list[str]) -> Iterator[None]:
    """Collects what is said of the file that is read; what libraries say in general is let pass."""
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        yield
    said = [str(each.message) for each in heard if issubclass(each.category, UserWarning)]
    remarks += [sentence for sentence in said if str(file) in sentence]


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
            scan.scale,
            scan.offset,
        )
        for scan in scans
    ]


def _write(scan: Scan, facts: ScanFacts, remarks: Sequence[str], entry: Path) -> _Note:
    box, empty = tuple(bounding_box(scan.foreground)), not scan.foreground.any()
    blocks = {"volume": _to_blocks(scan.volume), "foreground": _to_blocks(scan.foreground[None])}
    checksums = [_checksum(*pair) for pair in zip(*blocks.values(), strict=True)]
    affine = np.asarray(scan.affine, dtype=np.float64)
    noted = _Note(facts, affine, float(scan.background), box, bool(empty), checksums, list(remarks))
    values = {**noted._asdict(), "facts": facts._asdict(), "affine": affine.tolist()}
    note = json.dumps({"entry": entry.name, **values})
    beside = entry.with_name(f".{entry.name}.{platform.node()}.{os.getpid()}.part")
    try:
        beside.write_bytes(save(blocks, metadata={"note": note, "checksum": str(zlib.crc32(note.encode()))}))
        os.replace(beside, entry)
    finally:
        beside.unlink(missing_ok=True)
    return noted


def _read(entry: Path) -> Scan:
    with safe_open(entry, framework="pt") as kept:
        note = _noted(kept, entry)
        everything = [slice(0, side) for side in note.facts.shape]
        volume, foreground = _window_of(kept, note, everything)
    facts = note.facts
    known = (facts.spacing, None, {}, facts.modality, note.background, foreground, facts.name)
    return Scan(volume, volume[0], note.affine, *known, facts.rule, facts.window, facts.scale, facts.offset)


def _read_window(entry: Path, window: Sequence[slice]) -> tuple[torch.Tensor, torch.Tensor]:
    with safe_open(entry, framework="pt") as kept:
        note = _noted(kept, entry)
        within = [slice(part.start, min(part.stop, side)) for part, side in zip(window, note.facts.shape, strict=True)]
        return _window_of(kept, note, within)


def _window_of(kept: safe_open, note: _Note, window: Sequence[slice]) -> tuple[torch.Tensor, torch.Tensor]:
    """Volume and foreground within a window, from the blocks that it touches."""
    grid = [-(-side // BLOCK) for side in note.facts.shape]
    touched = [range(part.start // BLOCK, -(-part.stop // BLOCK)) for part in window]
    stored = [kept.get_slice(name) for name in ("volume", "foreground")]
    channels = stored[0].get_shape()[1]
    sides = [BLOCK * len(part) for part in touched]
    found = torch.empty(channels, *sides), torch.empty(1, *sides, dtype=torch.bool)
    for i, j in product(*map(enumerate, touched[:2])):
        first = (i[1] * grid[1] + j[1]) * grid[2] + touched[2].start
        row = [each[first : first + len(touched[2])] for each in stored]  # blocks of a row follow each other
        for k, (pair, expected) in enumerate(zip(zip(*row, strict=True), note.blocks[first:], strict=False)):
            if _checksum(*pair) != expected:
                raise ValueError("the checksum of a block is another")
            place = tuple(slice(n * BLOCK, (n + 1) * BLOCK) for n in (i[0], j[0], k))
            for target, block in zip(found, pair, strict=True):
                target[(slice(None), *place)] = block
    inner = tuple(
        slice(part.start - each.start * BLOCK, part.stop - each.start * BLOCK)
        for part, each in zip(window, touched, strict=True)
    )
    volume, foreground = (each[(slice(None), *inner)].contiguous() for each in found)
    return volume, foreground[0]


def _to_blocks(volume: torch.Tensor) -> torch.Tensor:
    """[C, X, Y, Z] as blocks [n, C, BLOCK, BLOCK, BLOCK], those along z one after another, zeros at the far ends."""
    missing = [(-side) % BLOCK for side in volume.shape[1:]]
    padded = torch.nn.functional.pad(volume, [amount for room in reversed(missing) for amount in (0, room)])
    return rearrange(padded, "c (x a) (y b) (z d) -> (x y z) c a b d", a=BLOCK, b=BLOCK, d=BLOCK).contiguous()


def _noted(kept: safe_open, entry: Path) -> _Note:
    note = kept.metadata()["note"]
    if kept.metadata()["checksum"] != str(zlib.crc32(note.encode())):
        raise ValueError("its header has another checksum")
    values = json.loads(note)
    if values.pop("entry") != entry.name:
        raise ValueError("it was written under another name")
    facts = {name: tuple(value) if isinstance(value, list) else value for name, value in values["facts"].items()}
    box = tuple(map(tuple, values["box"]))
    return _Note(**{**values, "facts": ScanFacts(**facts), "affine": np.array(values["affine"]), "box": box})


def _checksum(*tensors: torch.Tensor) -> int:
    """CRC-32 of the numbers of some tensors, one after another."""
    found = 0
    for tensor in tensors:
        found = zlib.crc32(tensor.numpy(), found)
    return found


def _stamp(file: Path) -> list:
    """Changes when the file does, one beside it under the same name (.raw with .mhd), or one of a series."""
    found = sorted(file.iterdir()) if file.is_dir() else sorted(file.parent.glob(f"{glob.escape(file.stem)}.*"))
    return [[part.name, part.stat().st_size, part.stat().st_mtime_ns] for part in found]


@cache
def _makers() -> str:
    """The code and the libraries that decide what a prepared scan holds."""
    modules = (scans, files, intensities, units, dicom, slices, pixels, suv, stacks, labelmaps)
    sources = b"".join(Path(module.__file__).read_bytes() for module in modules)
    names = ("monai", "nibabel", "numpy", "pydicom", "scipy", "simpleitk", "torch")
    return ", ".join([hashlib.sha256(sources).hexdigest(), *(f"{name} {version(name)}" for name in names)])
