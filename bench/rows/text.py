"""Numbers, values and devices as the text of tables and figures."""

from __future__ import annotations

import json
from decimal import ROUND_HALF_UP, Decimal
from typing import TYPE_CHECKING, TypeGuard

from bench.errors import counted as counted  # rooms that may not import this one count too

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from bench.rows.row import Row

_NOTHING = 1e-9
"""Smaller amounts are the rounding of a difference, in any unit that is shown."""

SMALLEST_SIDE = 32
"""Of an image, in pixels."""


def of_categories(names: Sequence[str]) -> str:
    """`1 category`, `2 categories`."""
    return counted(len(names), "category", "categories")


def listed(what: str, numbers: Iterable[int]) -> str:
    """`seed 0`, `seeds 0, 1`."""
    found = sorted(set(numbers))
    return f"{what}{'s' * (len(found) != 1)} {', '.join(map(str, found)) or 'none'}"


def mean_label(word: str, categories: Collection[str]) -> str:
    """`mean`, or `(mean)` where a category is called so."""
    return f"({word})" if word in categories else word


def some(names: Sequence[str], most: int = 4) -> str:
    """The names, or the first of many and how many more."""
    if len(names) <= most:
        return ", ".join(names)
    return f"{', '.join(names[: most - 1])} and {len(names) - most + 1} more"


def fixed(value: float, decimals: int, scale: int = 1, sign: str = "") -> str:
    """A number with so many decimals, halves away from zero; never "-0.0".

    Args:
        scale: by which the number is multiplied, exactly.
        sign: "+" for one before positive numbers too.
    """
    rounded = (_decimal(value) * scale).quantize(Decimal(1).scaleb(-decimals), ROUND_HALF_UP)
    return f"{rounded or abs(rounded):{sign}f}"


def _decimal(value: float) -> Decimal:
    """As written: a float without the digits that sums of binary fractions add after twelve."""
    return Decimal(f"{value:.12g}")


def percent(value: float | None, decimals: int = 1) -> str:
    """A fraction as the field prints it."""
    return "" if value is None else fixed(value, decimals, 100)


def three_digits(value: float | None) -> str:
    """A number to three significant digits, their zeros included, without exponent."""
    if value is None:
        return ""
    if abs(value) < _NOTHING:
        return "0"
    exact = _decimal(value)
    rounded = exact.quantize(Decimal(1).scaleb(exact.adjusted() - 2), ROUND_HALF_UP)
    # Of the rounded number: 9.999 is 10.0. Above 1000 all whole digits stand.
    return fixed(value, max(0, 2 - rounded.adjusted()))


def device(row: Row) -> str:
    """Device and threads."""
    threads = "threads unknown" if row.threads is None else counted(row.threads, "thread")
    return f"{row.device or 'an unnamed device'}, {threads}"


def plain(value: object) -> str:
    """A value of a JSON column: `true`, `256 x 256`, `[1, 2, 3]`, `resnet18`."""
    if _is_size(value):
        return " x ".join(map(str, value))
    return value if isinstance(value, str) else json.dumps(value)


def _is_size(value: object) -> TypeGuard[Sequence[int]]:
    """Whether it is a height and a width; two small numbers are layers or levels."""
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        return False
    return all(type(side) is int and side >= SMALLEST_SIDE for side in value)
