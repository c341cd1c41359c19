"""Exercises of notebook 12: carry labels over, trust only matches that come back, and ask for the baseline."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from scipy.spatial import KDTree
from sklearn.neighbors import KNeighborsClassifier

from s2dc_core.exercises import Exercise, as_number, as_tensor


def two_scans(seed, sizes=(40, 30), channels=6):
    """Features of two scans' tokens [N, C] and [M, C], of several lengths."""
    generator = torch.Generator().manual_seed(seed)
    maps = [torch.randn(size, channels, generator=generator, dtype=torch.float64) for size in sizes]
    return [each * (0.3 + torch.rand(len(each), 1, generator=generator, dtype=torch.float64)) for each in maps]


def some_labels(seed, size=40):
    """Labels 0, 3 and 7; half of the tokens are background."""
    generator = torch.Generator().manual_seed(seed)
    return torch.tensor([0, 0, 3, 7])[torch.randint(4, (size,), generator=generator)]


carrying = Exercise(
    "Carry labels over",
    "easy",
    task="""
    Write one-shot labels: each token of the target gets the label of the labelled token with the largest cosine. Label
    0 is background, and it takes part: a token that looks like none of the organs must be able to say so.
    """,
    hints=["`F.normalize` both, one matrix product, `argmax` over the labelled tokens.", "`label[best]` looks it up."],
    imports="import torch\nimport torch.nn.functional as F",
    use="""
    one, two = labelled[S2DC], target[S2DC]
    known, asked = one.tokens.features[one.body], two.tokens.features[two.body]
    mine = torch.as_tensor(my_labels(known, one.owner[one.body], asked))
    print(f"equal to the core's for {float((mine == plain[S2DC][two.body]).double().mean()):.1%} of the tokens")
    """,
    behind="who-16",
)


@carrying.stub
def my_labels(features, label, target):
    """Labels [M]; features [N, C] and label [N] of the labelled scan, target [M, C], of any length."""
    raise NotImplementedError


@carrying.solution
def my_labels(features, label, target):
    """Labels [M]; features [N, C] and label [N] of the labelled scan, target [M, C], of any length."""
    cosine = F.normalize(target, dim=1) @ F.normalize(features, dim=1).T
    return label[cosine.argmax(1)]


def carried(features, label, target, lengths=False, least=False):
    """Nearest labels, with a step done otherwise."""
    one, two = (features, target) if lengths else (F.normalize(features, dim=1), F.normalize(target, dim=1))
    cosine = two @ one.T
    return label[(cosine.argmin(1) if least else cosine.argmax(1))]


def by_means(features, label, target):
    """The label of the nearest class mean."""
    kinds = label.unique()
    means = torch.stack([F.normalize(features[label == kind], dim=1).mean(0) for kind in kinds])
    return kinds[(F.normalize(target, dim=1) @ F.normalize(means, dim=1).T).argmax(1)]


@carrying.accepted("scikit-learn")
def my_labels(features, label, target):
    nearest = KNeighborsClassifier(1, metric="cosine", algorithm="brute")
    return nearest.fit(features.numpy(), label.numpy()).predict(target.numpy())


@carrying.accepted("a loop, a list, float32")
def my_labels(features, label, target):
    found = []
    for token in target.float():
        found.append(int(label[F.cosine_similarity(features.float(), token, dim=1).argmax()]))
    return found


@carrying.mistake("the best token, not its label", "the places of the nearest")
def my_labels(features, label, target):
    return (F.normalize(target, dim=1) @ F.normalize(features, dim=1).T).argmax(1)


@carrying.mistake("the shortest distance", "the straight distance")
def my_labels(features, label, target):
    return label[torch.cdist(target, features).argmin(1)]


@carrying.mistake("background left out", "background")
def my_labels(features, label, target):
    return carried(features[label > 0], label[label > 0], target)


@carrying.mistake("lengths left in", "long")
def my_labels(features, label, target):
    return carried(features, label, target, lengths=True)


@carrying.mistake("the least similar", "least similar")
def my_labels(features, label, target):
    return carried(features, label, target, least=True)


@carrying.mistake("mean of each label", "mean of each label")
def my_labels(features, label, target):
    return by_means(features, label, target)


