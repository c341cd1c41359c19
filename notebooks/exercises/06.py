"""Exercises of notebook 06: a token's silhouette, whose mean it is, a pair that merges, neighbours far away."""

import math
from itertools import combinations

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from scipy.spatial.distance import cdist
from sklearn.metrics import silhouette_samples, silhouette_score

from s2dc_core.exercises import Exercise, as_number, as_tensor
from s2dc_core.features import structure_silhouette


def bodies(seed=0):
    """Features [T, C] of several lengths, the organ [T] of each token, 3 organs of 40, 12 and 5 tokens, mixed."""
    generator = torch.Generator().manual_seed(seed)
    organ = torch.tensor([1] * 40 + [4] * 12 + [7] * 5)[torch.randperm(57, generator=generator)]
    centres = torch.randn(8, 6, generator=generator, dtype=torch.float64)
    noise = torch.randn(57, 6, generator=generator, dtype=torch.float64)
    lengths = 0.5 + 2 * torch.rand(57, 1, generator=generator, dtype=torch.float64)
    return lengths * (centres[organ] + 0.9 * noise), organ


def distances(features, how="cosine"):
    """Of all pairs of tokens, [T, T]."""
    unit = F.normalize(features, dim=1)
    kinds = {"cosine": 1 - unit @ unit.T, "euclidean": torch.cdist(features, features)}
    return (kinds | {"chord": torch.cdist(unit, unit), "similarity": unit @ unit.T})[how]


def silhouettes(apart, organ, own=None, other=torch.Tensor.mean, nearest=min, among=None, over=max):
    """(b - a) / max(a, b) from distances, with one of its parts exchanged; own: what the own sum is divided by."""
    found, members = [], {label: organ == label for label in organ.unique().tolist()}
    for row, label in zip(apart, organ.tolist(), strict=True):
        mine = members[label]
        a = row[mine].sum() / (own or (lambda n: n - 1))(int(mine.sum()))
        b = nearest([other(row[theirs]) for each, theirs in members.items() if among == "all" or each != label])
        found.append((b - a) / over(a, b))
    return torch.stack(found)


def pooled(apart, organ):
    """Silhouettes whose b is the mean over all tokens of other organs, whichever organ they belong to."""
    same = organ[:, None] == organ
    a = (apart * same).sum(1) / (same.sum(1) - 1)
    b = (apart * ~same).sum(1) / (~same).sum(1)
    return (b - a) / torch.maximum(a, b)


def to_centroids(features, organ):
    """Silhouettes from the cosine distance to the mean of each organ's unit vectors."""
    unit, labels = F.normalize(features, dim=1), organ.unique()
    means = torch.stack([unit[organ == label].mean(0) for label in labels])
    apart, own = 1 - unit @ F.normalize(means, dim=1).T, organ[:, None] == labels
    a, b = apart[own], apart.masked_fill(own, torch.inf).amin(1)
    return (b - a) / torch.maximum(a, b)


token = Exercise(
    "A token's silhouette",
    "medium",
    task="""
    Write the silhouette $(b - a) / \\max(a, b)$ of every token: $a$ is its mean cosine distance to the *other* tokens
    of its organ, $b$ the mean distance to the tokens of the nearest other organ. Every organ has two tokens or more. Do
    not use scikit-learn.
    """,
    hints=[
        "`unit = F.normalize(features, dim=1)`, then all distances at once: `1 - unit @ unit.T`.",
        "The sum over the own organ holds the token itself, at distance 0: divide by one less.",
    ],
    imports="import torch\nimport torch.nn.functional as F",
    use="""
    radians = torch.tensor([45, 0, 15, 30, 80, 95, 110], dtype=torch.float64).deg2rad()  # four of A, three of B
    directions = torch.stack([radians.cos(), radians.sin()], 1)
    mine = torch.as_tensor(my_silhouettes(directions, torch.tensor([1, 1, 1, 1, 2, 2, 2])))
    print("the tokens of the figure, that at 45 degrees first:", [round(float(value), 2) for value in mine])
    """,
    behind="c08",
)


