"""Cases for training: MONAI's dictionaries, transforms that follow the manifest, and lists for peers' code."""

import os
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, MapTransform, NormalizeIntensityd, ScaleIntensityRanged, Spacingd

from s2dc_core.data.files import check_grid, read_label, read_volume
from s2dc_core.data.intensities import CT_WINDOW, RULES, normalise
from s2dc_core.data.layout import Case
from s2dc_core.data.manifests import SECTIONS, Manifest
from s2dc_core.data.scans import read_checked
from s2dc_core.options import check_choice


def items_of(manifest: Manifest, cases: Sequence[Case], section: str | None = None) -> list[dict[str, Any]]:
    """Cases as MONAI's dictionaries of paths: "image" (a path, or a list if there are several, without those that are
    to be predicted), each image by its own name, "label", "target" (a class), "case" and "patient"; what there is none
    of is left out.

    Args:
        section: only of this one; default: all.
    """
    items = []
    for case in cases:
        if section not in (None, case.section):
            continue
        paths = {name: str(path) for name, path in case.images.items()}
        inputs = [path for name, path in paths.items() if name not in manifest.targets]
        image = inputs[0] if len(inputs) == 1 else inputs
        item = {**paths, "image": image, "case": case.name, "patient": case.patient}
        item |= {} if case.label is None else {"label": str(case.label)}
        items.append(item | ({} if case.target is None else {"target": case.target}))
    return items


class LoadVolumesd(MapTransform):
    """Paths to MetaTensors [C, X, Y, Z] in RAS+: MONAI's LoadImaged for every format that `read_volume` reads.

    "label" is read as label map, [1, X, Y, Z] int32, on the grid of the first other key.

    Args:
        keys: to read.
        manifest: says which units the images must have; default: any.
    """

    def __init__(self, keys: Sequence[Hashable], manifest: Manifest | None = None):
        super().__init__([key for key in keys if key != "label"])
        self.labelled = "label" in keys
        self.manifest = manifest

    def __call__(self, item: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The item with volumes for paths; a ValueError names a file that cannot be read or lies on another grid."""
        loaded, grid = dict(item), None
        for key in self.keys:
            paths = item[key] if isinstance(item[key], list) else [item[key]]
            volumes = []
            for name, path in zip(self._names(key, paths), paths, strict=True):
                data, affine = self._read(name, path)
                grid = grid or (data.shape, affine, path)
                check_grid(path, data.shape, affine, grid[2], *grid[:2])
                volumes.append(data)
            meta = {"filename_or_obj": str(paths[0])}
            loaded[key] = MetaTensor(torch.from_numpy(np.stack(volumes)), affine=torch.from_numpy(affine), meta=meta)
        if self.labelled:
            label = torch.from_numpy(read_label(item["label"], *grid))[None]
            meta = {"filename_or_obj": str(item["label"])}
            loaded["label"] = MetaTensor(label, affine=torch.from_numpy(grid[1]), meta=meta)
        return loaded

    def _names(self, key: Hashable, paths: Sequence[str]) -> list[Hashable]:
        """Of the images behind a key: "image" stands for all that are inputs."""
        inputs = self.manifest.input_names if self.manifest else []
        return inputs if key == "image" and len(inputs) == len(paths) else [key] * len(paths)

    def _read(self, name: Hashable, path: str) -> tuple[np.ndarray, np.ndarray]:
        if self.manifest is None:
            return read_volume(path, any_unit=True)
        return read_checked(
            path, self.manifest.kind_of(str(name)), self.manifest.rule, **self.manifest.unit_of(str(name))
        )


class NormaliseAsTrainedd(MapTransform):
    """Images as pre-training has them: `scans.normalise` by the manifest's kinds and window."""

    def __init__(self, keys: Sequence[Hashable], manifest: Manifest, rule: str):
        super().__init__(keys)
        self.manifest, self.rule = manifest, rule

    def __call__(self, item: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The item with other intensities."""
        done = dict(item)
        for key in self.keys:
            kind = self.manifest.kind_of(str(key))
            window = self.manifest.window if kind == self.manifest.modality else CT_WINDOW
            channels = [normalise(channel, kind, None, self.rule, window) for channel in item[key].as_tensor()]
            done[key] = MetaTensor(torch.stack(channels), meta=item[key].meta)
        return done


def labels_in(item: Mapping[str, Any]) -> set[int]:
    """The values of an item's label map, without its images, which take much longer to read.

    Raises:
        FileNotFoundError, ValueError: for a file that cannot be read.
    """
    return set(np.round(np.unique(read_volume(item["label"])[0])).astype(int).tolist())


def transforms_of(manifest: Manifest, keys: Sequence[str] = ("image",), rule: str = "manifest") -> Compose:
    """What brings an item of `items_of` to the manifest's orientation (RAS+), spacing and intensities, by MONAI.

    A window goes to 0..1; a z-score is taken per image, over its volume or its voxels that are not 0. Crops are left to
    the task: what the manifest names is in `preprocessing["region"]`.

    Args:
        keys: images, and "label" if it is wanted.
        rule: of the intensities: "manifest"; or "default" or "paper" for what pre-training did, see scans.normalise,
            which images that are to be predicted do not follow.

    Raises:
        ValueError: for another rule.
    """
    check_choice("rule", rule, ("manifest", *RULES))
    images = [key for key in keys if key != "label"]
    steps: list[MapTransform] = [LoadVolumesd(keys, manifest)]
    if spacing := manifest.preprocessing["spacing"]:
        modes = ["nearest" if key == "label" else "bilinear" for key in keys]
        steps.append(Spacingd(keys, pixdim=spacing, mode=modes))
    if rule != "manifest":
        inputs = [key for key in images if key not in manifest.targets]
        steps.append(NormaliseAsTrainedd(inputs, manifest, rule))
        images = [key for key in images if key in manifest.targets]
    own = manifest.preprocessing["intensity"]
    if not images:
        return Compose(steps)
    if own["rule"] == "window":
        steps.append(ScaleIntensityRanged(images, own["low"], own["high"], 0.0, 1.0, clip=True))
    else:
        steps.append(NormalizeIntensityd(images, nonzero=own["over"] == "nonzero", channel_wise=True))
    return Compose(steps)


def decathlon(manifest: Manifest, cases: Sequence[Case], folder: str | Path) -> dict[str, Any]:
    """The list of a data set as the Decathlon's dataset.json, which MONAI's load_decathlon_datalist and peers read.

    Paths are relative to the folder that the list will lie in, as readers take them. Sections are "training",
    "validation" and "test"; as in the Decathlon the items of "test" are bare paths if there is one image and no label.
    Images that are to be predicted are under their own names.
    """

    def relative(place: str | Path) -> str:
        return Path(os.path.relpath(place, folder)).as_posix()

    sections: dict[str, list] = {section: [] for section in SECTIONS}
    for case, known in zip(cases, items_of(manifest, cases), strict=True):
        image = known["image"]
        item: dict[str, Any] = {"image": list(map(relative, image)) if isinstance(image, list) else relative(image)}
        item |= {name: relative(known[name]) for name in manifest.targets}
        if case.label:
            item["label"] = relative(case.label)
        elif case.target is not None:
            item["label"] = case.target
        bare = case.section == "test" and isinstance(image, str) and len(item) == 1
        sections[case.section].append(item["image"] if bare else item)
    labels = {"0": "background"} if manifest.labels and "0" not in manifest.labels else {}
    names = manifest.input_names
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
