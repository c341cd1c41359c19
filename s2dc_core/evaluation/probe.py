"""A linear probe: what a linear reading of frozen tokens knows of organs, or of a whole case, after a few labels."""

from collections.abc import Iterable, Sequence
from numbers import Real
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from s2dc_core.features import organ_grid, token_features


@runtime_checkable
class Labelled(Protocol):
    """What has an image with labels on its grid, such as downstream.Example.

    Attributes:
        image: [C, X, Y, Z], normalised.
        truth: [X, Y, Z], 0 for background.
        affine, background: see Scan.
    """

    image: Tensor
    truth: Tensor
    affine: np.ndarray
    background: float


def example_tokens(
    encoder: nn.Module, examples: Iterable[Labelled], levels: Real | Sequence[Real]
) -> list[tuple[Float[np.ndarray, "t c"], Int[np.ndarray, " t"]]]:
    """Of each example all tokens and the label that fills at least half of each, 0 for background."""
    found = []
    for example in examples:
        token_map = token_features(encoder, example.image, levels, affine=example.affine, background=example.background)
        owner = organ_grid(token_map, example.truth).flatten().numpy()
        found.append((token_map.features.flatten(0, 2).numpy(), owner))
    return found


def pooled_tokens(
    encoder: nn.Module,
    images: Iterable[Float[Tensor, "1 x y z"]],
    levels: Sequence[int],
    size: Sequence[int],
) -> Float[np.ndarray, "n c"]:
    """Of each image one vector: the tokens of each level averaged over it, the levels joined.

    Args:
        images: whole cases, normalised.
        size: voxels [x, y, z] that each is resized to, as a classification does (downstream.Classification).
    """
    found = []
    with torch.no_grad():
        for image in images:
            whole = torch.as_tensor(image)[None].float()
            maps = encoder(nn.functional.interpolate(whole, size=tuple(size), mode="trilinear", align_corners=False))
            found.append(torch.cat([maps[level].mean((2, 3, 4))[0] for level in levels]))
    return torch.stack(found).numpy()


def probe_dice(
    training: Sequence[tuple[np.ndarray, np.ndarray]],
    scored: Sequence[tuple[np.ndarray, np.ndarray]],
    penalty: float = 100.0,
) -> dict[int, float]:
    """Dice of tokens, by label, over all scored examples; see `fit_probe` and `token_dice`."""
    return token_dice(fit_probe(training, penalty), scored)


def fit_probe(training: Sequence[tuple[np.ndarray, np.ndarray]], penalty: float = 100.0) -> Pipeline:
    """Multinomial logistic regression on standardised features.

    Args:
        training: as `example_tokens` returns them.
        penalty: on the square of the weights, 1 / C of scikit-learn.

    Raises:
        ValueError: if no training token lies in an organ.
    """
    features, label = map(np.concatenate, zip(*training, strict=True))
    if not label.any():
        raise ValueError("no training token lies in an organ: there is nothing to learn from")
    return make_pipeline(StandardScaler(), LogisticRegression(C=1 / penalty, max_iter=1000)).fit(features, label)


def token_dice(probe: Pipeline, scored: Sequence[tuple[np.ndarray, np.ndarray]]) -> dict[int, float]:
    """Dice, ``2 |P and T| / (|P| + |T|)``, counted in tokens over all scored examples, for each label that they have.

    A label that was never trained on scores 0.
    """
    features, truth = map(np.concatenate, zip(*scored, strict=True))
    found, organs = probe.predict(features), np.unique(truth[truth > 0])
    return dict(zip(organs.tolist(), f1_score(truth, found, labels=organs, average=None, zero_division=0), strict=True))
