"""Cases for training: MONAI's dictionaries, transforms that follow the manifest, and lists for peers' code."""

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, MapTransform, NormalizeIntensityd, ScaleIntensityRanged, Spacingd

from s2dc_core.data.cases import Case
from s2dc_core.data.files import WrongShape, read_label, read_volume
from s2dc_core.data.manifests import SECTIONS, Manifest


def items_of(cases: Sequence[Case], section: str | None = None) -> list[dict[str, Any]]:
    """Cases as MONAI's dictionaries of paths: "image" (a path, or the list of all images), each image by its own name,
    "label", "target" (a class), "case" and "patient"; what there is none of is left out.

    Args:
        section: only of this one; default: all.
    """
    items = []
    for case in cases:
        if section not in (None, case.section):
            continue
        paths = {name: str(path) for name, path in case.images.items()}
        image = next(iter(paths.values())) if len(paths) == 1 else list(paths.values())
        item = {**paths, "image": image, "case": case.name, "patient": case.patient}
        item |= {} if case.label is None else {"label": str(case.label)}
        items.append(item | ({} if case.target is None else {"target": case.target}))
    return items


class LoadVolumesd(MapTransform):
    """Paths to MetaTensors [C, X, Y, Z] in RAS+: MONAI's LoadImaged for every format that `read_volume` reads.

    "label" is read as label map, [1, X, Y, Z] int32, on the grid of the first other key.
    """

    def __init__(self, keys: Sequence[Hashable]):
        super().__init__([key for key in keys if key != "label"])
        self.labelled = "label" in keys

    def __call__(self, item: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The item with volumes for paths; a ValueError names a file that cannot be read or lies on another grid."""
        loaded, grid = dict(item), None
        for key in self.keys:
            paths = item[key] if isinstance(item[key], list) else [item[key]]
            volumes = []
            for path in paths:
                data, affine = read_volume(path)
                grid = grid or (data.shape, affine, path)
                if data.shape != grid[0]:
                    raise WrongShape(f"{path} has {data.shape} voxels, {grid[2]} has {grid[0]}")
                volumes.append(data)
            meta = {"filename_or_obj": str(paths[0])}
            loaded[key] = MetaTensor(torch.from_numpy(np.stack(volumes)), affine=torch.from_numpy(affine), meta=meta)
        if self.labelled:
            label = torch.from_numpy(read_label(item["label"], *grid))[None]
            meta = {"filename_or_obj": str(item["label"])}
            loaded["label"] = MetaTensor(label, affine=torch.from_numpy(grid[1]), meta=meta)
        return loaded


def transforms_of(manifest: Manifest, keys: Sequence[str] = ("image",)) -> Compose:
    """What brings an item of `items_of` to the manifest's orientation (RAS+), spacing and intensities, by MONAI.

    A window goes to 0..1; a z-score is taken per image, over its volume or its voxels that are not 0. Crops are left to
    the task: what the manifest names is in `preprocessing["region"]`.

    Args:
        keys: images, and "label" if it is wanted.
    """
    images = [key for key in keys if key != "label"]
    steps: list[MapTransform] = [LoadVolumesd(keys)]
    if spacing := manifest.preprocessing["spacing"]:
        modes = ["nearest" if key == "label" else "bilinear" for key in keys]
        steps.append(Spacingd(keys, pixdim=spacing, mode=modes))
    rule = manifest.preprocessing["intensity"]
    if rule["rule"] == "window":
        steps.append(ScaleIntensityRanged(images, rule["low"], rule["high"], 0.0, 1.0, clip=True))
    else:
        steps.append(NormalizeIntensityd(images, nonzero=rule["over"] == "nonzero", channel_wise=True))
    return Compose(steps)


def decathlon(manifest: Manifest, cases: Sequence[Case], root: str | Path) -> dict[str, Any]:
    """The list of a data set as the Decathlon's dataset.json, which MONAI's load_decathlon_datalist and peers read.

    Paths are relative to the root. Sections are "training", "validation" and "test"; as in the Decathlon the items of
    "test" are bare paths if there is one image and no label.
    """
    root = Path(root).expanduser()

    def relative(place: Path) -> str:
        return place.relative_to(root).as_posix()

    sections: dict[str, list] = {section: [] for section in SECTIONS}
    for case in cases:
        paths = [relative(path) for path in case.images.values()]
        item: dict[str, Any] = {"image": paths if len(paths) > 1 else paths[0]}
        if case.label:
            item["label"] = relative(case.label)
        elif case.target is not None:
            item["label"] = case.target
        bare = case.section == "test" and len(paths) == 1 and len(item) == 1
        sections[case.section].append(paths[0] if bare else item)
    labels = {"0": "background"} if manifest.labels and "0" not in manifest.labels else {}
    names = manifest.image_names
    return {
        "name": manifest.name,
        "description": manifest.title,
        "reference": manifest.citation,
        "licence": manifest.licence,
        "release": "made from data_manifests",
        "tensorImageSize": "3D" if len(names) == 1 else "4D",
        "modality": {str(k): manifest.modality.upper() if len(names) == 1 else name for k, name in enumerate(names)},
        "labels": labels | manifest.labels,
        "numTraining": len(sections["training"]),
        "numValidation": len(sections["validation"]),
        "numTest": len(sections["test"]),
        **sections,
    }