@token.stub
def my_silhouettes(features, organ):
    """The silhouette of every token, [T], -1..1; features [T, C], organ [T] whole numbers."""
    raise NotImplementedError


@token.solution
def my_silhouettes(features, organ):
    """The silhouette of every token, [T], -1..1; features [T, C], organ [T] whole numbers."""
    unit = F.normalize(features, dim=1)
    apart, labels = 1 - unit @ unit.T, organ.unique()
    member = (organ[:, None] == labels).to(apart.dtype)
    sums, counts = apart @ member, member.sum(0)
    own = member.bool()
    a = sums[own] / (counts - 1).expand_as(sums)[own]
    b = (sums / counts).masked_fill(own, torch.inf).amin(1)
    return (b - a) / torch.maximum(a, b)


@token.accepted("scipy, token by token")
def my_silhouettes(features, organ):
    apart, labels, found = cdist(features, features, "cosine"), organ.numpy(), []
    for row, label in zip(apart, labels, strict=True):
        a = row[labels == label].sum() / ((labels == label).sum() - 1)
        b = min(row[labels == other].mean() for other in set(labels) - {label})
        found.append((b - a) / max(a, b))
    return found


@token.accepted("pandas, in float32")
def my_silhouettes(features, organ):
    unit = F.normalize(features.float(), dim=1)
    table = pd.DataFrame((1 - unit @ unit.T).numpy()).groupby(organ.numpy()).sum().T
    sizes, rows = pd.Series(organ.numpy()).value_counts(), range(len(organ))
    a = pd.Series([table.loc[k, label] / (sizes[label] - 1) for k, label in zip(rows, organ.tolist(), strict=True)])
    others = table / sizes
    b = pd.Series([others.loc[k].drop(label).min() for k, label in zip(rows, organ.tolist(), strict=True)])
    return (b - a) / pd.concat([a, b], axis=1).max(axis=1)


@token.mistake("distance to the centroid", "the centroid")
def my_silhouettes(features, organ):
    return to_centroids(features, organ)


@token.mistake("mean over all other tokens", "all tokens of other organs")
def my_silhouettes(features, organ):
    return pooled(distances(features), organ)


@token.mistake("Euclidean distance of unit vectors", "the straight distance")
def my_silhouettes(features, organ):
    return silhouettes(distances(features, "chord"), organ)


@token.mistake("cosines for distances", "cosines, not distances")
def my_silhouettes(features, organ):
    return silhouettes(distances(features, "similarity"), organ)


@token.mistake("itself counted", "the token itself")
def my_silhouettes(features, organ):
    return silhouettes(distances(features), organ, own=lambda n: n)


@token.mistake("Euclidean distance", "Euclidean")
def my_silhouettes(features, organ):
    return silhouettes(distances(features, "euclidean"), organ)


@token.mistake("nearest token for nearest organ", "nearest token")
def my_silhouettes(features, organ):
    return silhouettes(distances(features), organ, other=torch.Tensor.min)


@token.mistake("mean over the other organs", "all other organs")
def my_silhouettes(features, organ):
    return silhouettes(distances(features), organ, nearest=lambda found: sum(found) / len(found))


@token.mistake("a minus b", "sign")
def my_silhouettes(features, organ):
    return -silhouettes(distances(features), organ)


@token.mistake("not normalised", "length 1")
def my_silhouettes(features, organ):
    return silhouettes(1 - features @ features.T, organ)


@token.mistake("own organ among the others", "the own organ")
def my_silhouettes(features, organ):
    return silhouettes(distances(features), organ, among="all")


@token.mistake("over a alone", "divided by a")
def my_silhouettes(features, organ):
    return silhouettes(distances(features), organ, over=lambda a, b: a)


