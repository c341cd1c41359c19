"""Classification (tables 4 and 8): one answer for a whole case, scored by accuracy."""

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from monai.transforms import RandFlipd, RandScaleIntensityd, RandShiftIntensityd, Resize
from monai.utils import convert_to_tensor
from torch import Tensor, nn

from s2dc_core.downstream.config import FinetuneConfig
from s2dc_core.downstream.examples import Example, Examples
from s2dc_core.downstream.networks import Classifier
from s2dc_core.downstream.tasks import POOLED_LEVELS, Task, seeded
from s2dc_core.encoder import EncoderConfig


class Classification(Task):
    """A linear layer on pooled Swin features of the whole case, which is resized to the recipe's region.

    Args:
        names: {number: name} of the classes.
    """

    main = "accuracy"

    def __init__(self, names: Mapping[int, str]):
        if len(names) < 2:
            raise ValueError(f"a classification needs two classes or more, got {dict(names)}")
        self.names = dict(sorted(names.items()))
        self._numbers = list(self.names)

    def network(self, encoder: EncoderConfig, config: FinetuneConfig) -> nn.Module:
        """Encoder, pooling, linear layer.

        Raises:
            ValueError: for a head without a Swin encoder.
        """
        if config.head == "vit_unetr":
            raise ValueError(
                "a classification pools the Swin encoder's tokens: head=vit_unetr is for answers to voxels"
            )
        return Classifier(encoder, len(self.names), config.levels or POOLED_LEVELS)

    def draw(self, example: Example, config: FinetuneConfig, seed: int) -> tuple[Tensor, Tensor]:
        """The whole case, flipped and its intensities changed as the recipe says, and the place of its class."""
        flips = [RandFlipd("image", config.flip, axis) for axis in range(3)] if config.flip else []
        size = config.intensity
        changes = [RandScaleIntensityd("image", size, prob=1.0), RandShiftIntensityd("image", size, prob=1.0)]
        item = {"image": _resized(example, config), "truth": self._place(example)}
        return seeded([*flips, *(changes if size else [])], item, seed)

    def loss(self, output: Float[Tensor, "b k"], truth: Int[Tensor, " b"]) -> Float[Tensor, ""]:
        """Cross-entropy."""
        return nn.functional.cross_entropy(output, truth)

    def predict(
        self, network: nn.Module, example: Example, config: FinetuneConfig, device: torch.device
    ) -> Float[Tensor, " k"]:
        """Probability of each class, in the order of their numbers."""
        return network(_resized(example, config)[None].to(device))[0].float().softmax(0).cpu()

    def score(self, prediction: Float[Tensor, " k"], example: Example) -> dict[str, float]:
        """Whether the most probable class is right, 1 or 0, and both classes' numbers."""
        said, is_ = self._numbers[int(prediction.argmax())], self._numbers[int(self._place(example))]
        return {"accuracy": float(said == is_), "said": float(said), "is": float(is_)}

    def refuse_case(self, examples: Examples, index: int) -> None:
        """A case that cannot be read, or a class without a name."""
        super().refuse_case(examples, index)
        entry = examples.entries[index]
        if entry.get("target") is not None:
            self._refuse_unknown(entry["name"], entry["target"])

    def refuse_training(self, examples: Examples) -> None:
        """A class without a name, or a name that no training case has."""
        targets = {entry.get("target") for entry in examples.entries}
        if missing := [name for number, name in self.names.items() if number not in targets]:
            raise ValueError(
                f"none of the {len(examples)} training cases is {', '.join(missing)}: nothing can be learnt of it"
            )

    def _refuse_unknown(self, case: str, number: object) -> None:
        if number not in self._numbers:
            raise ValueError(f"{case} is of the class {number}, which has no name: {self.names}")

    def _place(self, example: Example) -> Tensor:
        self._refuse_unknown(example.name, example.truth)
        return torch.tensor(self._numbers.index(example.truth))


def _resized(example: Example, config: FinetuneConfig) -> Tensor:
    resized = Resize(config.region, mode="trilinear", align_corners=False)(example.image)
    return convert_to_tensor(resized, track_meta=False)
