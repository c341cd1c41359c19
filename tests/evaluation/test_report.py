"""What `evaluate` reports is what a naive reading of the same tokens gives, and wrong input is refused early."""

from dataclasses import replace
from statistics import mean

import numpy as np
import pytest
import torch
from scipy import stats

from s2dc_core.data import open_scan
from s2dc_core.encoder import Encoder, EncoderConfig
from s2dc_core.evaluation import Mean, body_tokens, evaluate, half, pair_scores, pairs, report, scan_silhouettes
from s2dc_core.features import organ_grid, token_features

TINY = EncoderConfig(embed_dim=12, heads=(1, 2, 4, 8), depths=(1, 1, 1, 1), window=4, use_v2=False)
LEVELS = (1, 2)


@pytest.fixture(scope="module")
def scans():
    return [open_scan("phantom_ct", shape=(48, 40, 56), spacing=(5.0, 5.0, 5.0), seed=seed) for seed in range(3)]


@pytest.fixture(scope="module")
def encoders():
    return {"one": Encoder.from_seed(TINY, 1).eval(), "other": Encoder.from_seed(TINY, 2).eval()}


@pytest.fixture(scope="module")
def found(scans, encoders):
    return evaluate(encoders, scans, LEVELS, half=True, registration=False)


def row_of(found, *place):
    [row] = [row for row in found.summary() if (row.condition, row.method, row.way, row.measure) == place]
    return row


def naive_nearest(encoder, labelled, target):
    """The mean over organs of Dice in tokens, by one token after the other."""
    sides = []
    for scan in (labelled, target):
        tokens = token_features(encoder, scan.volume, LEVELS, affine=scan.affine, background=scan.background)
        body = body_tokens(tokens, scan.foreground).flatten().numpy()
        sides.append((tokens.features.flatten(0, 2).numpy(), body, organ_grid(tokens, scan.label).flatten().numpy()))
    (keys, among, owner), (queries, asked, truth) = sides
    given = np.zeros(len(truth), int)
    keys, owner = keys[among], owner[among]
    lengths = np.linalg.norm(keys, axis=1)
    for number in np.flatnonzero(asked):
        given[number] = owner[np.argmax(keys @ queries[number] / lengths)]
    organs = sorted(set(truth) - {0})
    return mean(
        2 * ((given == organ) & (truth == organ)).sum() / ((given == organ).sum() + (truth == organ).sum())
        for organ in organs
    )


def test_a_number_of_the_table_is_what_a_naive_reading_gives(found, scans, encoders):
    """Each scan labels the next, the last the first; the interval is Student's over these pairs."""
    naive = [naive_nearest(encoders["one"], scans[k], scans[(k + 1) % 3]) for k in range(3)]
    row = row_of(found, "whole", "one", "nearest", "dice")
    assert found.values("whole", "one", "nearest", "dice") == pytest.approx(naive, abs=1e-6)
    width = stats.t.ppf(0.975, 2) * np.std(naive, ddof=1) / 3**0.5
    assert row.value == pytest.approx((mean(naive), mean(naive) - width, mean(naive) + width, 3))
    assert row.value.words(3) in found.table()


def test_half_of_the_target_is_asked_in_turns(found, scans, encoders):
    naive = [naive_nearest(encoders["one"], scans[k], half(scans[(k + 1) % 3], upper=k == 1)) for k in range(3)]
    assert found.values("half", "one", "nearest", "dice") == pytest.approx(naive, abs=1e-6)
    assert row_of(found, "whole", "one", "nearest", "dice").value.mean != pytest.approx(mean(naive))


def test_differences_are_paired(found):
    ours, theirs = (np.array(found.values("whole", name, "deformed", "voxel_dice")) for name in ("one", "other"))
    row = row_of(found, "whole", "other", "deformed", "voxel_dice")
    assert row.difference == pytest.approx(Mean.of(list(ours - theirs))) and row.against == "deformed"
    assert row_of(found, "whole", "one", "deformed", "voxel_dice").difference is None
    alone = row_of(found, "whole", "place alone", "place", "dice")
    gains = np.subtract(*(found.values("whole", name, "place", "dice") for name in ("one", "place alone")))
    assert alone.difference.mean == pytest.approx(gains.mean())