@token.check
def check_token(answer):
    for seed in (0, 4):
        features, organ = bodies(seed)
        found = as_tensor(answer(features.clone(), organ.clone()), organ.shape, "a value for every token")
        apart = distances(features)
        right = torch.from_numpy(silhouette_samples(features.numpy(), organ.numpy(), metric="cosine"))

        def same(other, found=found):
            return torch.allclose(found, other, atol=1e-4)

        def exchanged(same=same, apart=apart, organ=organ, **parts):
            return same(silhouettes(apart, organ, **parts))

        itself = "the token itself is counted in a, at distance 0: divide by one token less"
        assert not exchanged(own=lambda n: n), itself
        straight = "this is the Euclidean distance, in which long vectors are far from everything: 1 - cos"
        assert not exchanged(apart=distances(features, "euclidean")), straight
        chord = "the straight distance of unit vectors, the root of 2 (1 - cos): take 1 - cos itself"
        assert not exchanged(apart=distances(features, "chord")), chord
        alike = "these are cosines, not distances: 1 - cos, so that near tokens are at 0"
        assert not exchanged(apart=distances(features, "similarity")), alike
        assert not same(to_centroids(features, organ)), "the distance to the centroid: the mean distance to its tokens"
        every = "b is the mean over all tokens of other organs: one mean for each organ, then the smallest"
        assert not same(pooled(apart, organ)), every
        one = "b is the distance to the nearest token, not the mean to the nearest organ's"
        assert not exchanged(other=torch.Tensor.min), one
        mean = "b is the mean over all other organs: only the nearest one counts"
        assert not exchanged(nearest=lambda found: sum(found) / len(found)), mean
        assert not exchanged(among="all"), "the own organ is among those that b may choose: leave it out"
        assert not exchanged(over=lambda a, b: a), "divided by a alone: the larger of a and b keeps it within -1 and 1"
        assert not same(-right), "the sign is the other way round: b - a, so that a tight cluster is positive"
        long = "features of any length come in: bring them to length 1 before the product is a cosine"
        assert not exchanged(apart=1 - features @ features.T), long
        assert same(right), f"largest difference from scikit-learn: {float((found - right).abs().max()):.3g}"


whose = Exercise(
    "Whose mean?",
    "easy",
    task="""
    Write the silhouette of a scan from those of its tokens: the mean over *organs*, so that a small organ counts as
    much as a large one.
    """,
    hints=["First one number for each organ.", "`organ.unique()` lists the labels."],
    imports="import torch",
    use="""
    samples = torch.from_numpy(silhouette_samples(seen["s2dc"].features.numpy(), organ.numpy(), metric="cosine"))
    biggest = max(kept, key=kept.get)
    print(f"over organs {float(my_mean(samples, organ)):+.3f}, over tokens {float(samples.mean()):+.3f};", end=" ")
    print(f"{names[biggest]} holds {kept[biggest] / len(organ):.0%} of the tokens")
    """,
    behind="c25",
)


@whose.stub
def my_mean(samples, organ):
    """One number; samples [T], organ [T] whole numbers."""
    raise NotImplementedError


@whose.solution
def my_mean(samples, organ):
    """One number; samples [T], organ [T] whole numbers."""
    return torch.stack([samples[organ == label].mean() for label in organ.unique()]).mean()


def per_organ(samples, organ):
    """The mean of each organ."""
    return torch.stack([samples[organ == label].mean() for label in organ.unique()])


@whose.accepted("pandas")
def my_mean(samples, organ):
    return pd.Series(samples.numpy()).groupby(organ.numpy()).mean().mean()


@whose.accepted("counts by numpy")
def my_mean(samples, organ):
    sums = np.bincount(organ.numpy(), weights=samples.numpy())
    counts = np.bincount(organ.numpy())
    return np.mean(sums[counts > 0] / counts[counts > 0])


@whose.mistake("the elements of a tensor as a set", "a set of a tensor's elements")
def my_mean(samples, organ):
    return sum(samples[organ == label].mean() for label in set(organ)) / len(set(organ))


