"""Sub-volumes of a region: how many, and whether they are whole tokens."""

from dataclasses import replace

import pytest

from s2dc_core.methods.parts.sub_volumes import level_misfits
from tests.methods.test_every_method import ENCODER, small


@pytest.mark.parametrize("method", ["simmim", "simclr", "pcrlv1", "pcrlv2", "models_genesis", "rubik"])
def test_a_region_has_so_many(method):
    config = small(method, sub_volumes=(3, 1, 2))
    assert config.options.counts == (3, 1, 2)
    assert config.options.region_shape((200, 200, 200), ENCODER) == (96, 32, 64)
    with pytest.raises(ValueError, match="sub_volumes must be 3 whole numbers from 1"):
        small(method, sub_volumes=(0, 1, 1))


def test_a_level_must_have_whole_tokens():
    wide = replace(ENCODER, sub_volume=(48, 48, 32))
    assert [list(level_misfits(level, wide)) for level in range(4)] == [[]] * 4
    assert list(level_misfits(4, wide)) == ["sub_volume [48, 48, 32] must be multiples of 32, a token at level 4"]
