"""LaTeX with booktabs: a table over both columns for each document."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tabulate import tabulate

from bench.report.formats import NOTHING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.report.grid import Cell, Document, Grid

_ESCAPED = {
    "\\": r"\textbackslash{}",
    **{c: f"\\{c}" for c in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "–": "--",
    "†": r"\dag{}",
    "‡": r"\ddag{}",
    "§": r"\S{}",
    "¶": r"\P{}",
    "◊": r"$\diamond$",
    "△": r"$\triangle$",
    "▲": r"$\blacktriangle$",
    "≈": r"$\approx$",
    "○": r"$\circ$",
    "◇": r"$\lozenge$",
    "●": r"$\bullet$",
    "≡": r"$\equiv$",
    "∞": r"$\infty$",
    "`": r"\textasciigrave{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
}

_SIZE = r"{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}"
"""Smaller where it is wider than the page."""


def render(documents: Sequence[Document]) -> str:
    """A `table*` for each document."""
    return "\n".join(map(_document, documents))


def escaped(text: str) -> str:
    """The text with everything that LaTeX would take as a command escaped, and its quotes."""
    plain = "".join(_ESCAPED.get(character, character) for character in text)
    return re.sub('"([^"]*)"', r"``\1''", plain).replace('"', "''")


def _document(document: Document) -> str:
    caption = escaped(f"{'. '.join([document.title, *document.caption])}.")
    parts = [
        r"% needs \usepackage{booktabs} and \usepackage{graphicx}",
        r"\begin{table*}",
        r"\centering",
        rf"\caption{{{caption}}}",
    ]
    parts += [rf"\label{{tab:{document.name.replace('/', ':')}}}"] if document.name else []
    for grid in document.grids:
        parts += [rf"\par\smallskip {escaped(grid.title)}\par\nopagebreak", _grid(grid)]
    notes = [f"{_raised(id)} {escaped(text)}" for id, text in document.footnotes]
    notes += map(escaped, document.remarks)
    if notes:
        parts.append(r"\par\smallskip\begin{minipage}{\linewidth}\scriptsize")
        parts += [f"{note}\\par" for note in notes] + [r"\end{minipage}"]
    return "\n".join([*parts, r"\end{table*}"]) + "\n"


def _grid(grid: Grid) -> str:
    rows, head = grid.rows(_cell, escaped), grid.head(escaped)
    table = tabulate(rows, head, "latex_raw", disable_numparse=True, colalign=grid.align)
    body = table.splitlines()
    rules = [i for i, line in enumerate(body) if line == r"\hline"]
    for i, name in zip(rules, ("top", "mid", "bottom"), strict=True):
        body[i] = rf"\{name}rule"
    for number, _ in reversed(grid.blocks[1:]):
        body.insert(rules[1] + 1 + number, r"\midrule")
    return "\n".join([rf"\resizebox{_SIZE}{{{body[0]}", *body[1:]]) + "}"


def _cell(cell: Cell) -> str:
    if not cell.text:
        return NOTHING
    text = re.sub(r"^-(?=\d)", "$-$", escaped(cell.text))
    text = {1: rf"\textbf{{{text}}}", 2: rf"\underline{{{text}}}"}.get(cell.place, text)
    tail = escaped(cell.tail).replace("(-", "($-$")
    return f"{text}{tail}{_raised(','.join(cell.notes))}"


def _raised(text: str) -> str:
    return rf"\textsuperscript{{{escaped(text)}}}" if text else ""