def test_every_method_is_there_in_its_ways(found):
    assert found.methods == ["one", "other", "untrained", "raw patches", "place alone", "centroids"]
    for condition in ("whole", "half"):
        for method in found.methods:
            ways = list(found.scores[condition][method][0]["dice"])
            assert ways == (["nearest", "place", "aligned", "deformed", "probe"] if method in found.methods[:4]
                            else ["place"])  # fmt: skip
    assert found.settings["weights_of_raw_patches"] == {"place": 10.0, "aligned": 0.03, "metric": "euclidean"}


def test_the_untrained_encoder_is_of_the_first_ones_sizes(found, scans):
    naive = naive_nearest(Encoder.from_seed(TINY, 0).eval(), scans[0], scans[1])
    assert found.values("whole", "untrained", "nearest", "dice")[0] == pytest.approx(naive, abs=1e-6)


def test_silhouettes_are_those_of_the_scans(found, scans, encoders):
    for entry, scan in zip(found.silhouettes["other"], [*scans[1:], scans[0]], strict=True):
        assert entry["scan"] == scan.name
        assert entry["silhouette"] == pytest.approx(scan_silhouettes(encoders["other"], scan, LEVELS), abs=1e-5)
    assert "raw patches" not in found.silhouettes


def test_the_probe_learns_on_one_scan_and_is_scored_on_the_next(scans):
    """Features that are the label itself are read without an error, by whoever is fitted on the other scan."""

    def truth(scan):
        tokens = token_features(Encoder.from_seed(TINY, 0), scan.volume, 1, affine=scan.affine)
        owner = organ_grid(tokens, scan.label)
        return tokens._replace(features=100.0 * torch.nn.functional.one_hot(owner, 14).float())

    labelled, target = (pairs.Side.of(scan, truth) for scan in scans[:2])
    known = set(labelled.owner[labelled.body].tolist())
    right = torch.where(target.body & torch.isin(target.owner, torch.tensor(list(known))), target.owner, 0)
    given = pair_scores.probe_labels(labelled, target)
    assert torch.equal(given[right > 0], right[right > 0]) and not given[~target.body].any()
    alone = labelled._replace(owner=torch.full_like(labelled.owner, 3))
    assert (pair_scores.probe_labels(alone, target)[target.body] == 3).all()


def test_a_pair_without_an_alignment_counts_by_its_plain_labels(scans, encoders, monkeypatch):
    monkeypatch.setattr(pairs, "align_matches", lambda *args, **more: None)
    encode = pairs.encoded_by(encoders["one"], LEVELS)
    labelled, target = (pairs.Side.of(scan, encode) for scan in scans[:2])
    record = pair_scores.score_features(labelled, target, pairs.Weights(), report.USUAL_WAYS)
    assert record["dice"]["deformed"] == record["dice"]["nearest"] and record["inliers"] == 0
    plain = pairs.answers(labelled, target, ways=()).labels["nearest"]
    voxels = np.kron(plain.numpy(), np.ones((4, 4, 4), int))
    truth = scans[1].label.numpy()
    assert voxels.shape == truth.shape
    for organ, dice in record["voxel_dice"]["deformed"].items():
        both = (voxels == organ).sum() + (truth == organ).sum()
        assert dice == pytest.approx(2 * ((voxels == organ) & (truth == organ)).sum() / both)
    assert record["landmarks_mm"]["deformed"] == record["landmarks_mm"]["nearest"]


def test_neighbours_vote_in_the_ways_of_tokens(found, scans, encoders):
    voted = evaluate({"one": encoders["one"]}, scans[:2], LEVELS, neighbours=5, registration=False, untrained=False)
    one, five = (each.scores["whole"]["one"][0] for each in (found, voted))
    assert all(one["dice"][way] != five["dice"][way] for way in ("nearest", "place", "aligned"))
    assert one["dice"]["deformed"] == five["dice"]["deformed"] and one["retrieval"] == five["retrieval"]


