"""Plain text for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tabulate import tabulate

from bench.report.formats import NOTHING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.report.grid import Cell, Document, Grid


def render(documents: Sequence[Document]) -> str:
    """A paragraph for each title, grid and list of notes."""
    return "\n".join(map(_document, documents))


def _document(document: Document) -> str:
    parts = ["\n".join([document.title, *document.caption])]
    for grid in document.grids:
        parts += [grid.title, _grid(grid)]
    notes = [f"{id}: {text}" for id, text in document.footnotes]
    parts.append("\n".join([*notes, *document.remarks]))
    return "\n\n".join(filter(None, parts)) + "\n"


def _grid(grid: Grid) -> str:
    rows = grid.rows(_cell)
    for start, block in reversed(grid.blocks):
        rows.insert(start, [block, *[""] * (len(grid.align) - 1)])
    return tabulate(rows, grid.head(), "simple", disable_numparse=True, stralign="right")


def _cell(cell: Cell) -> str:
    """Without emphasis; a star would be the mark of noise."""
    notes = f" [{','.join(cell.notes)}]" if cell.notes else ""
    return f"{cell.text}{cell.tail}{notes}" if cell.text else NOTHING
