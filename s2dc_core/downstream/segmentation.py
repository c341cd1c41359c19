"""Segmentation (tables 1 and 3): which structure each voxel belongs to, scored by Dice."""

import math
import weakref
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from monai.losses import DiceCELoss, DiceLoss
from monai.transforms import RandCropByLabelClassesd, RandScaleIntensityd, RandShiftIntensityd
from monai.transforms.utils import map_classes_to_indices
from torch import Tensor, nn

from s2dc_core.downstream.config import FinetuneConfig
from s2dc_core.downstream.examples import Example, Examples
from s2dc_core.downstream.scores import class_scores
from s2dc_core.downstream.tasks import VoxelTask, draw_crop

MOST_CENTRES = 20_000
"""Voxels of a class that a crop may be centred on; of a larger one it is a sample."""


class Segmentation(VoxelTask):
    """Dice and cross-entropy together, over all classes or over each region by itself.

    Args:
        names: {number in the label map: name} of the classes; 0, the background, is not among them.
        regions: {name: numbers} of unions that may overlap, such as BraTS' TC, WT and ET; they are then what is learnt
            and scored. Default: each voxel has one class.
    """

    main = "Dice"

    def __init__(self, names: Mapping[int, str], regions: Mapping[str, Sequence[int]] | None = None):
        if not names or min(names) < 1:
            raise ValueError(f"a segmentation needs names of labels from 1 up, got {dict(names)}")
        self.names, self.regions = dict(sorted(names.items())), dict(regions or {})
        self.scored = list(self.regions) or list(self.names.values())
        self.outputs = len(self.regions) or 1 + len(self.names)
        self._numbers = torch.tensor([0, *self.names])
        self._centres: dict[int, tuple[weakref.ref, torch.Size, list[np.ndarray]]] = {}
        self._one_class, self._overlap = DiceCELoss(to_onehot_y=True, softmax=True), DiceLoss(sigmoid=True)

    def draw(self, example: Example, config: FinetuneConfig, seed: int) -> tuple[Tensor, Tensor]:
        """A crop around a voxel of a class that is drawn first, so that small structures are seen as often as large."""
        classes = len(self._numbers)
        background = config.background_share * (classes - 1) / (1 - config.background_share)
        ratios = [background, *[1.0] * (classes - 1)]
        crop = RandCropByLabelClassesd(
            ("image", "truth"), "truth", config.region, ratios, classes, indices_key="centres", warn=False
        )
        size = config.intensity
        changes = [RandScaleIntensityd("image", size, prob=1.0), RandShiftIntensityd("image", size, prob=1.0)]
        known = lambda truth: {"centres": self._centres_in(example, truth)}  # noqa: E731
        image, truth = draw_crop(example, example.truth[None], config, crop, changes if size else [], seed, known)
        return image, self._numbered(truth)

    def loss(self, output: Float[Tensor, "b k x y z"], truth: Int[Tensor, "b 1 x y z"]) -> Float[Tensor, ""]:
        """DiceCELoss; for regions, Dice and the cross-entropy of each region's yes or no.

        MONAI's DiceCELoss would make the regions compete for a voxel, though one lies in the other.
        """
        if not self.regions:
            return self._one_class(output, truth)
        masks = torch.stack([self._masks(each) for each in truth[:, 0]]).float()
        return self._overlap(output, masks) + nn.functional.binary_cross_entropy_with_logits(output, masks)

    def predict(
        self, network: nn.Module, example: Example, config: FinetuneConfig, device: torch.device
    ) -> Bool[Tensor, "k x y z"]:
        """A mask of each scored class."""
        answers = self.answers(network, example, config, device)
        return answers > 0 if self.regions else self._masks(answers.argmax(0))

    def score(self, prediction: Bool[Tensor, "k x y z"], example: Example) -> dict[str, float]:
        """Dice of each class, and their mean over the classes that the case has.

        A class that it lacks is left out of that mean; "invented NAME" is then 1 if the network found any of it, or 0.
        """
        found = class_scores(prediction, self.masks(example), self.scored)
        known = {name: value for name, value in found.dice.items() if not math.isnan(value)}
        invented = {f"invented {name}": float(said) for name, said in found.invented.items() if name not in known}
        return {"Dice": sum(known.values()) / len(known) if known else math.nan, **known, **invented}

    def refuse_case(self, examples: Examples, index: int) -> None:
        """A case that cannot be read, or a label without a name."""
        super().refuse_case(examples, index)
        self._refuse_unknown(examples.names[index], examples.labels_in(index))

    def refuse_training(self, examples: Examples) -> None:
        """A label without a name, or a name that no training case has."""
        seen: set[int] = set()
        for index, name in enumerate(examples.names):
            values = examples.labels_in(index)
            self._refuse_unknown(name, values)
            seen |= values
        if missing := [name for number, name in self.names.items() if number not in seen]:
            raise ValueError(
                f"none of the {len(examples)} training cases holds {', '.join(missing)}: nothing can be learnt of it. "
                "Take other cases, or leave the class out of the labels"
            )

    def masks(self, example: Example) -> Bool[Tensor, "k x y z"]:
        """Where each scored class is, by the truth."""
        return self._masks(self._encoded(example))

    def _encoded(self, example: Example) -> Int[Tensor, "x y z"]:
        """The label map with its classes numbered 0, 1, 2 in the order of their numbers."""
        self._refuse_unknown(example.name, set(example.truth.unique().tolist()))
        return self._numbered(example.truth)

    def _numbered(self, truth: Int[Tensor, "*shape"]) -> Int[Tensor, "*shape"]:
        return torch.searchsorted(self._numbers, truth.contiguous())

    def _centres_in(self, example: Example, truth: Int[Tensor, "1 x y z"]) -> list[np.ndarray]:
        """Of each class up to MOST_CENTRES voxels, places in the padded label map; found once for a case."""
        known = self._centres.get(id(example.truth))
        if known is None or known[0]() is not example.truth or known[1] != truth.shape:
            self._refuse_unknown(example.name, set(example.truth.unique().tolist()))
            found = map_classes_to_indices(
                self._numbered(torch.as_tensor(truth)), len(self._numbers), max_samples_per_class=MOST_CENTRES
            )
            self._centres = {key: value for key, value in self._centres.items() if value[0]() is not None}
            known = weakref.ref(example.truth), truth.shape, [np.asarray(each) for each in found]
            self._centres[id(example.truth)] = known
        return known[2]

    def __getstate__(self) -> dict:
        """Without what was found, which another process finds for itself."""
        return {**self.__dict__, "_centres": {}}

    def _masks(self, encoded: Int[Tensor, "x y z"]) -> Bool[Tensor, "k x y z"]:
        if not self.regions:
            return torch.stack([encoded == k for k in range(1, self.outputs)])
        order = self._numbers.tolist()
        parts = [[order.index(number) for number in numbers] for numbers in self.regions.values()]
        return torch.stack([torch.isin(encoded, encoded.new_tensor(part)) for part in parts])

    def _refuse_unknown(self, case: str, values: set[int]) -> None:
        if strange := sorted(values - {0, *self.names}):
            known = ", ".join(f"{number} {name}" for number, name in self.names.items())
            raise ValueError(f"{case} holds the label {', '.join(map(str, strange))}, which has no name: {known}")