@whose.mistake("mean over tokens", "mean over tokens")
def my_mean(samples, organ):
    return samples.mean()


@whose.mistake("divided by the largest label", "largest label")
def my_mean(samples, organ):
    return per_organ(samples, organ).sum() / organ.max()


@whose.mistake("sum over organs", "a sum")
def my_mean(samples, organ):
    return per_organ(samples, organ).sum()


@whose.mistake("median", "median")
def my_mean(samples, organ):
    return per_organ(samples, organ).median()


@whose.mistake("the worst organ", "worst organ alone")
def my_mean(samples, organ):
    return per_organ(samples, organ).min()


@whose.mistake("labels that no token has", "no token has")
def my_mean(samples, organ):
    return torch.stack([samples[organ == label].mean() for label in range(int(organ.max()) + 1)]).mean()


@whose.check
def check_whose(answer):
    for seed in (1, 5):
        features, organ = bodies(seed)
        samples = torch.from_numpy(silhouette_samples(features.numpy(), organ.numpy(), metric="cosine"))
        right, means = structure_silhouette(features, organ), per_organ(samples, organ)
        try:
            found = as_number(answer(samples.clone(), organ.clone()), "one number")
        except AssertionError as error:
            absent = "yours is NaN, as the mean of a label that no token has: go through organ.unique() alone"
            assert "nan" not in str(error), absent
            raise

        def same(other, found=found):
            return math.isclose(found, float(other), abs_tol=1e-5)

        tokens = "this is the mean over tokens: the largest organ decides it"
        every = (
            "a set of a tensor's elements holds every token by itself, as numbers they would be equal: organ.unique()"
        )
        assert not same(samples.mean()), f"{tokens} ({every})"
        labels = "divided by the largest label; labels may have gaps, so count the organs that are there"
        assert not same(means.sum() / organ.max()), labels
        assert not same(means.sum()), "this is a sum over organs, not their mean"
        assert not same(means.median()), "this is the median of the organs, not their mean"
        assert not same(means.min()), "this is the worst organ alone"
        assert same(right), f"it is {right:+.4f}, yours is {found:+.4f}"
    tokens = silhouette_score(features.numpy(), organ.numpy(), metric="cosine")
    return f"Over tokens it would be {tokens:+.3f}, over organs it is {right:+.3f}."


merging = Exercise(
    "Which two organs merge?",
    "medium",
    task="""
    Find the two organs that an encoder tells apart least. The distance $d_{AB}$ between two organs does not
    say it alone: two compact organs may lie close and yet apart, two wide ones far and yet in each other. So take the
    pair with the smallest $2 d_{AB} / (d_{AA} + d_{BB})$, where $d$ is the mean cosine distance of a token of the one
    and *another* token of the other. At 1 they are one cluster. Do not use `organ_distances`.
    """,
    hints=[
        "`apart[organ == a][:, organ == b]` holds the distances of all tokens of a to all of b.",
        "`itertools.combinations(labels, 2)` lists the pairs; `min(pairs, key=...)` finds the one of the lowest value.",
    ],
    imports="from itertools import combinations\n\nimport torch.nn.functional as F",
    use="""
    coloured = torch.isin(organ, torch.tensor(list(organs.names)))  # of a hundred organs there are too many pairs
    for arm, found in seen.items():
        pair = my_merging_pair(found.features[coloured], organ[coloured])
        print(f"{plain[arm]}: " + " and ".join(names[int(n)] for n in pair))
    """,
    behind="c38",
)


@merging.stub
def my_merging_pair(features, organ):
    """Two labels; features [T, C] of any length, organ [T] whole numbers, two tokens or more of each."""
    raise NotImplementedError


