"""Exercises of notebook 05: make a heatmap, read it, and ask with a whole organ instead of one token."""

import math

import numpy as np
import torch
import torch.nn.functional as F

from s2dc_core.exercises import Exercise, as_number, as_tensor
from s2dc_core.features import TokenMap, similarity_heatmap

GRID, PATCH = (5, 6, 4), (4, 8, 2)


def a_map(seed=0, channels=7):
    """Features [X, Y, Z, C] of several lengths."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(*GRID, channels, generator=generator, dtype=torch.float64)
    return features * (0.5 + torch.rand(*GRID, 1, generator=generator, dtype=torch.float64))


making = Exercise(
    "Make a heatmap",
    "easy",
    task="""
    Write the map of one anchor: the cosine of every token with the token that holds the anchor's voxel. A token has
    `patch` voxels along each axis; its features may have any length. Do not use `similarity_heatmap`.
    """,
    hints=["Voxel 9 lies in token 2 of patches of 4 voxels.", "`F.normalize(features, dim=-1)`, then `unit @ anchor`."],
    imports="import torch\nimport torch.nn.functional as F",
    use="""
    token_map, (_, voxel) = tokens[S2DC], next(iter(anchors.values()))
    mine = torch.as_tensor(my_heatmap(token_map.features, voxel, token_map.patch))
    print(f"off the core's map by at most {float((mine - similarity_heatmap(token_map, voxel)).abs().max()):.1e}")
    """,
    behind="heat-20",
)


@making.stub
def my_heatmap(features, voxel, patch):
    """Cosines [X, Y, Z]; features [X, Y, Z, C], the anchor's voxel [3], patch [3] voxels of a token."""
    raise NotImplementedError


