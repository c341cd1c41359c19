"""A contact sheet of a data set: does it look as it should?"""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from s2dc_core.data.files import read_label, read_volume
from s2dc_core.data.layout import Case
from s2dc_core.data.manifests import Manifest
from s2dc_core.plots import SheetEntry, contact_sheet


def preview(manifest: Manifest, cases: Sequence[Case], count: int = 8) -> Figure:
    """Slices through the middle of some cases, spread evenly over the list, with their labels.

    A case with a label map is cut through the middle of what is labelled, others through the middle of the volume.

    Raises:
        ValueError: if a case cannot be read, or there is none.
    """
    if not cases:
        raise ValueError(f"{manifest.name} has no case to show")
    chosen = [cases[k] for k in np.unique(np.linspace(0, len(cases) - 1, count).round().astype(int))]
    return contact_sheet(manifest.title, (_entry(manifest, case) for case in chosen), manifest.label_names, len(chosen))


def _entry(manifest: Manifest, case: Case) -> SheetEntry:
    path = next(iter(case.images.values()))
    data, affine = read_volume(path, any_unit=True)
    label = None if case.label is None else read_label(case.label, data.shape, affine, path)
    window = manifest.window if manifest.modality == "ct" else (None, None)
    title = case.name if case.target is None else f"{case.name}: {manifest.label_names.get(case.target, case.target)}"
    return SheetEntry(f"{title} ({case.section})", data, affine, label, window)
