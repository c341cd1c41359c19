"""Varied bodies: the same anatomy, seen as by another scanner and in another phase, and their common coordinates."""

import numpy as np
import pytest
from scipy import ndimage

from s2dc_core.data import FINDINGS, MODALITIES, TISSUES, anatomy, body_coordinates, make_phantom
from s2dc_core.data.looks import ARTERIAL, DELAYED, NATIVE, PORTAL, Protocol, contrast, draw_protocol, enhanced
from s2dc_core.data.phantoms import load_tissue_table

SEEDS = range(12)
COARSE = {"shape": (72, 48, 72), "spacing": (5.0, 5.0, 5.0)}
LABEL = {name: label for label, name in TISSUES.items()}
MATERIALS = list(load_tissue_table()["materials"])


@pytest.fixture(scope="module")
def bodies():
    """Twelve CT bodies, each as usual and varied."""
    return [[make_phantom(seed, varied=varied, **COARSE) for varied in (False, True)] for seed in SEEDS]


def mean_of(phantom, name):
    """Median of a tissue away from its border."""
    mask = phantom.tissue == LABEL[name]
    inner = ndimage.binary_erosion(mask)
    return np.median(phantom.volume[inner if inner.sum() > 20 else mask])


@pytest.mark.parametrize(
    ("modality", "mean", "sd"),
    [
        ("ct", -447.105, 512.53),
        ("pet", 0.503761, 0.726109),
        ("mr_t1", 163.793, 175.066),
        ("mr_t2", 199.669, 257.182),
        ("mr_t1ce", 177.735, 171.986),
    ],
)
def test_the_usual_look_has_not_moved(modality, mean, sd):
    """Mean and standard deviation of a body as they were before bodies could be varied."""
    volume = make_phantom(3, modality, **COARSE).volume.astype(float)
    assert volume.mean() == pytest.approx(mean, rel=1e-5) and volume.std() == pytest.approx(sd, rel=1e-5)
    np.testing.assert_array_equal(volume, make_phantom(3, modality, varied=False, **COARSE).volume)


@pytest.mark.parametrize("modality", MODALITIES)
def test_a_varied_body_is_the_same_body_with_another_image(modality):
    usual, varied, again = (make_phantom(4, modality, varied=choice, **COARSE) for choice in (False, True, True))
    for name in ("label", "tissue", "finding", "affine"):
        np.testing.assert_array_equal(getattr(varied, name), getattr(usual, name))
    assert varied.volume.tobytes() == again.volume.tobytes() and varied.volume.dtype == np.float32
    assert np.isfinite(varied.volume).all() and (modality == "ct" or varied.volume.min() >= 0)
    inside = usual.tissue > 0
    change = np.abs(varied.volume - usual.volume)[inside].mean()
    assert change > (10 if modality == "ct" else 0.1 * usual.volume[inside].std())


def test_looks_differ_between_seeds_far_more_than_people_do(bodies):
    for name, least in (("aorta", 60), ("right_kidney", 35), ("liver", 15), ("spleen", 20)):
        usual, varied = np.std([[mean_of(phantom, name) for phantom in pair] for pair in bodies], axis=0)
        assert varied > max(least, 1.5 * usual), (name, usual, varied)


def test_varied_ct_remains_ct(bodies):
    for usual, varied in bodies:
        assert varied.volume.min() >= -1024 and varied.volume.max() <= 3071
        means = {name: mean_of(varied, name) for name in ("subcutaneous_fat", "muscle", "liver", "right_lung", "aorta")}
        assert means["right_lung"] < -650 < -140 < means["subcutaneous_fat"] < -70 < 30 < means["muscle"] < 90
        assert means["liver"] > 30 and means["aorta"] > 10
        assert abs(means["subcutaneous_fat"] - mean_of(usual, "subcutaneous_fat")) < 10  # takes up no iodine


def test_noise_differs_between_scanners(bodies):
    air = [[np.std(phantom.volume[:6, :6]) for phantom in pair] for pair in bodies]
    usual, varied = np.transpose(air)
    assert np.ptp(usual) < 2 and varied.max() > 2 * varied.min()
    one, other = (phantom.volume[:6, :6].ravel() for phantom in bodies[0])
    assert abs(np.corrcoef(one, other)[0, 1]) < 0.2


@pytest.mark.parametrize("modality", MODALITIES[1:])
def test_contrasts_differ_between_seeds(modality):
    """Ratio of liver to muscle, which no overall scale changes."""
    ratios = []
    for seed in range(40):
        means = [contrast(modality, seed, protocol)[0] for protocol in (Protocol(), draw_protocol(modality, seed))]
        ratios.append([mean[MATERIALS.index("liver")] / mean[MATERIALS.index("muscle")] for mean in means])
    usual, varied = np.std(np.log(ratios), axis=0)
    assert varied > 1.2 * usual


