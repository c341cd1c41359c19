"""Turns: torch.rot90's, undone to the last bit, and no mirror image among them."""

import pytest
import torch

from s2dc_core.methods.parts.turns import TURNS, Turn, check_isotropic, quarter_turns, turn_each, turn_misfits

CUBE = torch.arange(2 * 3 * 4 * 4 * 4).view(2, 3, 4, 4, 4)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_quarter_turns_are_those_of_rot90(axis):
    plane = [2 + each for each in range(3) if each != axis]
    for times, turn in enumerate(quarter_turns(axis)):
        assert torch.equal(turn.of(CUBE), torch.rot90(CUBE, times, plane))
        assert torch.equal(turn.of(CUBE[0, 0]), torch.rot90(CUBE[0, 0], times, [each - 2 for each in plane]))


@pytest.mark.parametrize("name", TURNS)
def test_each_is_undone_to_the_last_bit(name):
    for turn in TURNS[name]:
        assert torch.equal(turn.inverse.of(turn.of(CUBE)), CUBE) and torch.equal(turn.of(turn.inverse.of(CUBE)), CUBE)
        assert turn.inverse.inverse == turn and torch.equal(turn.of(CUBE).unique(), CUBE.unique())


@pytest.mark.parametrize(("name", "count"), [("x", 4), ("y", 4), ("z", 4), ("axes", 10), ("cube", 24)])
def test_the_classes_differ_and_mirror_nothing(name, count):
    turns = TURNS[name]
    seen = {tuple(turn.of(CUBE[0, 0]).flatten().tolist()) for turn in turns}
    assert len(turns) == len(seen) == len(set(turns)) == count
    assert turns[0] == Turn() and all(turn.handed == 1 for turn in turns)


def test_the_cubes_turns_are_a_group():
    flat = {tuple(turn.of(CUBE[0, 0]).flatten().tolist()) for turn in TURNS["cube"]}
    for one in TURNS["cube"]:
        for other in TURNS["cube"][::5]:
            assert tuple(one.of(other.of(CUBE[0, 0])).flatten().tolist()) in flat


def test_four_quarter_turns_turn_nothing():
    for axis in range(3):
        quarter, turned = quarter_turns(axis)[1], CUBE
        for _ in range(4):
            turned = quarter.of(turned)
        assert torch.equal(turned, CUBE)


def test_the_determinant_is_that_of_the_matrix():
    for order in ((0, 1, 2), (1, 0, 2), (2, 1, 0), (1, 2, 0)):
        for flipped in ((False,) * 3, (True, False, False), (True, True, False)):
            matrix = torch.zeros(3, 3)
            for axis, (source, backwards) in enumerate(zip(order, flipped, strict=True)):
                matrix[axis, source] = -1 if backwards else 1
            assert Turn(order, flipped).handed == round(torch.linalg.det(matrix).item())


def test_an_exchange_of_two_axes_is_a_mirror_image():
    """As SwinMM's third and fourth views are."""
    swap = Turn((1, 0, 2))
    assert swap.handed == -1 and swap.inverse == swap
    assert torch.equal(swap.of(CUBE), CUBE.transpose(2, 3))


def test_each_volume_has_its_own_turn_and_its_channels_go_along():
    which = [3, 10]
    turned = turn_each(CUBE, TURNS["cube"], which)
    for k, number in enumerate(which):
        for channel in range(3):
            assert torch.equal(turned[k, channel], TURNS["cube"][number].of(CUBE[k, channel]))
    assert torch.equal(turn_each(turned, TURNS["cube"], which, back=True), CUBE)


def test_sides_that_a_turn_exchanges_must_be_equal():
    assert list(turn_misfits(TURNS["z"], (32, 32, 64))) == []
    assert "must have equal sides" in "".join(turn_misfits(TURNS["x"], (32, 32, 64)))
    assert list(turn_misfits([quarter_turns(0)[2]], (32, 48, 64))) == []


def test_voxels_are_cubes_up_to_rounding_or_as_much_as_is_allowed():
    check_isotropic((1.0, 1.0, 1.0005), 1)
    check_isotropic((1.0, 1.5, 2.0), 2)
    for spacing, most in (((1.0, 1.0, 1.01), 1), ((3.0, 1.0, 1.0), 2)):
        with pytest.raises(ValueError, match="a quarter turn exchanges their sides"):
            check_isotropic(spacing, most)
