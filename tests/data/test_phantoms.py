"""Phantoms: the same seed the same body, every organ in its place, of its size, with its intensity."""

import numpy as np
import pytest
from scipy import ndimage

from s2dc_core.data import phantoms
from s2dc_core.data.phantoms import FINDINGS, MODALITIES, ORGANS, TISSUES, load_tissue_table, make_phantom, mr_signal

SEEDS = range(1000, 1008)
COARSE = {"shape": (90, 60, 90), "spacing": (4.0, 4.0, 4.0)}
LABEL = {name: label for label, name in TISSUES.items()}
VOXEL_ML = 2.5**3 / 1000

# Adults, ml, generous on both sides: published ranges (spleen 80-350, liver 900-2400, kidney 80-250, pancreas 35-130,
# gallbladder 5-70, adrenal 2-8 each); what the field of view cuts or food fills follows from its radius and length.
VOLUME_ML = {
    "spleen": (70, 380), "right_kidney": (75, 280), "left_kidney": (75, 280), "gallbladder": (5, 80),
    "oesophagus": (10, 60), "liver": (850, 2500), "stomach": (120, 800), "aorta": (60, 230),
    "inferior_vena_cava": (40, 220), "portal_and_splenic_veins": (7, 50), "pancreas": (30, 140),
    "right_adrenal": (2, 12), "left_adrenal": (2, 12),
}  # fmt: skip


@pytest.fixture(scope="module")
def bodies():
    """Eight CT bodies at the default size."""
    return {seed: make_phantom(seed) for seed in SEEDS}


def centre(phantom, name, source="label"):
    """Centroid of an organ or tissue in world mm."""
    voxels = np.argwhere(getattr(phantom, source) == LABEL[name])
    return phantom.affine[:3, :3] @ voxels.mean(0) + phantom.affine[:3, 3]


def inner_mean(phantom, name):
    """Mean of an organ away from its border, where the blur mixes it with its neighbours."""
    mask = phantom.tissue == LABEL[name]
    inner = ndimage.binary_erosion(mask)
    return phantom.volume[inner if inner.sum() > 20 else mask].mean()


def test_names_are_btcv_in_its_order():
    assert list(ORGANS) == list(range(1, 14))
    assert [ORGANS[k] for k in (1, 2, 3, 6, 8, 9, 13)] == [
        "spleen", "right_kidney", "left_kidney", "liver", "aorta", "inferior_vena_cava", "left_adrenal",
    ]  # fmt: skip
    assert all(TISSUES[label] == name for label, name in ORGANS.items())
    assert {"vertebrae", "ribs", "right_lung", "left_lung", "muscle", "subcutaneous_fat", "skin"} <= set(LABEL)


def test_shapes_types_and_affine(bodies):
    phantom = bodies[1000]
    assert (
        phantom.volume.shape == phantom.label.shape == phantom.tissue.shape == phantom.finding.shape == (144, 96, 144)
    )
    assert phantom.volume.dtype == np.float32 and phantom.affine.dtype == np.float64
    assert phantom.label.dtype == phantom.tissue.dtype == phantom.finding.dtype == np.uint8
    np.testing.assert_allclose(phantom.affine[:3, :3], np.diag([2.5] * 3))
    body = np.argwhere(phantom.tissue > 0).mean(0)
    assert np.abs(phantom.affine[:3, :3] @ body + phantom.affine[:3, 3]).max() < 25
    assert phantom.volume.min() >= -1024 and phantom.volume.max() <= 3071
    assert not phantom.finding.any() and phantom.modality == "ct"
    organs = phantom.tissue <= 13
    np.testing.assert_array_equal(phantom.label[organs], phantom.tissue[organs])
    assert not phantom.label[~organs].any()
    assert set(np.unique(phantom.tissue)) == set(TISSUES)


@pytest.mark.parametrize("modality", MODALITIES)
def test_same_seed_same_body_bit_for_bit(modality):
    first = make_phantom(7, modality, **COARSE)
    phantoms._anatomy_maps.cache_clear()
    second = make_phantom(7, modality, **COARSE)
    for one, other in zip(first[:5], second[:5], strict=True):
        assert one.tobytes() == other.tobytes()


def test_all_modalities_share_one_anatomy_and_callers_cannot_change_it():
    first = make_phantom(3, "ct", **COARSE)
    label = first.label.copy()
    first.label[:], first.tissue[:] = 0, 0
    for modality in MODALITIES:
        phantom = make_phantom(3, modality, **COARSE)
        np.testing.assert_array_equal(phantom.label, label)
        assert np.isfinite(phantom.volume).all() and phantom.modality == modality
        assert modality == "ct" or phantom.volume.min() >= 0


def test_subjects_differ(bodies):
    places, volumes = [], []
    for phantom in bodies.values():
        places.append([centre(phantom, name) for name in ORGANS.values()])
        volumes.append([(phantom.label == organ).sum() for organ in ORGANS])
    assert (np.std(places, axis=0).max(axis=1) > 2).all()  # mm
    assert (np.std(volumes, axis=0) / np.mean(volumes, axis=0) > 0.04).all()
    for organ in ORGANS:
        one, other = bodies[1000].label == organ, bodies[1001].label == organ
        assert 2 * (one & other).sum() / (one.sum() + other.sum()) < 0.95


