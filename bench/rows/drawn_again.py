"""How far apart the means of two sets of seeds may lie though nothing changed."""

from __future__ import annotations

import math
import statistics
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def two_means(before: Sequence[float], after: Sequence[float], chance: float) -> float:
    """The distance that two means exceed by chance alone: Student's test of two samples.

    The deviation is that of both sides pooled: where nothing changed they have one distribution,
    and the test holds its chance with two seeds as with ten.

    Args:
        before, after: one number for each seed; three or more together.
        chance: of a larger distance in either direction, of normally distributed numbers.

    Raises:
        ValueError: an empty side, or too few numbers for a deviation.
    """
    from scipy import stats  # half a second

    freedom = len(before) + len(after) - 2
    if not len(before) or not len(after) or freedom < 1:
        raise ValueError(f"{len(before)} and {len(after)} seeds: a deviation needs three together")
    means = [(side, statistics.fmean(side)) for side in (before, after)]
    squares = sum((value - mean) ** 2 for side, mean in means for value in side)
    error = math.sqrt(squares / freedom * (1 / len(before) + 1 / len(after)))
    return float(stats.t.ppf(1 - chance / 2, freedom)) * error