@merging.solution
def my_merging_pair(features, organ):
    """Two labels; features [T, C] of any length, organ [T] whole numbers, two tokens or more of each."""
    unit = F.normalize(features, dim=1)
    apart = 1 - unit @ unit.T

    def distance(a, b):
        block = apart[organ == a][:, organ == b]
        return block.sum() / (len(block) * (block.shape[1] - (a == b)))

    def ratio(pair):
        a, b = pair
        return 2 * distance(a, b) / (distance(a, a) + distance(b, b))

    return min(combinations(organ.unique().tolist(), 2), key=ratio)


def seven(seed):
    """Features [T, C] of several lengths, the organ [T] of each token.

    Of seven organs 0 and 1 merge and are small, 2 and 3 nearly merge and are large, 4 and 5 are compact and close,
    and 6 has a stray token in 2.
    """
    draw = torch.Generator().manual_seed(seed)
    numbers = torch.tensor([4, 4, 40, 40, 12, 12, 20])
    widths, alike = torch.tensor([0.8, 0.8, 0.7, 0.7, 0.2, 0.2, 0.5]), ((0, 1, 0.96), (2, 3, 0.86), (4, 5, 0.88))
    centres = torch.linalg.qr(torch.randn(128, 7, generator=draw, dtype=torch.float64))[0].T
    for a, b, cosine in alike:
        centres[b] = cosine * centres[a] + (1 - cosine**2) ** 0.5 * centres[b]
    which = torch.arange(7).repeat_interleave(numbers)
    noise = F.normalize(torch.randn(len(which), 128, generator=draw, dtype=torch.float64), dim=1)
    features = F.normalize(centres[which] + widths[which, None] * noise, dim=1)
    features[which.tolist().index(6)] = features[which.tolist().index(2)]
    lengths = torch.tensor([1.5, 1.2, 0.9, 1.0, 0.7, 0.9, 0.7])[which, None]
    labels = 1 + torch.randperm(12, generator=draw)[:7].sort().values[torch.randperm(7, generator=draw)]
    mixed = torch.randperm(len(which), generator=draw)
    return (lengths * features)[mixed], labels[which][mixed]


def uneven(seed):
    """Features [T, C] of several lengths, the organ [T] of each token: six organs of very different widths."""
    draw = torch.Generator().manual_seed(seed)
    widths = 0.15 + 1.2 * torch.rand(6, generator=draw, dtype=torch.float64)
    which = torch.arange(6).repeat_interleave(torch.randint(4, 15, (6,), generator=draw))
    centres = F.pad(F.normalize(torch.randn(6, 6, generator=draw, dtype=torch.float64), dim=1), (0, 26))
    noise = F.normalize(torch.randn(len(which), 32, generator=draw, dtype=torch.float64), dim=1)
    features = F.normalize(centres[which] + widths[which, None] * noise, dim=1)
    return features * (0.6 + torch.rand(len(which), 1, generator=draw)), which + 2


SCORES = {
    "right": lambda d, a, b: 2 * d / (a + b),
    "distance": lambda d, a, b: d,
    "geometric": lambda d, a, b: d / (a * b) ** 0.5,
    "larger": lambda d, a, b: d / max(a, b),
    "smaller": lambda d, a, b: d / min(a, b),
    "difference": lambda d, a, b: d - (a + b) / 2,
}
"""What may be asked of a pair, of its distance and of the distances within."""


def pair_of(apart, organ, own=1, between=torch.Tensor.mean, score="right", pick=min, twins=False):
    """The pair of labels of the smallest score, with one of its parts exchanged."""
    labels = organ.unique().tolist()
    blocks = {(a, b): apart[organ == a][:, organ == b] for a in labels for b in labels}
    within = {a: blocks[a, a].sum() / (len(blocks[a, a]) * (len(blocks[a, a]) - own)) for a in labels}

    def of(pair):
        a, b = pair
        return SCORES[score](within[a] if a == b else between(blocks[pair]), within[a], within[b])

    return pick([*combinations(labels, 2), *(zip(labels, labels, strict=True) if twins else ())], key=of)


