"""What is trained (paper section 3.1): the encoder with projection heads, its momentum teacher and a queue."""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, distributed, nn

from s2dc_core.encoder import LEVELS, Encoder, EncoderConfig
from s2dc_core.geometry import grid_of, lay_back, split_region
from s2dc_core.matching import at_least_float32, join_levels, unit_length
from s2dc_core.options import Options, check_choice, one_of

TOKEN_HEADS = ("mlp", "none")


class SumOverProcesses(torch.autograd.Function):
    """sum_r x_r over the processes r, the same in each."""

    @staticmethod
    def forward(ctx, values: Tensor) -> Tensor:
        """The sum of the processes' values, of any shape."""
        total = values.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        """dL / dx_r for L = sum_s L_s: every process's loss depends on these values."""
        total = gradient.clone()
        distributed.all_reduce(total)
        return total


class SharedBatchNorm(nn.BatchNorm1d):
    """BatchNorm1d over the rows of all processes, on CPUs too, where SyncBatchNorm does not run."""

    def forward(self, features: Float[Tensor, "n c"]) -> Float[Tensor, "n c"]:
        """(x - mean) / sqrt(variance + eps); the processes may hold different numbers of rows."""
        if not (self.training and distributed.is_available() and distributed.is_initialized()):
            return super().forward(features)
        rows = at_least_float32(features)
        total = SumOverProcesses.apply(torch.cat([rows.sum(0), rows.new_tensor([len(rows)])]))
        count, mean = total[-1].detach(), total[:-1] / total[-1].detach()
        variance = SumOverProcesses.apply((rows - mean).square().sum(0)) / count
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum)
            self.num_batches_tracked += 1
        normed = (rows - mean) * (variance + self.eps).rsqrt()
        return (normed * self.weight + self.bias if self.affine else normed).to(features.dtype)


class ProjectionHead(nn.Sequential):
    """A three-layer perceptron on the last axis, ReLU between; "layer" or "batch" normalisation over the features."""

    def __init__(self, channels: int, hidden: int, out: int, norm: str = "layer"):
        check_choice("head norm", norm, ("layer", "batch"))

        def block(inputs: int) -> list[nn.Module]:
            """A hidden layer."""
            middle = nn.LayerNorm(hidden) if norm == "layer" else SharedBatchNorm(hidden, affine=False)
            return [nn.Linear(inputs, hidden), middle, nn.ReLU()]

        super().__init__(*block(channels), *block(hidden), nn.Linear(hidden, out))

    def forward(self, features: Float[Tensor, "*shape c"]) -> Float[Tensor, "*shape d"]:
        """Project each feature vector; leading axes are one batch."""
        return super().forward(features.flatten(0, -2)).unflatten(0, features.shape[:-1])


class BranchOutput(NamedTuple):
    """What student and teacher make of a region.

    Attributes:
        tokens: per chosen level, or one entry if they are joined, unit-length tokens of the whole region, [B, N, D],
            last grid axis fastest; in float32 at least, also under autocast.
        pooled: projected mean of each sub-volume's last map, [B * sub-volumes, D], of any length.
    """

    tokens: list[Float[Tensor, "b n d"]]
    pooled: Float[Tensor, "g d"]


@dataclass(frozen=True, kw_only=True)
class BranchOptions(Options):
    """What student and teacher are beside the encoder.

    Attributes:
        levels: token levels of the structure losses, a head each.
        hidden, out: sizes of the heads; the published code has 2048 and 512.
        norm: of the heads, "layer" or "batch".
        token_head: "mlp" compares tokens behind a ProjectionHead, "none" as the encoder gives them: the losses then
            shape the cosines that heatmaps and silhouettes read.
        joined: whether the tokens of the levels are one token per cell of the finest, see matching.join_levels.
    """

    levels: Sequence[int] = (2,)
    hidden: int = 2048
    out: int = 512
    norm: str = "layer"
    token_head: str = "mlp"
    joined: bool = False

    RULES: ClassVar = {"norm": one_of("layer", "batch"), "token_head": one_of(*TOKEN_HEADS)}

    @classmethod
    def disagreements(cls, values, sound) -> Iterator[str]:
        """Levels are joined onto the grid of the first."""
        levels = list(values.levels) if sound("levels") else []
        if sound("joined") and values.joined and levels != sorted(set(levels)):
            yield f"levels to be joined go from fine to coarse, such as 1, 2, 3; got {levels}"