@making.solution
def my_heatmap(features, voxel, patch):
    """Cosines [X, Y, Z]; features [X, Y, Z, C], the anchor's voxel [3], patch [3] voxels of a token."""
    unit = F.normalize(features, dim=-1)
    x, y, z = (v // p for v, p in zip(voxel, patch, strict=True))
    return unit @ unit[x, y, z]


def anchored(features, cell, lengths=True):
    """Cosines with one token, or products."""
    unit = F.normalize(features, dim=-1) if lengths else features
    return unit @ unit[tuple(cell)]


def cells(voxel, patch):
    """The token that holds a voxel."""
    return [v // p for v, p in zip(voxel, patch, strict=True)]


@making.accepted("numpy, einsum")
def my_heatmap(features, voxel, patch):
    tokens = features.numpy()
    anchor = tokens[tuple(np.array(voxel) // np.array(patch))]
    return np.einsum("xyzc,c->xyz", tokens, anchor) / (np.linalg.norm(tokens, axis=-1) * np.linalg.norm(anchor))


@making.accepted("cosine_similarity in float32")
def my_heatmap(features, voxel, patch):
    x, y, z = (int(v / p) for v, p in zip(voxel, patch, strict=True))
    return F.cosine_similarity(features.float(), features[x, y, z].float().view(1, 1, 1, -1), dim=-1)


@making.mistake("anchor not brought to length 1", "the anchor's")
def my_heatmap(features, voxel, patch):
    return F.normalize(features, dim=-1) @ features[tuple(cells(voxel, patch))]


@making.mistake("the anchor alone of length 1", "the tokens'")
def my_heatmap(features, voxel, patch):
    return features @ F.normalize(features[tuple(cells(voxel, patch))], dim=-1)


@making.mistake("0 to 1", "(1 + cos) / 2")
def my_heatmap(features, voxel, patch):
    return (1 + anchored(features, cells(voxel, patch))) / 2


@making.mistake("lengths left in", "not cosines")
def my_heatmap(features, voxel, patch):
    return anchored(features, cells(voxel, patch), lengths=False)


@making.mistake("one length for the whole map", "along the wrong axis")
def my_heatmap(features, voxel, patch):
    unit = F.normalize(features, dim=0)
    return unit @ unit[tuple(cells(voxel, patch))]


@making.mistake("rounded up to the next token", "rounded")
def my_heatmap(features, voxel, patch):
    near = [min(round(v / p), n - 1) for v, p, n in zip(voxel, patch, features.shape, strict=False)]
    return anchored(features, near)


@making.mistake("one side for all axes", "side along each axis")
def my_heatmap(features, voxel, patch):
    return anchored(features, [min(v // patch[0], n - 1) for v, n in zip(voxel, features.shape, strict=False)])


@making.mistake("the voxel for the token", "a voxel is not a token")
def my_heatmap(features, voxel, patch):
    return anchored(features, [min(v, n - 1) for v, n in zip(voxel, features.shape, strict=False)])


@making.mistake("axes the other way round", "other way round")
def my_heatmap(features, voxel, patch):
    reverse = cells(voxel, patch)[::-1]
    return anchored(features, [min(cell, n - 1) for cell, n in zip(reverse, features.shape, strict=False)])


@making.mistake("distance for similarity", "distance")
def my_heatmap(features, voxel, patch):
    return 1 - anchored(features, cells(voxel, patch))


@making.check
def check_making(answer):
    for seed, voxel in enumerate([(11, 14, 7), (3, 41, 6)]):
        features = a_map(seed)
        found = as_tensor(answer(features.clone(), voxel, PATCH), GRID, "a map")
        right, cell = similarity_heatmap(TokenMap(features, PATCH, None), voxel), cells(voxel, PATCH)

        def same(other, found=found):
            return torch.allclose(found, other.double(), atol=1e-4)

        def asked_at(place, same=same, features=features):
            return same(anchored(features, [min(p, n - 1) for p, n in zip(place, GRID, strict=True)]))

        lengths = "these are products, not cosines: a long feature is bright whatever it points to"
        assert not same(anchored(features, cell, lengths=False)), lengths
        length, all_lengths = features[tuple(cell)].norm(), features.norm(dim=-1)
        halves = "one of the two lengths is still in it, the {}: bring both to length 1"
        assert not same(right * length), halves.format("anchor's")
        assert not same(right * all_lengths), halves.format("tokens'")
        assert not same((1 + right) / 2), "this is (1 + cos) / 2, from 0 to 1: the cosine itself, from -1 to 1"
        unit = F.normalize(features, dim=0)
        wrong = "brought to length 1 along the wrong axis: the channels are the last one"
        assert not same(unit @ unit[tuple(cell)]), wrong
        rounded = [round(v / p) for v, p in zip(voxel, PATCH, strict=True)]
        assert not asked_at(rounded), "the token is rounded: voxels 8 to 11 all lie in token 2, v // p"
        first = "a token has its own side along each axis: patch[0], [1] and [2]"
        assert not asked_at([v // PATCH[0] for v in voxel]), first
        assert not asked_at(voxel), "a voxel is not a token: divide by the patch"
        turned = "the token's axes are the other way round: features[x, y, z], in the order of the voxel"
        assert not asked_at(cell[::-1]), turned
        assert not same(1 - right), "this is a distance, 0 at the anchor: the cosine itself"
        off = float((found - right).abs().max())
        assert same(right), f"not the cosines with the anchor's token: off by up to {off:.3g}"


reading = Exercise(
    "Read a heatmap",
    "medium",
    task="""
    Write the *hits* of a map: an organ has $k$ tokens; which share of the $k$ most similar tokens of the *body* lies in
    it? Tokens in air are no choice for anybody.
    """,
    hints=[
        "`similarity[body].topk(k).indices` are places among the body's tokens.",
        "So look `inside[body]` up there.",
    ],
    imports="import torch",
    use="""
    organs, body = grids_of(scan, tokens[S2DC])
    for title, (number, voxel) in anchors.items():
        inside = (organs == (number or -1)) & body
        maps = {name: similarity_heatmap(token_map, voxel) for name, token_map in tokens.items()}
        mine = {name.strip("$"): my_hits(m, inside, body) for name, m in maps.items()} if inside.any() else {}
        told = ", ".join(f"{name} {float(share):.0%}" for name, share in mine.items())
        print(f"{title}: hits {told}" if told else f"{title} has no labelled token in the body")
    """,
    behind="heat-24",
)


@reading.stub
def my_hits(similarity, inside, body):
    """A share, 0..1; similarity [X, Y, Z], inside and body [X, Y, Z] of booleans, inside within the body."""
    raise NotImplementedError


@reading.solution
def my_hits(similarity, inside, body):
    """A share, 0..1; similarity [X, Y, Z], inside and body [X, Y, Z] of booleans, inside within the body."""
    values, organ = similarity[body], inside[body]
    return organ[values.topk(int(organ.sum())).indices].double().mean()


def best(similarity, inside, k=None, largest=True):
    """Share of the k most similar tokens that lie in the organ, from flat tensors."""
    return float(inside[similarity.topk(k or int(inside.sum()), largest=largest).indices].double().mean())


@reading.accepted("air at minus infinity, sorted by numpy")
def my_hits(similarity, inside, body):
    values = np.where(body, similarity, -np.inf).ravel()
    count = int(inside.sum())
    return inside.numpy().ravel()[np.argsort(values)[::-1][:count]].mean()


@reading.accepted("a threshold at the k-th value")
def my_hits(similarity, inside, body):
    count = int((inside & body).sum())
    least = sorted(similarity[body].tolist())[-count]
    return int(((similarity >= least) & inside & body).sum()) / count


@reading.mistake("air set to 0", "0 is above")
def my_hits(similarity, inside, body):
    return best((similarity * body).flatten(), inside.flatten())


@reading.mistake("air counted", "tokens in air")
def my_hits(similarity, inside, body):
    return best(similarity.flatten(), inside.flatten())


@reading.mistake("the least similar", "least similar")
def my_hits(similarity, inside, body):
    return best(similarity[body], inside[body], largest=False)


@reading.mistake("a threshold", "threshold")
def my_hits(similarity, inside, body):
    return inside[body][similarity[body] > 0.5].double().mean()


@reading.mistake("of the organ, how much is bright", "of the organ")
def my_hits(similarity, inside, body):
    return (similarity[inside] > 0.5).double().mean()


@reading.mistake("mean inside", "a mean cosine")
def my_hits(similarity, inside, body):
    return similarity[inside].mean()


@reading.mistake("over the body", "divided by the body")
def my_hits(similarity, inside, body):
    return best(similarity[body], inside[body]) * int(inside.sum()) / int(body.sum())


def in_a_body(seed, depth):
    """A map, an organ of 6 * depth tokens within a body, and the body; air is alike everywhere, and often bright."""
    body, inside = torch.zeros(2, 6, 7, 8, dtype=torch.bool)
    body[1:, 1:, 2:] = True
    inside[2:4, 2:5, 3 : 3 + depth] = True
    noise = torch.rand(6, 7, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    similarity = 0.35 + 0.3 * noise + 0.12 * inside + 0.1 * ~body
    similarity[2, 2:5, 3] = 0.34 + 0.02 * noise[2, 2:5, 3]  # the organ's edge looks like nothing else
    return similarity, inside, body


@reading.check
def check_reading(answer):
    for seed, depth in ((5, 3), (7, 4)):
        similarity, inside, body = in_a_body(seed, depth)
        found = as_number(answer(similarity.clone(), inside.clone(), body.clone()), "a share")
        right = best(similarity[body], inside[body])

        def same(other, found=found):
            return math.isclose(found, float(other), abs_tol=1e-6)

        air = "tokens in air are among the most similar: [body] first"
        assert not same(best(similarity.flatten(), inside.flatten())), air
        assert not same(best(similarity[body], inside[body], largest=False)), "these are the least similar tokens"
        fixed = "a threshold counts how bright the map is; hits ask for the order alone: the k most similar"
        assert not same(inside[body][similarity[body] > 0.5].double().mean()), fixed
        turned = "this is how much of the organ is bright: a map that is bright everywhere would have 100 %"
        assert not same((similarity[inside] > 0.5).double().mean()), turned
        dull = "this is a mean cosine inside: a dull map may still have the right order"
        assert not same(similarity[inside].mean()), dull
        divided = "divided by the body instead of the organ's number of tokens, k"
        assert not same(right * int(inside.sum()) / int(body.sum())), divided
        assert same(right), f"it is {right:.4f}, yours is {found:.4f}"
        again = as_number(answer(similarity**3, inside.clone(), body.clone()), "a share")
        assert math.isclose(again, right, abs_tol=1e-6), "another scale with the same order must give the same hits"
        low = as_number(answer(similarity - 0.9, inside.clone(), body.clone()), "a share")
        zero = "where all cosines are negative yours is {:.4f}, not {:.4f}: 0 is above them all, so air set to 0 wins"
        assert math.isclose(low, right, abs_tol=1e-6), zero.format(low, right)


prototype = Exercise(
    "Ask with the whole organ",
    "hard",
    task="""
    An anchor of one token is a noisy question. Take all tokens of the organ instead: the mean of their *directions*,
    and the cosine of every token with it (a prototype). But a token of the organ must not be asked with itself in the
    mean: leave it out of its own prototype, or the map flatters the organ.
    """,
    hints=[
        "The sum of the organ's unit vectors; for a token of the organ, that sum less its own vector.",
        "Both go to length 1 before the product: `F.cosine_similarity` does it.",
    ],
    imports="import torch\nimport torch.nn.functional as F",
    use="""
    token_map = of_one[S2DC]
    organs, body = grids_of(one, token_map)
    whole = torch.as_tensor(my_prototype(token_map.features.double(), organs == left)).float()
    for name, similarity in {"one token": similarity_heatmap(token_map, where_left), "the organ": whole}.items():
        print(f"asked with {name}: hits {measure_map(similarity, organs, body, left)[2]:.0%} for the left kidney")
    """,
)


@prototype.stub
def my_prototype(features, inside):
    """Cosines [X, Y, Z]; features [X, Y, Z, C] of any length, inside [X, Y, Z] of booleans, two tokens or more."""
    raise NotImplementedError


@prototype.solution
def my_prototype(features, inside):
    """Cosines [X, Y, Z]; features [X, Y, Z, C] of any length, inside [X, Y, Z] of booleans, two tokens or more."""
    unit = F.normalize(features, dim=-1)
    others = unit[inside].sum(0) - inside[..., None] * unit
    return F.cosine_similarity(unit, others, dim=-1)


def asked(features, inside, directions=True, own=False, scaled=True):
    """The map of a prototype, with one of its steps left out."""
    unit = F.normalize(features, dim=-1)
    parts = unit if directions else features
    others = parts[inside].sum(0) - (0 if own else inside[..., None] * parts)
    if scaled:
        return F.cosine_similarity(unit, others, dim=-1)
    count = int(inside.sum()) - (0 if own else inside[..., None].double())
    return (unit * others / count).sum(-1)


@prototype.accepted("numpy, token by token, with means")
def my_prototype(features, inside):
    tokens, organ = features.numpy(), inside.numpy()
    unit = tokens / np.linalg.norm(tokens, axis=-1, keepdims=True)
    found = np.empty(organ.shape)
    for cell in np.ndindex(organ.shape):
        others = organ.copy()
        others[cell] = False
        mean = unit[others].mean(axis=0)
        found[cell] = unit[cell] @ mean / np.linalg.norm(mean)
    return found


@prototype.mistake("itself in the mean", "left out of its own")
def my_prototype(features, inside):
    return asked(features, inside, own=True)


@prototype.mistake("mean of features of any length", "long features")
def my_prototype(features, inside):
    return asked(features, inside, directions=False)


@prototype.mistake("mean not brought to length 1", "shorter than 1")
def my_prototype(features, inside):
    return asked(features, inside, scaled=False)


@prototype.mistake("mean over everything", "over all tokens")
def my_prototype(features, inside):
    return asked(features, torch.ones_like(inside))


@prototype.mistake("mean of the others", "other organs")
def my_prototype(features, inside):
    return asked(features, ~inside)


@prototype.check
def check_prototype(answer):
    for seed in (3, 4):
        features = a_map(seed) + torch.linspace(-0.5, 1, 7)
        inside = torch.zeros(GRID, dtype=torch.bool)
        inside[1:3, 2:4, 1:3] = True
        found = as_tensor(answer(features.clone(), inside.clone()), GRID, "a map")

        def same(found=found, features=features, inside=inside, **left_out):
            return torch.allclose(found, asked(features, inside, **left_out), atol=1e-4)

        flattered = "every token of the organ is also in the mean that it is asked with: left out of its own prototype"
        assert not same(own=True), flattered
        for own in (False, True):
            long = "long features weigh more in this mean: bring each to length 1 before, the directions count"
            assert not same(directions=False, own=own), long
            short = "a mean of unit vectors is shorter than 1: bring it to length 1 for a cosine"
            assert not same(scaled=False, own=own), short
            everything = "the mean goes over all tokens: only those inside"
            assert not same(inside=torch.ones_like(inside), own=own), everything
            assert not same(inside=~inside, own=own), "the mean is that of the other organs, not of this one"
        right = asked(features, inside)
        off = float((found - right).abs().max())
        assert same(), f"not the cosines with the mean direction of the others: off by up to {off:.3g}"
    gain = float((asked(features, inside, own=True) - right)[inside].mean())
    return f"With itself in the mean, eight tokens of noise would look {gain:+.2f} more alike."


EXPLORE = [
    (
        """
        Set `image = "phantom_pet"`, or a scan of your own with its `modality`. Which organ stands out most (*inside -
        others*), and for which encoder?
        """,
        """
        In PET of body 1000, with anchors at the deepest voxels: the stomach, by $\\mathcal{L}_g$ (0.59); S2DC has 0.42
        there and its own best is the gallbladder (0.45). The vena cava stands out for none of the three (0.03 to
        0.06). Mind the measure: *inside - others* rewards an encoder that spreads all tokens, and by the silhouette
        (notebook 06) $\\mathcal{L}_g$ is the last of the three in PET.
        """,
    ),
    (
        """
        The prototype uses labels. Why is a comparison with it no fair test of an encoder that was trained without any?
        """,
        """
        It tells the answer beforehand: which tokens belong to the organ. A map from one token has to find that out by
        itself. It is fair to ask two *encoders* with the same prototype; it is not fair to hold a prototype's map of
        one against an anchor's map of the other. And on the labelled body itself it is a fit: ask on another body
        ([notebook 12](12_another_patient.ipynb)).
        """,
    ),
]