@carrying.check
def check_carrying(answer):
    for seed in (1, 2):
        (features, target), label = two_scans(seed), some_labels(seed)
        found = as_tensor(answer(features.clone(), label.clone(), target.clone()), (30,), "labels")
        right = carried(features, label, target)

        def same(other, found=found):
            return torch.equal(found.long(), other.long())

        organs = label > 0
        trap = "background takes no part: every token of fat and muscle must now be given to some organ"
        assert not same(carried(features[organs], label[organs], target)), trap
        best = (F.normalize(target, dim=1) @ F.normalize(features, dim=1).T).argmax(1)
        assert not same(best), "these are the places of the nearest tokens, not their labels: label[best]"
        straight = label[torch.cdist(target, features).argmin(1)]
        assert not same(straight), "the straight distance depends on lengths: the cosine"
        assert not same(carried(features, label, target, lengths=True)), "a long token wins everywhere: cosines"
        assert not same(carried(features, label, target, least=True)), "these are the labels of the least similar token"
        assert not same(by_means(features, label, target)), "the mean of each label is asked, not its tokens"
        assert same(right), f"{int((found != right).sum())} of 30 labels differ from those of the nearest tokens"


mutual = Exercise(
    "Matches that come back",
    "medium",
    task="""
    A match is *mutual* if each of the two tokens is the other's best. From the similarities of all target tokens (rows)
    with all source tokens (columns), return the mutual pairs as [K, 2], (target, source), in the order of the targets.
    """,
    hints=[
        "`forward = similarity.argmax(1)`, `back = similarity.argmax(0)`.",
        "Target i comes home if back[forward[i]] == i.",
    ],
    imports="import torch",
    use="""
    unit = [side.tokens.features[side.body][:2000] for side in (part[S2DC], labelled[S2DC])]
    unit = [each / each.norm(dim=1, keepdim=True) for each in unit]
    print(f"{len(my_mutual(unit[0] @ unit[1].T))} mutual pairs among the first 2,000 tokens of each body")
    """,
    behind="who-24",
)


@mutual.stub
def my_mutual(similarity):
    """Pairs [K, 2] of (target, source); similarity [M, N]."""
    raise NotImplementedError


@mutual.solution
def my_mutual(similarity):
    """Pairs [K, 2] of (target, source); similarity [M, N]."""
    forward, back = similarity.argmax(1), similarity.argmax(0)
    home = (back[forward] == torch.arange(len(forward))).nonzero()[:, 0]
    return torch.stack([home, forward[home]], 1)


def homecoming(similarity):
    """The pairs, from targets on."""
    forward, back = similarity.argmax(1), similarity.argmax(0)
    home = (back[forward] == torch.arange(len(forward))).nonzero()[:, 0]
    return torch.stack([home, forward[home]], 1)


@mutual.accepted("a list of pairs, one row after the other")
def my_mutual(similarity):
    pairs = []
    for target, row in enumerate(similarity.numpy()):
        source = row.argmax()
        if similarity[:, source].argmax() == target:
            pairs.append((target, int(source)))
    return pairs


@mutual.accepted("largest of its row and of its column, in numpy")
def my_mutual(similarity):
    table = similarity.numpy()
    return np.argwhere((table == table.max(1, keepdims=True)) & (table == table.max(0)))


@mutual.mistake("two lists, not pairs", "[K, 2]")
def my_mutual(similarity):
    return homecoming(similarity).T


@mutual.mistake("forward alone", "one way only")
def my_mutual(similarity):
    return torch.stack([torch.arange(len(similarity)), similarity.argmax(1)], 1)


@mutual.mistake("backward alone", "other way only")
def my_mutual(similarity):
    return torch.stack([similarity.argmax(0), torch.arange(similarity.shape[1])], 1)


@mutual.mistake("source first", "source, target")
def my_mutual(similarity):
    return homecoming(similarity).flip(1)


@mutual.mistake("same index", "own index")
def my_mutual(similarity):
    size = min(similarity.shape)
    same = (similarity.argmax(1)[:size] == similarity.argmax(0)[:size]).nonzero()[:, 0]
    return torch.stack([same, similarity.argmax(1)[same]], 1)


