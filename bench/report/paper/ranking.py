"""Lines and entries of a paper's table; which entry of a block is best, which second best."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from bench.report.best import places
from bench.rows.text import fixed

if TYPE_CHECKING:
    from collections.abc import Sequence

PUBLISHED = "published"
ONLY = "published only"
MEASURED = "measured"
DIFFERENCE = "difference"

WORST = "worst"
"""In place of a label: the lowest number of each column."""


@dataclass(frozen=True)
class Entry:
    """One number of the table, as printed; empty text where there is none."""

    text: str = ""
    number: float | None = None
    std: str = ""
    ranked: bool = True
    place: int = 0  # 1 best, 2 second best of its block
    notes: tuple[str, ...] = ()
    change: str = ""  # against the row that the paper compares with
    unit: str = ""


@dataclass(frozen=True)
class Origin:
    """Where the numbers of a measured line come from; several values are joined by commas."""

    seeds: str
    settings: str
    weights: str
    device: str
    threads: str
    speed: str


@dataclass(frozen=True)
class PaperLine:
    """One line: a row of the paper, published, measured or their difference."""

    label: str
    kind: str
    block: str
    entries: tuple[Entry, ...]
    marks: str = ""
    notes: tuple[str, ...] = ()
    origin: Origin | None = None


@dataclass(frozen=True)
class Section:
    """One grid of numbers."""

    title: str
    columns: tuple[str, ...]
    lines: tuple[PaperLine, ...]


def with_changes(
    lines: Sequence[PaperLine], reference: str, kind: str, decimals: Sequence[int]
) -> list[PaperLine]:
    """Lines of one kind with the change of each number against a line, or the worst of each column.

    Args:
        reference: a label, or "worst".
        decimals: of each column; scores, higher is better.
    """
    members = [line for line in lines if line.kind == kind]
    result = {id(line): list(line.entries) for line in members}
    for column, digits in enumerate(decimals):
        numbers = {line.label: line.entries[column].number for line in members}
        known = [number for number in numbers.values() if number is not None]
        whole = len(known) == len(numbers) > 1
        worst = min(known) if reference == WORST and whole else None
        against = worst if reference == WORST else numbers.get(reference)
        for entries in result.values():
            entry = entries[column]
            if entry.number is not None and against is not None:
                text = signed(entry.number - against, digits)
                entries[column] = replace(entry, change=text)
    return [
        replace(line, entries=tuple(result[id(line)])) if id(line) in result else line
        for line in lines
    ]


def signed(gap: float, decimals: int) -> str:
    """With sign and decimals; nothing is "-0.0"."""
    return fixed(gap, decimals, sign="+")


def rank(lines: Sequence[PaperLine], lower: Sequence[bool]) -> list[PaperLine]:
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
            column_of = [lines[i].entries[column] for i in members]
            numbers = map(_printed, column_of)
            for i, place in zip(members, places([*numbers], is_lower), strict=True):
                entries = list(result[i].entries)
                entries[column] = replace(entries[column], place=place)
                result[i] = replace(result[i], entries=tuple(entries))
    return result


def _printed(entry: Entry) -> float | None:
    """The number as printed, so that what prints alike is ranked alike; None: it is not ranked."""
    return float(entry.text) if entry.ranked and entry.number is not None else None


def _family(kind: str) -> str:
    return PUBLISHED if kind in (PUBLISHED, ONLY) else kind
