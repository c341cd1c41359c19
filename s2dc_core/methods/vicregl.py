"""VICRegL (Bardes, Ponce, LeCun, NeurIPS 2022): two views alike, as wholes and place by place, with nothing told apart.

Of B rows x_b, y_b of D features, in each of K ranks, and with means over what is not named::

    VICReg(X, Y) = 25 mean (x - y)^2 + 25 (v(X) + v(Y)) / 2 + (c(X) + c(Y)) / 2
    L = a VICReg(g(pooled 1), g(pooled 2)) + (1 - a) (local by features + local by places),    a = 0.75

v is what deviations lack to 1, c the sum of squared covariances, over the rows of all processes: `parts.spread`. A
local term is the mean of both directions: tokens of a view behind h, each with the nearest token of the other, rank by
rank; nearest as a vector for all of them, and as a place for the few that come nearest. Expanders g, h: three layers.

What B rows mean: X has rank B - 1 at most, so no diagonal covariance. Where all variances are s^2, c(X) is at least
s^4 (D / (B - 1) - 1): with eight rows and 256 features 35.6 at s = 1, and 25 v + c is least at s = 0.56. The term then
says less of redundancy than of size. (The source: 512 rows of 8192 features, 15.)

Kept: both local terms, weights, expanders, statistics rank by rank. Places are exact, in mm, from the affines of the
views (the source: from boxes of crops; its code leaves the grids of mirrored ones unmirrored); tokens that show what
came in from outside the sub-volume come last. Of views of a kind the paper matches one number of places, the code in
both directions 20 and 4, their mean: `place_matches`. lightly ranks by distance, the source by place: `order`.

Not kept: small crops, and a classifier that rides along. Wholes are the pooled last map, tokens are of a finer one,
since at 32^3 the last is one token.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from s2dc_core.encoder import LEVELS, Encoder, EncoderConfig
from s2dc_core.geometry import grid_of, inverse, token_centres, transform_points
from s2dc_core.matching import at_least_float32
from s2dc_core.methods.method import Method, Plan, RandomNumbers, Regions
from s2dc_core.methods.parts.heads import MLP, NORMS, last_channels, pooled, tokens_of
from s2dc_core.methods.parts.rows import RowsOfAll
from s2dc_core.methods.parts.spread import covariance_floor, spread
from s2dc_core.methods.parts.sub_volumes import level_misfits
from s2dc_core.methods.parts.two_views import PairOptions, TwoViews, make_pairs
from s2dc_core.methods.parts.weighted import weights_of
from s2dc_core.options import MANY, one_of, whole_numbers_to, within
from s2dc_core.views import Region

ORDERS = ("place", "distance")


@dataclass(frozen=True, kw_only=True)
class VICRegLOptions(PairOptions):
    """Views, expanders, matches, weights.

    Attributes:
        sub_volumes, views: see PairOptions.
        level: the map whose tokens the local terms match.
        out, local_out: width of each layer of g and of h.
        norm: of both, "layer", "batch" or "none".
        place_matches: how many places are matched, or several numbers, over which the mean is taken.
        feature_matches: the same by features; None for all tokens.
        order: of the matches that statistics see together, by "place" or by "distance".
        weights: of difference, variance and covariance.
        alpha: of the global term.
    """

    level: int = 2
    out: int = 256
    local_out: int = 96
    norm: str = "layer"
    place_matches: Sequence[int] = (20,)
    feature_matches: Sequence[int] | None = None
    order: str = "place"
    weights: Sequence[float | int] = (25.0, 25.0, 1.0)
    alpha: float | int = 0.75

    RULES: ClassVar = {
        **PairOptions.RULES,
        "level": within(0, LEVELS - 1),
        **dict.fromkeys(("out", "local_out"), within(1, MANY)),
        "norm": one_of(*NORMS),
        **dict.fromkeys(("place_matches", "feature_matches"), whole_numbers_to(MANY)),
        "order": one_of(*ORDERS),
        "weights": weights_of(3),
        "alpha": within(0, 1),
    }

    @classmethod
    def misfits(cls, values, sound: Callable[..., bool], encoder: EncoderConfig) -> Iterator[str]:
        """A level of no whole tokens, and more matches than it has tokens."""
        yield from level_misfits(values.level, encoder)
        tokens = math.prod(side // encoder.stride(values.level)[0] for side in encoder.sub_volume)
        for name in ("place_matches", "feature_matches"):
            if max(counts := getattr(values, name) or (0,)) > tokens:
                yield f"{name} {list(counts)} must not exceed {tokens}, the tokens at level {values.level}"

    def plan(self, encoder: EncoderConfig, region: Region, spacing: Sequence[float], random: RandomNumbers) -> Plan:
        """Both views of each of the G sub-volumes, see plan_views, and the tokens that show the same place.

        Returns:
            Of plan_views, and "places" [2, G, 2, k], see same_places.
        """
        plan = super().plan(encoder, region, spacing, random)
        return plan | {"places": same_places(plan["H"], encoder, self.level, spacing)[..., : max(self.place_matches)]}

    def build(self, encoder: EncoderConfig) -> "VICRegL":
        """Encoder and expanders."""
        return VICRegL(encoder, self)

    def describe(self, encoder: EncoderConfig, regions: Regions) -> list[tuple[str, str]]:
        """What the covariance of so few rows cannot fall below."""
        rows = len(regions.plan) * regions.plan[0]["seeds"].shape[1]
        floor = covariance_floor(max(rows, 2), self.out)
        said = f"{rows} rows of {self.out} features: with deviations of 1 the covariance term is {floor:.3g} at least"
        return [("statistics", said)]


@torch.no_grad()
def nearest(
    own: Float[Tensor, "*b n d"], other: Float[Tensor, "*b m d"], last: Bool[Tensor, "*b n"] | None = None
) -> Int[Tensor, "*b 2 n"]:
    """n points and the nearest of m others for each, in the order of their distance.

    Args:
        last: points that come after all others.
    """
    least, index = torch.cdist(own, other, compute_mode="donot_use_mm_for_euclid_dist").min(-1)
    least = least if last is None else least + (least.max() + 1) * last
    order = least.argsort(dim=-1, stable=True)
    return torch.stack([order, index.gather(-1, order)], -2)


def same_places(
    H: Float[Tensor, "2 g 4 4"], encoder: EncoderConfig, level: int, spacing: Sequence[float | int]
) -> Int[Tensor, "2 g 2 n"]:
    """For each token of the first view the one of the second that shows the nearest place, in mm, and the reverse.

    Args:
        H: the sub-volumes' voxels to those of each view.
    """
    stride, sides = encoder.stride(level), torch.tensor(tuple(encoder.sub_volume))
    seen = transform_points(inverse(H), token_centres(grid_of(encoder.sub_volume, stride), stride))
    outside = ((seen < -0.5) | (seen > sides - 0.5)).any(-1)
    mm = seen * torch.tensor(tuple(spacing), dtype=seen.dtype)
    return nearest(mm, mm.flip(0), outside).int()


def matched(
    own: Float[Tensor, "n t d"], other: Float[Tensor, "n u d"], pairs: Int[Tensor, "n 2 k"], count: int, order: str
) -> tuple[Float[Tensor, "n j d"], Float[Tensor, "n j d"]]:
    """Both tokens of the first matches, ranked by the place of the first token or by their distance, as they are."""
    pairs = pairs[..., :count].long()
    if order == "place":
        pairs = pairs.gather(-1, pairs[:, :1].argsort(-1).expand_as(pairs))
    mine, theirs = pairs[..., None].unbind(1)
    return own.take_along_dim(mine, 1), other.take_along_dim(theirs, 1)


class VICRegLTerms(NamedTuple):
    """L, and its parts, global and local with their weights, of each region.

    Attributes:
        total: their sum.
        difference: of the region's own pairs.
        variance, covariance: of the batch, the same for all of it.
    """

    total: Float[Tensor, "*b"]
    difference: Float[Tensor, "*b"]
    variance: Float[Tensor, "*b"]
    covariance: Float[Tensor, "*b"]


class VICRegLViews(NamedTuple):
    """What the encoder looks at.

    Attributes:
        pairs: two views of the N = B G sub-volumes.
        places: tokens of each view and of the other that show the same place.
    """

    pairs: TwoViews
    places: Int[Tensor, "2 n 2 k"]


class VICRegL(Method):
    """An encoder, and expanders of pooled maps and of tokens."""

    Terms = VICRegLTerms

    def __init__(self, encoder: EncoderConfig, options: VICRegLOptions):
        super().__init__()
        self.encoder, self.options, self.rows = Encoder(encoder), options, RowsOfAll()
        channels = encoder.embed_dim * 2**options.level
        self.expander = MLP([last_channels(encoder), *[options.out] * 3], options.norm)
        self.local_expander = MLP([channels, *[options.local_out] * 3], options.norm)

    @torch.no_grad()
    def views(self, regions: Regions) -> VICRegLViews:
        """Both views of each sub-volume, and their matches."""
        places = torch.cat([plan["places"] for plan in regions.plan], 1).to(regions.volume.device, non_blocking=True)
        return VICRegLViews(make_pairs(regions, self.encoder.config.sub_volume), places)

    def forward(self, views: VICRegLViews) -> tuple[VICRegLTerms, None]:
        """L of each region, and its parts."""
        options, regions = self.options, len(views.pairs.one)
        maps = self.encoder(views.pairs.together())
        one, other = (at_least_float32(self.expander(each))[:, None] for each in pooled(maps[-1]).chunk(2))
        whole = self.criterion([(one, other)], regions)
        one, other = (at_least_float32(self.local_expander(t)) for t in tokens_of(maps[options.level]).chunk(2))
        local = [self.local(one, other, views.places, options.place_matches, regions)]
        alike = torch.stack([nearest(one, other), nearest(other, one)])
        local.append(self.local(one, other, alike, options.feature_matches or alike.shape[-1:], regions))
        a = options.alpha
        terms = [a * own + (1 - a) * (feature + place) for own, feature, place in zip(whole, *local, strict=True)]
        return VICRegLTerms(sum(terms), *terms), None

    def local(
        self,
        one: Float[Tensor, "n t d"],
        other: Float[Tensor, "n t d"],
        pairs: Int[Tensor, "2 n 2 k"],
        counts: Sequence[int],
        regions: int,
    ) -> list[Float[Tensor, " b"]]:
        """The terms of matched tokens, mean over both directions and over some numbers of matches."""
        ways = ((one, other, pairs[0]), (other, one, pairs[1]))
        return self.criterion([matched(*way, count, self.options.order) for way in ways for count in counts], regions)

    def criterion(
        self, pairs: Sequence[tuple[Float[Tensor, "n _ d"], Float[Tensor, "n _ d"]]], regions: int
    ) -> list[Float[Tensor, " b"]]:
        """The three terms of VICReg(X, Y), mean over some pairs (X, Y), of each region."""
        difference = sum((x - y).square().mean((1, 2)) for x, y in pairs) / len(pairs)
        sides = [side for pair in pairs for side in pair]
        ranks = [side.shape[1] for side in sides]
        statistics = spread(self.rows(torch.cat(sides, 1)).all)
        means = (sum(part.mean() for part in each.split(ranks)) / len(sides) for each in statistics)
        terms = (difference.view(regions, -1).mean(1), *(mean.expand(regions) for mean in means))
        return [weight * term for weight, term in zip(self.options.weights, terms, strict=True)]
