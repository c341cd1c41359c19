"""Exercises of notebook 06: a token's silhouette, whose mean it is, and neighbours that are not next door."""

import math

import torch
import torch.nn.functional as F
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
    return {"cosine": 1 - unit @ unit.T, "euclidean": torch.cdist(features, features)}[how]


def silhouettes(apart, organ, own=None, other=torch.Tensor.mean, nearest=min):
    """(b - a) / max(a, b) from distances, with one of its parts exchanged; own: what the own sum is divided by."""
    found = []
    for row, label in zip(apart, organ, strict=True):
        mine = organ == label
        a = row[mine].sum() / (own or (lambda n: n - 1))(int(mine.sum()))
        b = nearest([other(row[organ == each]) for each in organ.unique() if each != label])
        found.append((b - a) / max(a, b))
    return torch.stack(found)


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
    mine = torch.as_tensor(my_silhouettes(seen["s2dc"].features.double(), organ))
    lowest = {n: float(mine[organ == n].min()) for n in kept}
    print("the worst token of each organ:", {scan.names[n].replace("_", " "): round(v, 2) for n, v in lowest.items()})
    """,
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


@token.check
def check_token(answer):
    features, organ = bodies()
    found = as_tensor(answer(features.clone(), organ.clone()), organ.shape, "a value for every token")
    apart = distances(features)
    right = torch.from_numpy(silhouette_samples(features.numpy(), organ.numpy(), metric="cosine"))

    def same(other):
        return torch.allclose(found, other, atol=1e-4)

    itself = "the token itself is counted in a, at distance 0: divide by one token less"
    assert not same(silhouettes(apart, organ, own=lambda n: n)), itself
    straight = "this is the Euclidean distance, in which long vectors are far from everything: 1 - cos"
    assert not same(silhouettes(distances(features, "euclidean"), organ)), straight
    one = "b is the distance to the nearest token, not the mean to the nearest organ's"
    assert not same(silhouettes(apart, organ, other=torch.Tensor.min)), one
    mean = "b is the mean over all other organs: only the nearest one counts"
    assert not same(silhouettes(apart, organ, nearest=lambda found: sum(found) / len(found))), mean
    assert not same(-right), "the sign is the other way round: b - a, so that a tight cluster is positive"
    long = "features of any length come in: bring them to length 1 before the product is a cosine"
    assert not same(silhouettes(1 - features @ features.T, organ)), long
    assert same(right), f"largest difference from scikit-learn: {float((found - right).abs().max()):.3g}"


whose = Exercise(
    "Whose mean?",
    "easy",
    task="""
    Write the silhouette of a scan from those of its tokens: the mean over *organs*, so that a gallbladder counts as
    much as the liver.
    """,
    hints=["First one number for each organ.", "`organ.unique()` lists the labels."],
    imports="import torch",
    use="""
    samples = torch.from_numpy(silhouette_samples(seen["s2dc"].features.numpy(), organ.numpy(), metric="cosine"))
    biggest = max(kept, key=kept.get)
    print(f"over organs {float(my_mean(samples, organ)):+.3f}, over tokens {float(samples.mean()):+.3f};", end=" ")
    print(f"{scan.names[biggest]} holds {kept[biggest] / len(organ):.0%} of the tokens")
    """,
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
    """The mean of each organ, and its number of tokens."""
    parts = [samples[organ == label] for label in organ.unique()]
    return torch.stack([part.mean() for part in parts]), torch.tensor([len(part) for part in parts])


@whose.mistake("mean over tokens", "mean over tokens")
def my_mean(samples, organ):
    return samples.mean()


@whose.mistake("divided by the largest label", "largest label")
def my_mean(samples, organ):
    return per_organ(samples, organ)[0].sum() / organ.max()


@whose.mistake("sum over organs", "a sum")
def my_mean(samples, organ):
    return per_organ(samples, organ)[0].sum()


@whose.mistake("median", "median")
def my_mean(samples, organ):
    return per_organ(samples, organ)[0].median()


@whose.mistake("the worst organ", "worst organ alone")
def my_mean(samples, organ):
    return per_organ(samples, organ)[0].min()


@whose.check
def check_whose(answer):
    features, organ = bodies(1)
    samples = torch.from_numpy(silhouette_samples(features.numpy(), organ.numpy(), metric="cosine"))
    found, right = (
        as_number(answer(samples.clone(), organ.clone()), "one number"),
        structure_silhouette(features, organ),
    )
    means, _ = per_organ(samples, organ)

    def same(other):
        return math.isclose(found, float(other), abs_tol=1e-5)

    assert not same(samples.mean()), "this is the mean over tokens: the largest organ decides it"
    labels = "divided by the largest label; labels may have gaps, so count the organs that are there"
    assert not same(means.sum() / organ.max()), labels
    assert not same(means.sum()), "this is a sum over organs, not their mean"
    assert not same(means.median()), "this is the median of the organs, not their mean"
    assert not same(means.min()), "this is the worst organ alone"
    assert same(right), f"it is {right:+.4f}, yours is {found:+.4f}"
    tokens = silhouette_score(features.numpy(), organ.numpy(), metric="cosine")
    return f"Over tokens it would be {tokens:+.3f}, over organs it is {right:+.3f}."


far = Exercise(
    "Neighbours that are not next door",
    "hard",
    task="""
    Neighbours next door agree cheaply. Write the share of tokens whose *most similar* token, among those at least
    `away` mm off, is of the same organ. How much of the agreement of section 8 is left at 40 mm?
    """,
    hints=[
        "`torch.cdist(points, points)` has the distances in mm; pairs that are too near get a similarity of -inf.",
        "Cosine: bring the features to length 1 first.",
    ],
    imports="import torch\nimport torch.nn.functional as F",
    use="""
    where, features = torch.as_tensor(points), seen["s2dc"].features
    for away in (1.0, 20.0, 40.0, 80.0):
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
    features, organ = bodies(2)
    points = 30 * torch.rand(len(organ), 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    points[:, 0] += 8 * organ
    away = 22.0
    cosines, mm, near = parts_of(features, points, away)
    found = as_number(answer(features.clone(), organ.clone(), points.clone(), away), "a share")

    def same(other):
        return math.isclose(found, float(other), abs_tol=1e-6)

    own = torch.eye(len(organ), dtype=torch.bool)
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
    right = share_of(cosines, organ, near)
    assert same(right), f"it is {right:.4f}, yours is {found:.4f}"


EXPLORE = """
- Give the left and the right kidney one label. Does the silhouette of S2DC rise or fall, and which of the two numbers
  would you publish?
- Set `minimum = 1`: which organs come in, and what do they do to the mean?
"""