@merging.accepted("a set, in numpy")
def my_merging_pair(features, organ):
    apart, labels = cdist(features, features, "cosine"), organ.numpy()
    kinds = np.unique(labels)
    d = np.array([[apart[labels == a][:, labels == b].sum() for b in kinds] for a in kinds])
    sizes = np.array([(labels == a).sum() for a in kinds])
    d /= np.outer(sizes, sizes) - np.diag(sizes)
    ratio = 2 * d / np.add.outer(d.diagonal(), d.diagonal()) + np.diag(np.full(len(kinds), np.inf))
    return {int(kinds[k]) for k in np.unravel_index(ratio.argmin(), ratio.shape)}


@merging.accepted("two tensors of one label")
def my_merging_pair(features, organ):
    first, second = pair_of(distances(features.float()), organ)
    return torch.tensor(second), torch.tensor(first)


@merging.mistake("geometric mean below", "the root of d_AA d_BB")
def my_merging_pair(features, organ):
    return pair_of(distances(features), organ, score="geometric")


@merging.mistake("the larger width below", "the larger of")
def my_merging_pair(features, organ):
    return pair_of(distances(features), organ, score="larger")


@merging.mistake("the smaller width below", "the smaller of")
def my_merging_pair(features, organ):
    return pair_of(distances(features), organ, score="smaller")


@merging.mistake("difference for ratio", "a difference")
def my_merging_pair(features, organ):
    return pair_of(distances(features), organ, score="difference")


@merging.mistake("distance between alone", "whatever their width")
def my_merging_pair(features, organ):
    return pair_of(distances(features), organ, score="distance")


@merging.mistake("itself counted", "the token itself")
def my_merging_pair(features, organ):
    return pair_of(distances(features), organ, own=0)


@merging.mistake("nearest two tokens", "one stray token")
def my_merging_pair(features, organ):
    return pair_of(distances(features), organ, between=torch.Tensor.min)


@merging.mistake("the largest ratio", "told apart best")
def my_merging_pair(features, organ):
    return pair_of(distances(features), organ, pick=max)


@merging.mistake("an organ with itself", "two different")
def my_merging_pair(features, organ):
    return pair_of(distances(features), organ, twins=True)


@merging.mistake("places for labels", "places in the list")
def my_merging_pair(features, organ):
    labels = organ.unique().tolist()
    return [labels.index(label) for label in pair_of(distances(features), organ)]


@merging.mistake("product of unequal lengths", "length 1")
def my_merging_pair(features, organ):
    return pair_of(1 - features @ features.T, organ)


@merging.check
def check_merging(answer):
    for features, organ in (*map(seven, (0, 1, 2)), *map(uneven, (57, 51))):
        given = as_tensor(answer(features.clone(), organ.clone()), (2,), "a pair of labels")
        found, apart = sorted(given.tolist()), distances(features)
        right = sorted(pair_of(apart, organ))

        def same(apart=apart, found=found, organ=organ, right=right, **parts):
            return found == sorted(pair_of(apart, organ, **parts)) and found != right

        assert found[0] != found[1], "an organ merges with itself, of course: two different organs are wanted"
        places = [organ.unique().tolist().index(label) for label in right]
        assert found != places or found == right, "these are places in the list of labels: give the labels themselves"
        wide = "these are the nearest two on average, whatever their width: divide by the mean of d_AA and d_BB"
        assert not same(score="distance"), wide
        below = "divided by {}: with two widths that differ much that is not the mean of d_AA and d_BB"
        assert not same(score="larger"), below.format("the larger of d_AA and d_BB")
        rooted = same(score="geometric") or same(score="smaller")
        assert not rooted, below.format("the root of d_AA d_BB, or by the smaller of the two")
        less = (
            "a difference d_AB - (d_AA + d_BB) / 2: it is small for compact organs, however far apart; take the ratio"
        )
        assert not same(score="difference"), less
        assert not same(own=0), "the token itself is counted in d_AA, at distance 0, and a small organ looks compact"
        assert not same(between=torch.Tensor.min), "one stray token decides it: the mean of all pairs, not the nearest"
        assert not same(pick=max), "these two are told apart best: the smallest ratio is wanted"
        long = "features of any length come in: bring them to length 1 before the product is a cosine"
        assert not same(apart=1 - features @ features.T), long
        several = (
            f"of {len(organ.unique())} organs {right[0]} and {right[1]} merge; yours are {found[0]:g} and {found[1]:g}"
        )
        assert found == right, several


