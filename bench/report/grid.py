"""A table before it takes a format: cells with their emphasis and notes, and the texts around."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes:
        text: empty: there is nothing to show.
        place: 1 is best, 2 second best; 0 is not marked.
        tail: what stands behind the text, without its emphasis.
        notes: ids of footnotes.
        record: what programs read of it, by column; None: nothing.
    """

    text: str = ""
    place: int = 0
    tail: str = ""
    notes: tuple[str, ...] = ()
    record: Mapping[str, str] | None = None


@dataclass(frozen=True)
class Line:
    """One line.

    Attributes:
        kind: stands in a column of its own, where the lines of a grid are of several kinds.
        style: names the kind for style sheets; empty where all lines are alike.
        block: lines of one block stand together, below its name.
        record: what programs read with each of its cells.
    """

    label: Cell
    cells: tuple[Cell, ...]
    kind: str = ""
    style: str = ""
    block: str = ""
    record: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Grid:
    """Lines under one head; `corner` stands above their labels."""

    corner: str
    columns: tuple[str, ...]
    lines: tuple[Line, ...]
    title: str = ""

    @property
    def has_kinds(self) -> bool:
        """Whether the kind of a line has a column."""
        return any(line.kind for line in self.lines)

    def rows(
        self, cell: Callable[[Cell], str], word: Callable[[str], str] = str
    ) -> list[list[str]]:
        """The lines as a format writes cells and words: label, kind if they have one, numbers."""
        return [
            [
                cell(line.label),
                *([word(line.kind)] if self.has_kinds else []),
                *map(cell, line.cells),
            ]
            for line in self.lines
        ]

    def head(self, word: Callable[[str], str] = str, kind: str = "") -> list[str]:
        """The head of the same columns; `kind` stands above the kinds."""
        return [self.corner, *([kind] if self.has_kinds else []), *map(word, self.columns)]

    @property
    def align(self) -> list[str]:
        """Of each column: words to the left, numbers to the right."""
        return ["left"] * (1 + self.has_kinds) + ["right"] * len(self.columns)

    @property
    def blocks(self) -> list[tuple[int, str]]:
        """Where each block begins, and its name; none where all lines are of one block."""
        names = [line.block for line in self.lines]
        starts = [i for i, name in enumerate(names) if i == 0 or name != names[i - 1]]
        return [(i, names[i]) for i in starts] if len(starts) > 1 else []


@dataclass(frozen=True)
class Document:
    """Grids with the texts around them.

    Attributes:
        style: names what it is for style sheets.
        name: by which other texts refer to it.
        caption: sentences without their full stops, above the grids.
        footnotes: ids and texts.
        remarks: below the footnotes.
        record_columns: of what programs read.
        records: what programs read beside the cells.
    """

    style: str
    title: str
    grids: tuple[Grid, ...]
    record_columns: tuple[str, ...] = ()
    name: str = ""
    caption: tuple[str, ...] = ()
    footnotes: tuple[tuple[str, str], ...] = ()
    remarks: tuple[str, ...] = ()
    records: tuple[Mapping[str, str], ...] = ()
