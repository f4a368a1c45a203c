"""Which number of a column is best, and which second best."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def places(numbers: Sequence[float | None], is_lower: bool = False) -> list[int]:
    """1, 2 or 0 for each number; equal ones share a place, and one number alone has none.

    Args:
        numbers: as printed, so that what prints alike is ranked alike; None: not ranked.
        is_lower: whether lower is better.
    """
    known = [number for number in numbers if number is not None]
    if len(known) < 2:
        return [0] * len(numbers)
    order = sorted(set(known), reverse=not is_lower)[:2]
    return [order.index(n) + 1 if n is not None and n in order else 0 for n in numbers]
