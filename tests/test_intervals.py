"""An interval in words says what it decides."""

import pytest

from s2dc_core.intervals import decided, in_words


@pytest.mark.parametrize(
    ("interval", "words", "sure"),
    [
        ((0.092, 0.032, 0.152), "+9.2 (+3.2 to +15.2), decided", True),
        ((-0.092, -0.152, -0.032), "-9.2 (-15.2 to -3.2), decided", True),
        ((0.01, -0.02, 0.04), "+1.0 (-2.0 to +4.0), not decided", False),
        ((0.0, 0.0, 0.0), "+0.0 (+0.0 to +0.0), not decided", False),
    ],
)
def test_an_interval_that_leaves_out_0_is_decided(interval, words, sure):
    assert (in_words(interval), decided(interval)) == (words, sure)


def test_other_units_and_digits():
    assert in_words((0.6816, -0.1463, 1.5094), factor=1, digits=2) == "+0.68 (-0.15 to +1.51), not decided"
