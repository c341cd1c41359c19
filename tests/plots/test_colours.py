"""The colours of labels can be told apart, by readers who see red and green alike too, and names are short."""

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from s2dc_core.plots.colours import LABEL_COLOURS, label_colour, short_name

color = pytest.importorskip("skimage.color", reason="scikit-image measures the distances")

SIGHTS = {
    "normal": np.eye(3),
    "deuteranope": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "protanope": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
}
"""What an eye makes of linear RGB: Machado, Oliveira and Fernandes, "A physiologically-based model for simulation of
color vision deficiency", IEEE TVCG 15 (2009), the table's matrices of severity 1."""

TISSUE = ("#737373", "#7F7F7F", "#8C8C8C")
"""Soft tissue of 20 to 60 HU in the course's window of -160 to 240 HU: 0.45 to 0.55 of white."""


def seen(colours, sight):
    """CIELAB of colours as an eye sees them, [n, 3]."""
    rgb = np.array([to_rgb(colour) for colour in colours])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    linear = (linear @ np.transpose(SIGHTS[sight])).clip(0, 1)
    return color.rgb2lab(np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055))


def pairs(lab, distance):
    first, second = np.triu_indices(len(lab), 1)
    return distance(lab[first], lab[second])


@pytest.mark.parametrize("sight", SIGHTS)
def test_any_two_labels_can_be_told_apart(sight):
    lab = seen(LABEL_COLOURS, sight)
    assert len(lab) == 13
    assert pairs(lab, color.deltaE_cie76).min() >= 20
    assert pairs(lab, color.deltaE_ciede2000).min() >= 10


@pytest.mark.parametrize("sight", SIGHTS)
def test_no_label_looks_like_soft_tissue_or_air(sight):
    lab = seen(LABEL_COLOURS, sight)
    for grey in (*TISSUE, "#000000"):
        assert color.deltaE_cie76(lab, seen([grey], sight)).min() >= 20, grey


def test_the_measure_finds_what_was_wrong_before():
    """The review's case: of the old list a deuteranope took the oesophagus for the pancreas."""
    assert pairs(seen(("#CC79A7", "#44AA99"), "deuteranope"), color.deltaE_cie76)[0] < 10


def test_labels_beyond_the_list_start_again():
    assert label_colour(14) == label_colour(1) == LABEL_COLOURS[0]


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("right_kidney", "R kidney"),
        ("kidney left", "L kidney"),
        ("left_adrenal_gland", "L adrenal"),
        ("inferior_vena_cava", "IVC"),
        ("portal_and_splenic_veins", "portal v."),
        ("liver", "liver"),
        ("upright bone", "upright bone"),
        ("a_very_long_structure_name", "a very long s…"),
        ("a$b", r"a\$b"),
    ],
)
def test_short_names(name, short):
    assert short_name(name) == short