@mutual.check
def check_mutual(answer):
    for seed, size in ((3, (12, 9)), (4, (9, 14))):
        similarity = torch.rand(*size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        right, forward, back = homecoming(similarity), similarity.argmax(1), similarity.argmax(0)
        given = answer(similarity.clone())
        assert hasattr(given, "__len__"), f"pairs [K, 2] are wanted; yours is a {type(given).__name__}"
        lying = np.shape(given)[-1:] == (2,)
        assert lying, f"pairs [K, 2] are wanted, one in each row; yours has the shape {list(np.shape(given))}"
        found = as_tensor(given, (len(given), 2), "a list of pairs")

        def same(other, found=found):
            return found.shape == other.shape and torch.equal(found.long(), other.long())

        whole = torch.stack([torch.arange(size[0]), forward], 1)
        assert not same(whole), "one way only: is the target also the best of its source?"
        assert not same(torch.stack([back, torch.arange(size[1])], 1)), "the other way only: start from the targets"
        assert not same(right.flip(1)), "the pairs are (source, target): the target comes first"
        few = min(size)
        alike = (forward[:few] == back[:few]).nonzero()[:, 0]
        own = "forward and back are compared at the target's own index: follow back[forward[i]] instead"
        assert not same(torch.stack([alike, forward[alike]], 1)) or same(right), own
        assert same(right), (
            f"{len(right)} pairs come home, {right[:3].tolist()} and so on; yours are {found[:3].tolist()}"
        )


tripping = Exercise(
    "There and back again",
    "medium",
    task="""
    Not every token comes home; how far astray do they go? For each target token follow its best source token back to
    that one's best target token, and return the *median* distance in mm between start and end. `places` [M, 3] are the
    centres of the target tokens in mm.
    """,
    hints=["`end = back[forward]`, then the distance of `places[end]` and `places`."],
    imports="import torch",
    use="""
    two = [side.tokens.features[side.body][:2000] for side in (part[S2DC], labelled[S2DC])]
    two = [each / each.norm(dim=1, keepdim=True) for each in two]
    where = torch.from_numpy(mutual_matches(labelled, part, S2DC)[0].target_mm[:2000])
    print(f"median way astray among the first 2,000 tokens: {float(my_round_trip(two[0] @ two[1].T, where)):.0f} mm")
    """,
)


@tripping.stub
def my_round_trip(similarity, places):
    """Millimetres; similarity [M, N] of targets (rows) and sources, places [M, 3] of the targets in mm."""
    raise NotImplementedError


@tripping.solution
def my_round_trip(similarity, places):
    """Millimetres; similarity [M, N] of targets (rows) and sources, places [M, 3] of the targets in mm."""
    end = similarity.argmax(0)[similarity.argmax(1)]
    return (places[end] - places).norm(dim=1).median()


def astray(similarity, places):
    """Distance of every token from where it started."""
    return (places[similarity.argmax(0)[similarity.argmax(1)]] - places).norm(dim=1)


@tripping.accepted("numpy, token by token")
def my_round_trip(similarity, places):
    table, where = similarity.numpy(), places.numpy()
    return np.median([math.dist(where[table[:, row.argmax()].argmax()], here) for row, here in zip(table, where)])  # noqa: B905


@tripping.mistake("mean", "mean")
def my_round_trip(similarity, places):
    return astray(similarity, places).mean()


@tripping.mistake("only those astray", "came home")
def my_round_trip(similarity, places):
    away = astray(similarity, places)
    return away[away > 0].median()


@tripping.mistake("squared", "squared")
def my_round_trip(similarity, places):
    return astray(similarity, places).square().median()


@tripping.mistake("sum of axes", "along the axes")
def my_round_trip(similarity, places):
    end = similarity.argmax(0)[similarity.argmax(1)]
    return (places[end] - places).abs().sum(1).median()


@tripping.check
def check_tripping(answer):
    for seed in (5, 6):
        generator = torch.Generator().manual_seed(seed)
        similarity = torch.rand(61, 20, generator=generator, dtype=torch.float64)
        places = 100 * torch.rand(61, 3, generator=generator, dtype=torch.float64)
        away = astray(similarity, places)
        found, right = as_number(answer(similarity.clone(), places.clone()), "a distance"), float(away.median())

        def same(other, found=found):
            return math.isclose(found, float(other), abs_tol=1e-6)

        assert not same(away.mean()), "this is the mean: a few that go far astray decide it"
        assert not same(away[away > 0].median()), "those that came home count too, with 0 mm"
        assert not same(away.square().median()), "squared: the distance itself, in mm"
        ends = places[similarity.argmax(0)[similarity.argmax(1)]]
        assert not same((ends - places).abs().sum(1).median()), "summed along the axes: the straight distance"
        assert same(right), f"it is {right:.3f} mm, yours is {found:.3f}"


sceptic = Exercise(
    "The forgotten baseline",
    "hard",
    task="""
    Somebody reports that features carry labels with a Dice of 0.6. Write what a sceptic asks for: labels *by place
    alone*. Each target token gets the label of the labelled token whose place in its body's box is nearest. A place in
    the box is counted from 0 to 1 along each axis, between the smallest and the largest coordinate of that body.
    """,
    hints=[
        "Each body has a box of its own: subtract its minimum, divide by its extent.",
        "`torch.cdist(...).argmin(1)`.",
    ],
    imports="import torch",
    use="""
    for name, one in {"whole": target[S2DC], "half": part[S2DC]}.items():
        both = (labelled[S2DC], one)
        where = [torch.from_numpy(token_centres(side.tokens)[side.body.flatten().numpy()]) for side in both]
        guess = torch.zeros_like(one.owner)
        guess[one.body] = torch.as_tensor(my_guess(where[0], labelled[S2DC].owner[labelled[S2DC].body], where[1]))
        print(f"{name} scan, by place alone: Dice {mean_dice(guess, one):.2f}")
    """,
)


@sceptic.stub
def my_guess(places, label, target):
    """Labels [M]; places [N, 3] in mm and label [N] of the labelled tokens, target [M, 3] in mm."""
    raise NotImplementedError


@sceptic.solution
def my_guess(places, label, target):
    """Labels [M]; places [N, 3] in mm and label [N] of the labelled tokens, target [M, 3] in mm."""

    def in_box(points):
        low, high = points.min(0).values, points.max(0).values
        return (points - low) / (high - low)

    return label[torch.cdist(in_box(target), in_box(places)).argmin(1)]


def guessed(places, label, target, boxes="own"):
    """Labels by place, with boxes of one kind or another."""

    def box(points):
        low, high = points.min(0).values, points.max(0).values
        return (points - low) / (high - low)

    def shared(points):
        low, high = places.min(0).values, places.max(0).values
        return (points - low) / (high - low)

    def centred(points):
        return points - points.mean(0)

    def one_side(points):
        low, high = points.min(0).values, points.max(0).values
        return (points - low) / (high - low).max()

    kind = {"own": box, "shared": shared, "none": lambda points: points, "centred": centred, "longest": one_side}[boxes]
    return label[torch.cdist(kind(target), kind(places)).argmin(1)]


@sceptic.accepted("numpy and a tree")
def my_guess(places, label, target):
    one, two = ((each - each.min(axis=0)) / np.ptp(each, axis=0) for each in (places.numpy(), target.numpy()))
    return label.numpy()[KDTree(one).query(two)[1]]


@sceptic.mistake("millimetres as they are", "where the patient lies")
def my_guess(places, label, target):
    return guessed(places, label, target, "none")


@sceptic.mistake("one box for both", "a box of its own")
def my_guess(places, label, target):
    return guessed(places, label, target, "shared")


@sceptic.mistake("centres alone", "size")
def my_guess(places, label, target):
    return guessed(places, label, target, "centred")


@sceptic.mistake("the longest side for all", "each axis")
def my_guess(places, label, target):
    return guessed(places, label, target, "longest")


@sceptic.check
def check_sceptic(answer):
    for seed in (7, 8):
        generator = torch.Generator().manual_seed(seed)
        places = torch.rand(80, 3, generator=generator, dtype=torch.float64) * torch.tensor([300.0, 200.0, 400.0])
        target = torch.rand(50, 3, generator=generator, dtype=torch.float64) * torch.tensor([380.0, 200.0, 250.0])
        target, label = target + torch.tensor([40.0, -60.0, 90.0]), some_labels(seed, 80)
        found = as_tensor(answer(places.clone(), label.clone(), target.clone()), (50,), "labels").long()

        def same(boxes, found=found, places=places, label=label, target=target):
            return torch.equal(found, guessed(places, label, target, boxes))

        assert not same("none"), "millimetres of the scanner say where the patient lies, not where the organ does"
        assert not same("shared"), "both are put into one box: the target's body has a box of its own"
        assert not same("centred"), "the centres agree now, but not the size of the two bodies"
        assert not same("longest"), "divided by the longest side: each axis has an extent of its own"
        right = guessed(places, label, target)
        assert same("own"), f"{int((found != right).sum())} of 50 labels are not those of the nearest place"


EXPLORE = [
    (
        """
        Turn the other body by 20 degrees (`evaluation.turned`), or show a box of 60 % of it (`evaluation.box`). Which
        way of carrying labels suffers most?
        """,
        """
        Place in the body's box. In a quick run (bodies 1000 and 1001, one draw each) raw patches with it fall from a
        Dice of 0.68 to 0.53 for the turned body and to 0.11 for the box, S2DC with it from 0.64 to 0.33 for the box
        (0.68 turned). Plain nearest tokens lose 0.02 to 0.10. *Aligned* by their own matches, raw patches still have
        0.63 and 0.64, S2DC 0.70 and 0.68: an affine does not care where a scan is cut.
        """,
    ),
    (
        """
        Set `seed` and `other_seed` to the same body, once as it is and once `varied`. What is left to go wrong?
        """,
        """
        How it looks: contrast phase, dose, kernel, noise. As it is, everything is 1.00. Varied, in a quick run on body
        1000, the plain nearest token has 0.68 with S2DC and 0.52 with raw patches; aligned 0.83 and 0.86; deformed
        both 1.00, for there is nothing to deform, and place alone would do.
        """,
    ),
    (
        """
        Two scans of your own: `image`, `label`, `other_image`, `other_label` and `modality`. Which baseline is to be
        beaten?
        """,
        """
        The best that needs no trained features: raw patches aligned and deformed by their own matches, and
        registration of the images. In half scans of generated CT (eight bodies) they have 0.70 and 0.65, S2DC in the
        same way 0.73. And give the field of view that your question has: whole scans flatter everything that knows a
        place.
        """,
    ),
]