def test_landmarks_of_a_half_are_of_organs_that_are_not_cut(found, scans):
    shown = half(scans[1], upper=False)
    whole = {k for k in range(1, 14) if (scans[1].label == k).sum() == (shown.label == k).sum() > 0}
    marks = found.scores["half"]["one"][0]["landmarks_mm"]["deformed"]
    assert whole and set(marks) == whole & set(scans[0].label.unique().tolist())


def test_registrations_are_compared_with_the_deformation(scans, encoders, monkeypatch):
    """A registration that finds no overlap scores 0."""

    def registered(source, target, kind, starts_mm):
        if kind == "bspline":
            raise RuntimeError("all samples map outside the moving image buffer")
        return lambda points: points

    monkeypatch.setattr(pair_scores, "register", registered)
    found = evaluate({"one": encoders["one"]}, scans[:2], LEVELS, untrained=False)
    affine, spline = (
        row_of(found, "whole", f"{kind} registration", "registered", "voxel_dice") for kind in ("affine", "B-spline")
    )
    same = [float(2 * ((a == k) & (b == k)).sum() / ((a == k).sum() + (b == k).sum()))
            for a, b in [(scans[0].label, scans[1].label)] for k in b.unique() if k > 0]  # fmt: skip
    assert affine.value.mean == pytest.approx(mean(same)) and affine.against == "deformed"
    assert spline.value.mean == 0 and " by deformed" in found.table()
    assert found.scores["whole"]["B-spline registration"][0]["landmarks_mm"] == {"registered": {}}


def test_a_pair_that_shares_no_label_in_the_half_is_left_out(scans, encoders):
    bare = scans[1].label.clone()
    bare[..., : bare.shape[2] // 2] = 0
    asked = [scans[0], scans[1]._replace(label=bare)]
    found = evaluate({"one": encoders["one"]}, asked, LEVELS, half=True, registration=False)
    assert "share no label in the half" in found.scores["half"]["one"][0]["left_out"]
    assert row_of(found, "half", "one", "nearest", "dice").value[1:] == (None, None, 1)
    assert "means over 1 pairs; no interval of fewer than two, 1 more show no organ" in found.table()
    assert "(no interval)" in found.table()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda scans: {"scans": scans[:1]}, "1 scan: labels are carried from one scan to another, give two or more"),
        (lambda scans: {"scans": [scans[0], scans[1]._replace(label=None)]}, "no labels in phantom_ct, seed 1"),
        (lambda scans: {"scans": [scans[0], scans[1]._replace(label=scans[1].label * 0)]}, "no labels in"),
        (
            lambda scans: {"scans": [scans[0], scans[1]._replace(label=scans[1].label + 20 * (scans[1].label > 0))]},
            "phantom_ct, seed 0 and phantom_ct, seed 1 share no label",
        ),
        (lambda scans: {"encoders": {}}, "no encoder"),
        (lambda scans: {"encoders": {"raw patches": Encoder.from_seed(TINY, 0)}}, "is what a baseline is called"),
        (
            lambda scans: {"encoders": {"two": Encoder.from_seed(replace(TINY, in_channels=2), 0)}},
            "the encoder two has 2 input channels",
        ),
        (lambda scans: {"levels": (1, 5)}, "give some of 0 to 4"),
        (lambda scans: {"levels": (2, 1)}, "finest first"),
        (lambda scans: {"levels": (0, 1), "ways": ("finer",)}, "there is none below 0"),
        (lambda scans: {"ways": ("nearest", "farthest")}, "there is no way farthest"),
        (lambda scans: {"neighbours": 0}, "neighbours"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_anything_is_encoded(scans, encoders, change, message, monkeypatch):
    monkeypatch.setattr(report.Side, "of", None)
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        evaluate(**({"encoders": encoders, "scans": scans, "levels": LEVELS} | change(scans)))
