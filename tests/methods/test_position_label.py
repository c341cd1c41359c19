"""Position labels: classes, values computed elsewhere, and what a head gets without looking."""

import math
from dataclasses import replace

import pytest
import torch
from monai.networks.nets.swin_unetr import WindowAttention
from torch.nn import functional as F

from s2dc_core.encoder import Encoder, EncoderConfig
from s2dc_core.methods.position_label import PositionLabelOptions, count_entropy, offset_classes
from s2dc_core.pretraining import draw_views
from s2dc_core.pretraining.regions import draw_regions
from tests.methods.series import series
from tests.methods.test_every_method import ENCODER, SCANS, small


def test_the_first_row_of_classes():
    assert offset_classes((2, 2, 2))[0].tolist() == [13, 12, 10, 9, 4, 3, 1, 0]


@pytest.mark.parametrize("side", [2, 3, 4])
def test_classes_are_those_of_a_windows_relative_positions(side):
    index = WindowAttention(8, 2, (side,) * 3).relative_position_index
    assert torch.equal(offset_classes((side,) * 3), index)


@pytest.mark.parametrize("grid", [(3, 3, 3), (2, 3, 4)])
def test_a_class_comes_as_often_as_its_offset_fits(grid):
    """The product of (g - |d|) over the axes; every class comes."""
    counts = offset_classes(grid).flatten().bincount()
    spans = [side - torch.arange(1 - side, side).abs() for side in grid]
    assert torch.equal(counts, torch.cartesian_prod(*spans).prod(1))


@pytest.mark.parametrize(
    ("side", "known", "chance"),
    [(2, 3.1191623125, 3.2958368660), (3, 4.5688652026, 4.8283137373), (4, 5.5222461857, 5.8377304472)],
)
def test_what_a_head_has_that_knows_only_the_counts(side, known, chance):
    assert count_entropy((side,) * 3) == pytest.approx(known, abs=1e-9)
    assert math.log((2 * side - 1) ** 3) == pytest.approx(chance, abs=1e-9)


def loss_of(logits, **options):
    """The method's loss where its head gives these logits, on sub-volumes of 32 at level 3: 8 tokens."""
    method = PositionLabelOptions(level=3, **options).build(ENCODER)
    method.head.forward = lambda _asked: logits[None]
    config = small("position_label", batch=1, level=3, **{"pairs": None, **options})
    return method(draw_views(config, SCANS))[0].total.item()


def test_losses_have_the_values_of_their_equations():
    assert loss_of(series(64, 27, shift=0.75), labels="relative") == pytest.approx(3.3815896386, abs=1e-9)
    assert loss_of(series(8, 8, shift=0.25), labels="absolute") == pytest.approx(2.6118740366, abs=1e-9)


def test_zero_logits_have_chance_and_counts_their_entropy():
    zeros = torch.zeros(64, 27, dtype=torch.float64)
    assert loss_of(zeros) == pytest.approx(math.log(27), abs=1e-12)
    shares = offset_classes((2, 2, 2)).flatten().bincount().double() / 64
    assert loss_of(shares.log().expand(64, -1)) == pytest.approx(count_entropy((2, 2, 2)), abs=1e-12)
    assert loss_of(zeros[:8, :8], labels="absolute") == pytest.approx(math.log(8), abs=1e-12)


def test_a_pair_is_the_first_half_of_one_and_the_second_of_the_other():
    """Against a loop over all pairs."""
    method = PositionLabelOptions(level=3).build(ENCODER).double()
    tokens = series(2, 96, 2, 2, 2)
    method.encoder.forward = lambda _volume: [None, None, None, tokens]
    config = small("position_label", pairs=None)
    found = method(draw_views(config, SCANS))[0].total
    cells, classes = tokens.flatten(2), offset_classes((2, 2, 2))
    for region in range(2):
        losses = []
        for i in range(8):
            for j in range(8):
                asked = torch.cat([cells[region, :48, i], cells[region, 48:, j]])
                losses.append(F.cross_entropy(method.head(asked[None])[0], classes[i, j]))
        torch.testing.assert_close(found[region], torch.stack(losses).mean(), atol=1e-12, rtol=0)


def test_absolute_labels_ask_the_first_half_alone():
    method = PositionLabelOptions(level=3, labels="absolute").build(ENCODER).double()
    tokens = series(2, 96, 2, 2, 2)
    views = draw_views(small("position_label", labels="absolute"), SCANS)
    losses = []
    for rows in (tokens, torch.cat([tokens[:, :48], series(2, 48, 2, 2, 2, shift=9)], 1)):
        method.encoder.forward = lambda _volume, rows=rows: [None, None, None, rows]
        losses.append(method(views)[0].total)
    assert torch.equal(*losses) and views.pairs.shape == (2, 1, 0)


def test_pairs_are_drawn_without_repetition_and_more_than_all_are_all():
    plan = draw_regions(small("position_label", pairs=50), SCANS).plan[0]["pairs"]
    assert plan.shape == (1, 50) and len(plan.unique()) == 50 and plan.min() >= 0 and plan.max() < 64
    config = small("position_label", pairs=1000)
    method = config.build()
    every = draw_views(small("position_label", pairs=None), SCANS)
    drawn = draw_views(config, SCANS)
    assert drawn.pairs.shape == (2, 1, 64)
    with torch.no_grad():
        torch.testing.assert_close(method(drawn)[0].total, method(every)[0].total)


@pytest.mark.parametrize(("window", "use_v2", "told"), [(2, False, False), (3, False, True), (2, True, True)])
def test_padding_tells_places_where_the_image_shows_nothing(window, use_v2, told):
    """Windows that fill the grids leave the tokens of a constant volume alike; what is padded does not."""
    encoder = Encoder.from_seed(replace(ENCODER, window=window, use_v2=use_v2), 0).double()
    with torch.no_grad():
        cells = encoder(torch.ones(1, 1, 32, 32, 32, dtype=torch.float64))[2].flatten(2)
    spread = (cells - cells.mean(2, keepdim=True)).abs().max()
    assert spread > 0.1 if told else spread < 1e-12


def test_a_dry_run_names_classes_and_what_the_counts_give():
    config = small("position_label")
    ((name, said),) = config.options.describe(ENCODER, draw_regions(config, SCANS))
    assert (name, said) == ("labels", "27 offsets of 64 pairs, 3.119 from how often each comes")
    config = small("position_label", labels="absolute")
    assert config.options.describe(ENCODER, draw_regions(config, SCANS))[0][1] == "8 places, chance 2.079"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"level": 4}, "must be multiples of 32, a token at level 4, and hold several"),
        ({"level": 5}, "level must be at most 4"),
        ({"labels": "both"}, "unknown .*labels 'both': choose one of relative, absolute"),
        ({"pairs": 0}, "pairs must be at least 1"),
    ],
)
def test_what_cannot_be_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        small("position_label", **values)


def test_an_odd_token_has_no_halves():
    encoder = EncoderConfig(embed_dim=9, heads=(3, 3, 3, 3), window=2, use_v2=False, sub_volume=(32, 32, 32))
    with pytest.raises(ValueError, match="embed_dim 9 must be even"):
        small("position_label", encoder=encoder, level=0)


def test_a_map_whose_pairs_cannot_be_listed_is_refused():
    large = replace(ENCODER, sub_volume=(96, 96, 96))
    with pytest.raises(ValueError, match=r"level 1 of sub_volume \[96, 96, 96\] has 13,824 tokens, more than 4,096"):
        small("position_label", encoder=large, level=1)
    small("position_label", encoder=large, level=1, labels="absolute")
    small("position_label", encoder=large, level=2)