far = Exercise(
    "Neighbours that are not next door",
    "hard",
    task="""
    Neighbours next door agree cheaply. Write the share of tokens whose *most similar* token, among those at least
    `away` mm off, is of the same organ. How much of the agreement of the nearest neighbours is left at 40 mm?
    """,
    hints=[
        "`torch.cdist(points, points)` has the distances in mm; pairs that are too near get a similarity of -inf.",
        "Cosine: bring the features to length 1 first.",
    ],
    imports="import torch\nimport torch.nn.functional as F",
    use="""
    where, features = torch.as_tensor(points), seen["s2dc"].features
    widest = float(torch.cdist(where, where).amax(1).min())  # every token has another one as far off as this
    for away in (away for away in (1.0, 20.0, 40.0, 80.0) if away <= widest):
        print(f"at least {away:.0f} mm off: {float(my_agreement(features, organ, where, away)):.0%} agree")
    """,
)


@far.stub
def my_agreement(features, organ, points, away):
    """A share, 0..1; features [T, C], organ [T], points [T, 3] in mm, away in mm and above 0."""
    raise NotImplementedError


@far.solution
def my_agreement(features, organ, points, away):
    """A share, 0..1; features [T, C], organ [T], points [T, 3] in mm, away in mm and above 0."""
    unit = F.normalize(features, dim=1)
    near = torch.cdist(points, points) < away
    best = (unit @ unit.T).masked_fill(near, -torch.inf).argmax(1)
    return (organ[best] == organ).double().mean()


def share_of(similarity, organ, barred):
    """Share of tokens whose most similar one, of those that are not barred, is of the same organ."""
    best = similarity.masked_fill(barred, -torch.inf).argmax(1)
    return float((organ[best] == organ).double().mean())


def parts_of(features, points, away):
    """Cosines, distances in mm, and which pairs are too near."""
    unit, mm = F.normalize(features, dim=1), torch.cdist(points, points)
    return unit @ unit.T, mm, mm < away


@far.accepted("numpy, token by token")
def my_agreement(features, organ, points, away):
    unit = features.numpy() / np.linalg.norm(features.numpy(), axis=1, keepdims=True)
    labels, agreed = organ.numpy(), 0
    for k, place in enumerate(points.numpy()):
        distant = np.flatnonzero(np.linalg.norm(points.numpy() - place, axis=1) >= away)
        agreed += labels[distant[np.argmax(unit[distant] @ unit[k])]] == labels[k]
    return agreed / len(labels)


@far.mistake("near ones at 0", "0 is above")
def my_agreement(features, organ, points, away):
    cosines, _, near = parts_of(features, points, away)
    best = (cosines * ~near).argmax(1)
    return (organ[best] == organ).double().mean()


@far.mistake("itself the most similar", "itself")
def my_agreement(features, organ, points, away):
    return share_of(parts_of(features, points, away)[0], organ, torch.zeros(len(organ), len(organ), dtype=torch.bool))


@far.mistake("distance not asked", "however near")
def my_agreement(features, organ, points, away):
    return share_of(parts_of(features, points, away)[0], organ, torch.eye(len(organ), dtype=torch.bool))


@far.mistake("near instead of far", "the near ones")
def my_agreement(features, organ, points, away):
    cosines, mm, near = parts_of(features, points, away)
    return share_of(cosines, organ, ~near | torch.eye(len(organ), dtype=torch.bool))


