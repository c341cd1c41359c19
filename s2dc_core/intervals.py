"""How far a number may be trusted: intervals over trainings, patients or cases."""

from collections.abc import Sequence
from numbers import Integral, Real

import numpy as np
from scipy import stats


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float, float]:
    """Mean of independent values and the ends of its Student-t interval.

    Raises:
        ValueError: for fewer than two values, which have no spread.
    """
    values = np.asarray(values, dtype=float)
    if len(values) < 2:
        raise ValueError(f"an interval needs two values, got {len(values)}")
    half = stats.t.ppf((1 + confidence) / 2, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean()), float(values.mean() - half), float(values.mean() + half)


def accuracy_interval(correct: int, cases: int, confidence: float = 0.95) -> tuple[float, float, float]:
    """Share of cases that are right, and the ends of its Wilson interval.

    It is the spread over other cases of the same kind; mean_interval has that over trainings.
    """
    interval = stats.binomtest(correct, cases).proportion_ci(confidence, method="wilson")
    return correct / cases, float(interval.low), float(interval.high)


def decided(interval: tuple[float, float, float]) -> bool:
    """Whether an interval (mean, low, high) leaves out 0."""
    _, low, high = interval
    return low > 0 or high < 0


def in_words(interval: tuple[float, float, float], factor: Real = 100, digits: Integral = 1) -> str:
    """A difference, its interval and whether that decides: `+9.2 (+3.2 to +15.2), decided`; times 100 gives points."""
    mean, low, high = (f"{factor * value:+.{digits}f}" for value in interval)
    return f"{mean} ({low} to {high}), {'' if decided(interval) else 'not '}decided"
