"""Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tabulate import tabulate

from bench.report.formats import NOTHING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.report.grid import Cell, Document, Grid


def render(documents: Sequence[Document]) -> str:
    """A section for each document."""
    return "\n".join(map(_document, documents))


def _document(document: Document) -> str:
    parts = [f"### {document.title}", _listed(document.caption)]
    for grid in document.grids:
        parts += [f"**{grid.title}**" if grid.title else "", _grid(grid)]
    notes = [f"{id}: {text}" for id, text in document.footnotes]
    parts.append(_listed([*notes, *document.remarks]))
    return "\n\n".join(filter(None, parts)) + "\n"


def _listed(texts: Sequence[str]) -> str:
    return "\n".join(f"- {text}" for text in texts)


def _grid(grid: Grid) -> str:
    rows = grid.rows(_cell)
    for start, block in reversed(grid.blocks):
        name = f"**{_plain(block)}**" if block else ""
        rows.insert(start, [name, *[""] * (len(grid.align) - 1)])
    return tabulate(rows, grid.head(_plain), "pipe", disable_numparse=True, colalign=grid.align)


def _cell(cell: Cell) -> str:
    if not cell.text:
        return NOTHING
    text = _plain(cell.text)
    text = {1: f"**{text}**", 2: f"_{text}_"}.get(cell.place, text)
    notes = f" [{','.join(cell.notes)}]" if cell.notes else ""
    return f"{text}{_plain(cell.tail)}{notes}"


def _plain(text: str) -> str:
    """Text that does not end its cell."""
    return text.replace("|", r"\|")
