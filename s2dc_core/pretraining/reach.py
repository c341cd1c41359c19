"""Which stage of the encoder learns from which loss."""

from typing import NamedTuple

from s2dc_core.data import Scan
from s2dc_core.pretraining.config import PretrainConfig
from s2dc_core.pretraining.regions import RegionDraws
from s2dc_core.pretraining.run import Pretraining

STAGES = ("patch_embed", "layers1", "layers2", "layers3", "layers4")
"""MONAI's names: the patch embedding gives level 0, stage k gives level k. A v2 block belongs to its stage."""


class GradientReach(NamedTuple):
    """What the losses of a recipe can train.

    Attributes:
        weights: share of the encoder's weights that lies in each stage, together 1.
        norms: for each loss alone, the norm of its gradient in each stage of the fresh encoder, 0 where it cannot
            reach.
    """

    weights: dict[str, float]
    norms: dict[str, dict[str, float]]

    def share(self, term: str) -> float:
        """Share of the encoder's weights that a loss reaches."""
        return float(sum(self.weights[stage] for stage, norm in self.norms[term].items() if norm > 0))


def gradient_reach(config: PretrainConfig, scan: Scan) -> GradientReach:
    """Send each loss of a recipe, alone, back through the encoder it starts from, on one batch of regions of a scan.

    A batch before it lets a method have what it keeps of earlier ones, such as a queue's negatives.
    """
    run = Pretraining(config, [scan], device="cpu")
    draws = RegionDraws(config, [scan])
    earlier, batch = ([draws[first + k] for k in range(config.batch)] for first in (0, config.batch))
    run.after_step([run.forward(run.prepare(earlier))[1]])
    parts = {stage: [] for stage in STAGES}
    for name, weight in run.encoder.swinViT.named_parameters():
        parts[_stage_of(name)].append(weight)
    total = sum(weight.numel() for weight in run.encoder.parameters())
    terms, _ = run.forward(run.prepare(batch))
    norms = {}
    for term in [name for name in run.Terms._fields if name != "total"] or ["total"]:
        run.encoder.zero_grad()
        getattr(terms, term).backward(retain_graph=True)
        norms[term] = {
            stage: sum(float(w.grad.square().sum()) for w in part if w.grad is not None) ** 0.5
            for stage, part in parts.items()
        }
    weights = {stage: sum(weight.numel() for weight in part) / total for stage, part in parts.items()}
    return GradientReach(weights, norms)


def _stage_of(name: str) -> str:
    first = name.split(".")[0].removesuffix("c")  # layers1c is the v2 convolution before layers1
    return first if first in STAGES else STAGES[0]
