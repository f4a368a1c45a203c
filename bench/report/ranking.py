"""Lines and entries of a paper's table; which entry of a block is best, which second best."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

PUBLISHED = "published"
ONLY = "published only"
MEASURED = "measured"
DIFFERENCE = "difference"


@dataclass(frozen=True)
class Entry:
    """One number of the table, as printed; empty text where there is none."""

    text: str = ""
    number: float | None = None
    std: str = ""
    ranked: bool = True
    place: int = 0  # 1 best, 2 second best of its block
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Line:
    """One line: a row of the paper, published, measured or their difference."""

    label: str
    kind: str
    block: str
    entries: tuple[Entry, ...]
    marks: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Section:
    """One grid of numbers."""

    title: str
    columns: tuple[str, ...]
    lines: tuple[Line, ...]


def rank(lines: Sequence[Line], lower: Sequence[bool]) -> list[Line]:
    """Mark best and second best of each block and column, published and measured apart.

    Args:
        lines: of one section.
        lower: for each column, whether lower is better.
    """
    result = list(lines)
    families = {(line.block, _family(line.kind)) for line in lines if line.kind != DIFFERENCE}
    for block, family in sorted(families):
        members = [i for i, x in enumerate(lines) if (x.block, _family(x.kind)) == (block, family)]
        for column, is_lower in enumerate(lower):
            places = _places([lines[i].entries[column] for i in members], is_lower)
            for i, place in zip(members, places, strict=True):
                entries = list(result[i].entries)
                entries[column] = replace(entries[column], place=place)
                result[i] = replace(result[i], entries=tuple(entries))
    return result


def _places(entries: Sequence[Entry], is_lower: bool) -> list[int]:
    """1, 2 or 0 for each entry; equal numbers share a place, and one number alone has none."""
    numbers = [e.number for e in entries if e.ranked and e.number is not None]
    if len(numbers) < 2:
        return [0] * len(entries)
    order = sorted(set(numbers), reverse=not is_lower)[:2]
    return [
        order.index(e.number) + 1 if e.ranked and e.number is not None and e.number in order else 0
        for e in entries
    ]


def _family(kind: str) -> str:
    return PUBLISHED if kind in (PUBLISHED, ONLY) else kind