class Branch(nn.Module):
    """An encoder with a token head per level and one for whole sub-volumes."""

    def __init__(self, encoder: Encoder, options: BranchOptions):
        super().__init__()
        self.encoder, self.levels, self.joined = encoder, tuple(options.levels), options.joined
        channels, sizes = encoder.config.embed_dim, (options.hidden, options.out, options.norm)
        for level in self.levels:
            grid_of(encoder.config.sub_volume, encoder.stride(level))
        self.token_heads = nn.ModuleList(
            nn.Identity() if options.token_head == "none" else ProjectionHead(channels * 2**level, *sizes)
            for level in self.levels
        )
        self.pooled_head = ProjectionHead(channels * 2 ** (LEVELS - 1), *sizes)

    def forward(self, region: Float[Tensor, "b c x y z"]) -> BranchOutput:
        """Encode the sub-volumes of each region and lay their tokens back into the region's grid."""
        sub_volume = self.encoder.config.sub_volume
        counts = grid_of(region.shape[2:], sub_volume)
        maps = self.encoder(split_region(region, sub_volume))
        laid_back = [lay_back(maps[level], counts).movedim(1, -1) for level in self.levels]
        projected = [head(cells) for head, cells in zip(self.token_heads, laid_back, strict=True)]
        tokens = [join_levels(projected)] if self.joined else [unit_length(cells) for cells in projected]
        return BranchOutput([cells.flatten(1, 3) for cells in tokens], self.pool(maps))

    def pool(self, maps: list[Tensor]) -> Float[Tensor, "g d"]:
        """The projected mean of the last map."""
        return self.pooled_head(maps[-1].flatten(2).mean(-1))

    def embed(self, sub_volumes: Float[Tensor, "g c x y z"]) -> Float[Tensor, "g d"]:
        """Pooled features of single sub-volumes, without tokens."""
        return self.pool(self.encoder(sub_volumes))


class StudentTeacher(nn.Module):
    """The student phi and its teacher phi*, an exponential moving average that gets no gradient (MoCo).

    Args:
        config: sizes of both encoders.
        options: of the heads.
        momentum: share of the old teacher that an update keeps, in [0, 1].
    """

    def __init__(self, config: EncoderConfig, options: BranchOptions = BranchOptions(), momentum: float | int = 0.999):
        super().__init__()
        if not 0 <= momentum <= 1:
            raise ValueError(f"momentum must lie in [0, 1], got {momentum}")
        self.momentum = momentum
        self.student = Branch(Encoder(config), options)
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)

    @torch.no_grad()
    def update_teacher(self) -> None:
        """phi* <- momentum phi* + (1 - momentum) phi; call it after the optimiser's step. Buffers are copied.

        Raises:
            RuntimeError: in evaluation mode, where the teacher must not move.
        """
        if not self.training:
            raise RuntimeError("update_teacher() belongs to training: call model.train() first")
        torch._foreach_lerp_(list(self.teacher.parameters()), list(self.student.parameters()), 1 - self.momentum)
        for old, new in zip(self.teacher.buffers(), self.student.buffers(), strict=True):
            old.copy_(new)

    @torch.no_grad()
    def teach(self, region: Float[Tensor, "b c x y z"]) -> BranchOutput:
        """The teacher's output, without gradient."""
        return self.teacher(region)


def _ask_again(queue: "FeatureQueue", _keys) -> None:
    """After loading, the count on the CPU is not known."""
    queue._seen = None


class FeatureQueue(nn.Module):
    """The dictionary of equation 1: the last ``size`` teacher features, any number of them added at a time."""

    def __init__(self, size: int, channels: int):
        super().__init__()
        if size < 0:
            raise ValueError(f"the queue's size must not be negative, got {size}")
        self.register_buffer("features", torch.zeros(size, channels))
        self.register_buffer("seen", torch.zeros((), dtype=torch.long))
        self._seen: int | None = 0  # the same on the CPU, which need not ask a GPU; None for not known yet
        self.register_load_state_dict_post_hook(_ask_again)

    @torch.no_grad()
    def add(self, features: Float[Tensor, "k d"]) -> None:
        """Append features, [K, D]; the oldest leave."""
        size = len(self.features)
        kept = features[max(len(features) - size, 0) :]
        if len(kept):
            first = self._count() + len(features) - len(kept)
            slots = (torch.arange(len(kept), device=kept.device) + first) % size
            self.features[slots] = kept.to(self.features.dtype)
        self._seen = self._count() + len(features)
        self.seen += len(features)

    def _count(self) -> int:
        self._seen = int(self.seen) if self._seen is None else self._seen
        return self._seen

    def negatives(self) -> Float[Tensor, "k d"]:
        """The features held so far, [K, D] with K <= size; a copy, so that a later add() does not change it."""
        return self.features[: min(self._count(), len(self.features))].clone()