def test_protocols_stay_in_their_ranges():
    drawn = {modality: [draw_protocol(modality, seed) for seed in range(200)] for modality in MODALITIES}
    near = np.bincount([round(protocol.phase) for protocol in drawn["ct"]], minlength=4)
    assert near.min() > 30 and drawn["ct"][0] == draw_protocol("ct", 0)
    ranges = {
        "ct": {"phase": (0, 3), "iodine": (0.7, 1.5), "noise": (5 / 8.5, 25 / 8.5), "blur": (0.7, 1.8)},
        "pet": {"blur": (4 / 6.13, 8 / 6.12), "noise": (0.5, 2)},
        "mr_t1ce": {"repetition": (0.6, 1.7), "echo": (0.7, 1.5), "flip": (40, 90), "gadolinium": (0.5, 1.3),
                    "noise": (0.5, 2.5), "blur": (0.7, 1.8), "bias": (0.12, 0.3), "scale": (0.5, 2)},
    }  # fmt: skip
    for modality, fields in ranges.items():
        for field, (low, high) in fields.items():
            values = [getattr(protocol, field) for protocol in drawn[modality]]
            assert low - 1e-9 <= min(values) < low + 0.1 * (high - low), (modality, field)
            assert high - 0.1 * (high - low) < max(values) <= high + 1e-9, (modality, field)
    uptake = np.log([protocol.uptake for protocol in drawn["pet"]])
    assert abs(uptake.std() - 0.25) < 0.01 and abs(uptake.mean()) < 0.01


def test_phases_follow_the_table():
    table = load_tissue_table()
    assert set(table["phases"]) <= set(MATERIALS) and "subcutaneous_fat" not in table["phases"]
    at = {phase: dict(zip(MATERIALS, enhanced(phase), strict=True)) for phase in (NATIVE, ARTERIAL, PORTAL, DELAYED)}
    for name, row in table["materials"].items():
        phases = table["phases"].get(name, [row["hu"][0]] * 3)
        assert [at[NATIVE][name], at[ARTERIAL][name], at[DELAYED][name]] == phases and at[PORTAL][name] == row["hu"][0]
    blood, cortex = MATERIALS.index("blood"), MATERIALS.index("renal_cortex")
    assert enhanced(0.5)[blood] == (40 + 320) / 2 and enhanced(ARTERIAL, 1.5)[cortex] == 35 + 1.5 * (190 - 35)
    np.testing.assert_array_equal(enhanced(NATIVE, 1.5), enhanced(NATIVE))
    assert at[ARTERIAL]["blood"] > 2 * at[ARTERIAL]["venous_blood"] and at[ARTERIAL]["renal_medulla"] < 100


def test_another_grid_shows_the_same_look(bodies):
    for seed in (0, 1, 2):
        fine = make_phantom(seed, shape=(90, 60, 90), spacing=(4.0, 4.0, 4.0), varied=True)
        for name in ("liver", "spleen", "aorta", "muscle", "right_lung"):
            assert mean_of(fine, name) == pytest.approx(mean_of(bodies[seed][1], name), abs=12), (seed, name)


@pytest.mark.parametrize("finding", FINDINGS)
def test_findings_change_their_neighbourhood_only(finding):
    modality = "pet" if finding == "hot_lesion" else "ct"
    plain, ill = (make_phantom(2, modality, findings=found, varied=True, **COARSE) for found in ((), finding))
    near = ndimage.binary_dilation(ill.finding > 0, np.ones((3, 3, 3)), iterations=4)
    assert (ill.finding > 0).any() and (ill.volume != plain.volume)[ill.finding > 0].any()
    np.testing.assert_array_equal(ill.volume[~near], plain.volume[~near])


def test_body_coordinates_are_those_the_anatomy_is_drawn_on():
    coordinates = body_coordinates(5, **COARSE)
    assert coordinates.shape == (3, 72, 48, 72) and coordinates.dtype == np.float32
    axes = [(np.arange(size) - (size - 1) / 2) * 5 for size in COARSE["shape"]]
    np.testing.assert_array_equal(coordinates, anatomy.warped_coordinates(anatomy.Subject.draw(5), axes))
    assert body_coordinates(5).shape == (3, 144, 96, 144)
    with pytest.raises(ValueError, match="seed must be a whole number"):
        body_coordinates(-1)


def test_body_coordinates_agree_between_grids():
    """Voxels 0, 2, 4, ... of a grid of odd size lie on the voxels of one twice as coarse."""
    fine = body_coordinates(5, (73, 49, 73), (5, 5, 5))
    coarse = body_coordinates(5, (37, 25, 37), (10, 10, 10))
    np.testing.assert_allclose(fine[:, ::2, ::2, ::2], coarse, atol=1e-3)


def test_body_coordinates_lie_on_the_frame(bodies):
    """The centre is near the origin, each axis rises, and the spinal canal is at the same place in every body."""
    canals = []
    for seed, (usual, _) in enumerate(bodies):
        coordinates = body_coordinates(seed, **COARSE)
        assert np.abs(coordinates[:, 36, 24, 36]).max() < 40
        for axis in range(3):
            steps = np.diff(coordinates[axis], axis=axis)[
                usual.tissue.take(range(1, usual.tissue.shape[axis]), axis) > 0
            ]
            assert steps.min() > 0 and 3.5 < steps.mean() < 7
        canals.append(coordinates[:2, usual.tissue == LABEL["spinal_canal"]].mean(1))
    assert np.abs(np.mean(canals, axis=0) - [0, -60]).max() < 8 and np.std(canals, axis=0).max() < 2
