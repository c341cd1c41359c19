"""How far a number may be trusted: intervals over trainings, patients or cases."""

from collections.abc import Sequence

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
