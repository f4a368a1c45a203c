"""HTML: a section for each document, to be put into a page."""

from __future__ import annotations

import re
from html import escape
from typing import TYPE_CHECKING

from tabulate import tabulate

from bench.report.formats import NOTHING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from bench.report.grid import Cell, Document, Grid


def render(documents: Sequence[Document]) -> str:
    """A `section` for each document."""
    return "\n".join(map(_document, documents))


def _document(document: Document) -> str:
    parts = [f'<section class="{document.style}">', f"<h3>{escape(document.title)}</h3>"]
    parts += [f"<p>{escape(text)}.</p>" for text in document.caption]
    for grid in document.grids:
        parts += [f"<h4>{escape(grid.title)}</h4>"] if grid.title else []
        parts.append(_grid(grid))
    parts += [
        f'<p id="note-{escape(id)}"><sup>{escape(id)}</sup> {escape(text)}</p>'
        for id, text in document.footnotes
    ]
    parts += [f"<p>{escape(text)}</p>" for text in document.remarks]
    return "\n".join([*parts, "</section>"]) + "\n"


def _grid(grid: Grid) -> str:
    """A class on each line, so that a style can tell published from measured; a body of its own
    for each block, headed by its name."""
    rows, head = grid.rows(_cell, escape), grid.head(escape, "kind")
    table = tabulate(rows, head, "unsafehtml", disable_numparse=True, colalign=grid.align)
    before, start, rest = table.partition("<tbody>")
    first, *pieces = rest.split("<tr>")
    classes = [f' class="{escape(line.style)}"' if line.style else "" for line in grid.lines]
    lines = [f"<tr{name}>{piece}" for name, piece in zip(classes, pieces, strict=True)]
    before, width = re.subn(r"<th(?=[ >])", '<th scope="col"', before)
    for place, block in reversed(grid.blocks):
        name = f'<th scope="rowgroup" colspan="{width}">{escape(block)}</th>'
        opened = f"</tbody>\n{start}\n" if place else ""
        lines[place] = f'{opened}<tr class="block">{name}</tr>\n{lines[place]}'
    return before + start + first + "".join(lines)


def _cell(cell: Cell) -> str:
    if not cell.text:
        return NOTHING
    text = escape(cell.text)
    text = {1: f"<strong>{text}</strong>", 2: f"<u>{text}</u>"}.get(cell.place, text)
    return f"{text}{escape(cell.tail)}{_links(cell.notes)}"


def _links(notes: Iterable[str]) -> str:
    links = ", ".join(f'<a href="#note-{escape(n)}">{escape(n)}</a>' for n in notes)
    return f"<sup>{links}</sup>" if links else ""