@far.mistake("nearest in space", "nearest in space")
def my_agreement(features, organ, points, away):
    _, mm, near = parts_of(features, points, away)
    return share_of(-mm, organ, near)


@far.mistake("product of unequal lengths", "longest")
def my_agreement(features, organ, points, away):
    return share_of(features @ features.T, organ, parts_of(features, points, away)[2])


@far.mistake("chosen first, asked for its distance later", "next best")
def my_agreement(features, organ, points, away):
    cosines, mm, near = parts_of(features, points, away)
    best = cosines.masked_fill(torch.eye(len(organ), dtype=torch.bool), -torch.inf).argmax(1)
    distant = mm.gather(1, best[:, None])[:, 0] >= away
    return ((organ[best] == organ) & distant).double().mean()


@far.check
def check_far(answer):
    for seed, away, spread in ((2, 22.0, 0), (3, 20.0, 0), (3, 30.0, 1)):
        features, organ = bodies(seed)
        features = features - spread * features.mean(0)  # of spread tokens many have cosines below 0 alone
        points = 30 * torch.rand(len(organ), 3, generator=torch.Generator().manual_seed(seed + 1), dtype=torch.float64)
        points[:, 0] += 8 * organ
        cosines, mm, near = parts_of(features, points, away)
        found = as_number(answer(features.clone(), organ.clone(), points.clone(), away), "a share")

        def same(other, found=found):
            return math.isclose(found, float(other), abs_tol=1e-6)

        own = torch.eye(len(organ), dtype=torch.bool)
        right = share_of(cosines, organ, near)
        zeroed = (organ[cosines.masked_fill(near, 0).argmax(1)] == organ).double().mean()
        above = "near ones are set to 0, and 0 is above a negative cosine: where all others are unlike, it wins; -inf"
        assert not same(zeroed) or same(right), above
        others = "the near ones are kept and the far ones left out"
        assert not same(share_of(cosines, organ, ~near | own)), others
        assert not same(1), "all agree: each token is most similar to itself, so it has to be left out"
        assert not same(share_of(cosines, organ, own)), "the most similar token is taken, however near it is"
        assert not same(share_of(-mm, organ, near)), "this is the token nearest in space, not the most similar one"
        lengths = "the longest features win every product: bring them to length 1"
        assert not same(share_of(features @ features.T, organ, near)), lengths
        best = cosines.masked_fill(own, -torch.inf).argmax(1)
        distant = mm.gather(1, best[:, None])[:, 0] >= away
        agreed = (organ[best] == organ) & distant
        later = "a token whose most similar one is too near has a next best: take the near ones out before you choose"
        assert not same(agreed.double().mean()) and not same(agreed.sum() / distant.sum()), later
        assert same(right), f"it is {right:.4f}, yours is {found:.4f}"


EXPLORE = [
    (
        """
        Give the left and the right one of a pair of organs one label. Does the silhouette of S2DC rise or fall, and
        which of the two numbers would you publish?
        """,
        """
        It rises a little: on body 1000 from 0.090 to 0.103 in CT, 0.023 to 0.034 in PET and 0.084 to 0.094 in MR. The
        kidneys themselves hardly change (CT -0.03 and -0.03, PET -0.03 and -0.01, MR 0.01 and -0.01, mean of the two
        and joined): two low numbers became one. Either may be published, if the labels are named and were chosen
        before the result was known.
        """,
    ),
    (
        "Set `minimum = 1`: which organs come in, and what do they do to the mean?",
        """
        On body 1000 in CT the two adrenal glands, with two tokens each. Two tokens side by side are alike, so they
        score 0.36 and 0.75 and lift the mean from 0.090 to 0.112. And they are near everything: with them as the
        nearest other organ the oesophagus falls from 0.27 to 0.00. A mean over organs is only as good as its smallest
        organ.
        """,
    ),
]
