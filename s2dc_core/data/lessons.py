"""What a lesson opens: a generated body, the MNI152 average or a file of one's own, and what stands in for it."""

from collections.abc import Sequence
from numbers import Real

import torch

from s2dc_core.data.intensities import kind_of
from s2dc_core.data.phantoms import MODALITIES, TISSUES, make_phantom
from s2dc_core.data.scans import Scan, open_scan

GENERATED = tuple(f"phantom_{modality}" for modality in MODALITIES)
AIR = 255
"""Label of the air around a body in `with_tissues`, unless a file of one's own has it already."""


def open_at(
    image: str,
    label: str = "",
    labels: str = "",
    modality: str = "",
    *,
    spacing: Sequence[Real],
    shape: Sequence[int],
    seed: int = 0,
) -> Scan:
    """A generated body of some size, a file resampled to a spacing, or MNI152 at 2 mm; arguments as for `open_scan`.

    A file's scan is called "your NAME": its own name might be CT or MNI152, as one of the lesson's scans is.
    """
    if image in GENERATED:
        return open_scan(image, label, labels, modality, spacing, seed, shape)
    if image == "mni152":
        return open_scan(image, label, labels, modality)
    scan = open_scan(image, label, labels, modality, spacing)
    return scan._replace(name=f"your {scan.name}")


def title_of(scan: Scan) -> str:
    """CT, PET or MR T1 of a generated body; else the scan's name."""
    return scan.modality.upper().replace("_", " ") if scan.name.startswith(GENERATED) else scan.name


def stand_in(scan: Scan) -> str:
    """The generated image of a scan's modality, by its name: what a lesson shows where the scan has too little."""
    return {"ct": "phantom_ct", "pet": "phantom_pet"}.get(kind_of(scan.modality), "phantom_mr_t1")


def with_tissues(scan: Scan, seed: int | None = None) -> Scan:
    """A scan with every tissue that is known of it as a label, and the air around the body as one more.

    Organs of a generated body keep their labels. `open_scan` labels the 13 organs alone: a heatmap is then never asked
    whether it takes a vertebra for a kidney.

    Args:
        scan: of `open_at` or `open_scan`.
        seed: of a generated body; None for a file, of which its own labels are all that is known.
    """
    label, names = scan.label, dict(scan.names)
    if seed is not None:
        tissue = make_phantom(seed, shape=tuple(scan.raw.shape), spacing=scan.spacing).tissue
        label, names = torch.from_numpy(tissue).int(), dict(TISSUES)
    label = torch.zeros(scan.raw.shape, dtype=torch.int32) if label is None else label
    air = AIR if not (label == AIR).any() else int(label.max()) + 1
    return scan._replace(label=label.where((label != 0) | scan.foreground, air), names=names | {air: "air"})