def test_every_organ_is_one_piece_of_plausible_size(bodies):
    for seed, phantom in bodies.items():
        for organ, name in ORGANS.items():
            mask = phantom.label == organ
            low, high = VOLUME_ML[name]
            assert low <= mask.sum() * VOXEL_ML <= high, (seed, name, mask.sum() * VOXEL_ML)
            pieces = np.bincount(ndimage.label(mask, np.ones((3, 3, 3)))[0].ravel())[1:]
            assert pieces.max() / mask.sum() > 0.9, (seed, name)


def test_organs_lie_where_they_belong(bodies):
    """RAS+: x grows to the right, y to the front, z upwards."""
    for seed, p in bodies.items():
        at = {name: centre(p, name) for name in ORGANS.values()} | {
            name: centre(p, name, "tissue")
            for name in ("vertebrae", "right_lung", "left_lung", "heart", "spinal_canal")
        }
        x, y, z = ({name: place[axis] for name, place in at.items()} for axis in range(3))
        assert x["liver"] > 20 > -20 > x["stomach"] > x["spleen"], seed
        assert x["right_kidney"] > 30 and x["left_kidney"] < -30, seed
        assert x["right_lung"] > 30 and x["left_lung"] < -30 and x["heart"] < 0, seed
        assert x["inferior_vena_cava"] > 10 > x["aorta"], seed
        assert x["right_adrenal"] > 10 and x["left_adrenal"] < -10 and x["gallbladder"] > 30, seed
        assert z["right_adrenal"] > z["right_kidney"] + 25 and z["left_adrenal"] > z["left_kidney"] + 20, seed
        assert z["gallbladder"] < z["liver"] and z["heart"] > z["liver"] + 60 and z["oesophagus"] > z["stomach"], seed
        assert min(z["right_lung"], z["left_lung"]) > max(z["liver"], z["spleen"]), seed
        assert y["vertebrae"] < min(y["aorta"], y["inferior_vena_cava"]) < y["pancreas"], seed
        assert y["spinal_canal"] < y["vertebrae"] + 5 and y["right_kidney"] < y["pancreas"] < y["stomach"] + 15, seed
        assert y["portal_and_splenic_veins"] < y["pancreas"] + 8, seed
        top = [np.argwhere(p.tissue == LABEL[lung])[:, 2].min() for lung in ("right_lung", "left_lung")]
        assert max(top) < np.argwhere(p.label == LABEL["liver"])[:, 2].max(), seed  # the recess dips behind the liver


def test_each_organ_has_ten_tokens_over_eight_bodies(bodies):
    """A token at level 1 is 4 x 4 x 4 voxels, at least half of them the organ's."""
    tokens = dict.fromkeys(ORGANS, 0)
    for phantom in bodies.values():
        for organ in ORGANS:
            share = (phantom.label == organ).reshape(36, 4, 24, 4, 36, 4).mean((1, 3, 5))
            tokens[organ] += int((share >= 0.5).sum())
    print({ORGANS[organ]: count for organ, count in tokens.items()})
    assert min(tokens.values()) >= 10, tokens


def test_ct_numbers_follow_the_table(bodies):
    table = load_tissue_table()["materials"]
    rows = {"liver": "liver", "spleen": "spleen", "aorta": "blood", "pancreas": "pancreas", "muscle": "muscle",
            "subcutaneous_fat": "subcutaneous_fat", "gallbladder": "bile"}  # fmt: skip
    for tissue, material in rows.items():
        mean, spread, _ = table[material]["hu"]
        measured = [inner_mean(p, tissue) for p in bodies.values()]
        assert abs(np.mean(measured) - mean) < spread + 15, (tissue, np.mean(measured))
    one = bodies[1000]
    assert inner_mean(one, "right_lung") < -700 and inner_mean(one, "vertebrae") > 150
    assert inner_mean(one, "right_kidney") > inner_mean(one, "liver") > inner_mean(one, "muscle") > 30
    assert one.volume[one.tissue == 0].mean() < -950


def test_pet_and_mr_contrasts():
    names = ("aorta", "gallbladder", "heart", "liver", "muscle", "right_kidney", "right_lung", "spinal_canal", "spleen")
    names = (*names, "subcutaneous_fat")
    means = []
    for modality in MODALITIES[1:]:
        people = [make_phantom(seed, modality, **COARSE) for seed in (1001, 1002, 1003)]
        means.append({name: np.mean([inner_mean(person, name) for person in people]) for name in names})
    pet, t1, t2, t1ce = means
    assert pet["right_kidney"] > pet["liver"] > pet["spleen"] > pet["muscle"] > pet["subcutaneous_fat"]
    assert pet["heart"] > 1.5 and pet["right_lung"] < 1 and 1.3 < pet["liver"] < 3.5
    assert t1["subcutaneous_fat"] > t1["liver"] > t1["spleen"] > t1["gallbladder"]
    assert min(t2["spinal_canal"], t2["gallbladder"]) > t2["spleen"] > t2["liver"] > t2["muscle"]
    assert t1ce["aorta"] > 1.5 * t1["aorta"] and t1ce["liver"] > 1.1 * t1["liver"]
    assert abs(t1ce["gallbladder"] / t1["gallbladder"] - 1) < 0.35


def test_mr_signal_equation():
    """Spoiled gradient echo and spin echo against their closed forms; gadolinium shortens T1."""
    t1, t2, density = np.array([500.0]), np.array([50.0]), np.array([0.8])
    recovery = np.exp(-100 / 500)
    expected = 0.8 * np.sin(np.pi / 3) * (1 - recovery) / (1 - 0.5 * recovery) * np.exp(-2 / 50)
    np.testing.assert_allclose(mr_signal(t1, t2, density, 0.0, 4.5, "gradient_echo", 100.0, 2.0, 60.0), expected)
    expected = 0.8 * (1 - np.exp(-3000 / 500)) * np.exp(-80 / 50)
    np.testing.assert_allclose(mr_signal(t1, t2, density, 0.0, 4.5, "spin_echo", 3000.0, 80.0), expected)
    bright = mr_signal(t1, t2, density, 1.0, 4.5, "gradient_echo", 100.0, 2.0, 60.0)
    np.testing.assert_allclose(
        bright, mr_signal(np.array([1 / 0.0065]), t2, density, 0, 4.5, "gradient_echo", 100.0, 2.0, 60.0)
    )


def test_spacing_and_field_of_view_show_the_same_body(bodies):
    coarse = make_phantom(1002, **COARSE)
    crop = make_phantom(1002, shape=(96, 80, 64))
    for organ, name in ORGANS.items():
        fine = (bodies[1002].label == organ).sum() * VOXEL_ML
        assert abs((coarse.label == organ).sum() * 0.064 / fine - 1) < (0.25 if "adrenal" in name else 0.12), name
    np.testing.assert_array_equal(crop.tissue, bodies[1002].tissue[24:120, 8:88, 40:104])
    wide = make_phantom(1002, shape=(40, 30, 50), spacing=(10, 8.0, 8.0))
    assert (wide.label == LABEL["liver"]).sum() * 0.64 > 900
    assert make_phantom(1002, shape=(1, 1, 1)).volume.shape == (1, 1, 1)


@pytest.mark.parametrize("finding", FINDINGS)
def test_findings_change_their_neighbourhood_only(finding):
    modality = "pet" if finding == "hot_lesion" else "ct"
    for seed in (1, 2, 3):
        plain = make_phantom(seed, modality, **COARSE)
        ill = make_phantom(seed, modality, findings=[finding], **COARSE)
        marked = ill.finding == 1
        assert marked.sum() > 20 and ill.finding.max() == 1
        np.testing.assert_array_equal(ill.tissue, plain.tissue)
        changed = np.abs(ill.volume - plain.volume) > 1e-3
        assert not (changed & ~ndimage.binary_dilation(marked, np.ones((3, 3, 3)), iterations=3)).any()
        shift = (ill.volume - plain.volume)[marked].mean()
        assert {"focal_lung": shift > 300, "diffuse_lung": shift > 150, "liver_lesion": shift < -20,
                "hot_lesion": shift > 2}[finding], (seed, shift)  # fmt: skip


def test_several_findings_are_numbered_in_order():
    phantom = make_phantom(5, findings=FINDINGS, **COARSE)
    assert set(np.unique(phantom.finding)) == {0, 1, 2, 3, 4}
    assert set(np.unique(phantom.tissue[phantom.finding == 3])) == {LABEL["liver"]}
    assert set(np.unique(phantom.tissue[phantom.finding == 1])) <= {LABEL["right_lung"], LABEL["left_lung"]}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"modality": "xray"}, "unknown modality 'xray'.*mr_t1ce"),
        ({"findings": ["fracture"]}, "unknown finding 'fracture'.*liver_lesion"),
        ({"findings": "fracture"}, "unknown finding 'fracture'"),
        ({"shape": (96, 96)}, r"shape must be three .*\(96, 96\)"),
        ({"shape": (96, 0, 96)}, "shape must be three"),
        ({"spacing": (2.5, -1.0, 2.5)}, "spacing must be three positive numbers"),
        ({"spacing": (2.5, 2.5, float("nan"))}, "spacing must be three positive numbers"),
        ({"seed": -1}, "seed must be a whole number"),
    ],
)
def test_bad_input_names_the_value_and_the_choices(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_phantom(**({"seed": 1} | arguments))


def test_every_table_row_names_its_source():
    table = load_tissue_table()
    for name, row in table["materials"].items():
        assert row["from"] in table["sources"], name
        assert len(row["hu"]) == len(row["suv"]) == 3 and len(row["mr"]) == 4, name
    assert set(table["sequences"]) | {"ct", "pet"} == set(MODALITIES) == set(table["imaging"])
