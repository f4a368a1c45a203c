"""A paper's table as Markdown, LaTeX (booktabs), HTML or CSV."""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING

from tabulate import tabulate

from bench.report.latex import frame, grid, tex
from bench.report.paper.csv_lines import csv_lines
from bench.report.paper.published import head_of
from bench.report.paper.ranking import MEASURED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from bench.report.paper.paper_table import PaperTable
    from bench.report.paper.ranking import Entry, Line, Section
    from bench.rows.text import Format

NONE = "–"
"""Where there is no number."""

RUN = "Run them: bench table {name} --run"


def render(table: PaperTable, format: Format) -> str:
    """The table in a format; every format carries protocol and footnotes, all but CSV the gaps."""
    return {"md": _markdown, "tex": _latex, "html": _html, "csv": csv_lines}[format](table)


def _change(e: Entry) -> str:
    return f" ({e.change})" if e.change else ""


def _rows(
    section: Section,
    entry: Callable[[Entry], str],
    label: Callable[[Line], str],
    kind: Callable[[str], str] = str,
) -> list[list[str]]:
    return [
        [label(line), kind(line.kind), *(entry(e) if e.text else NONE for e in line.entries)]
        for line in section.lines
    ]


def _remarks(table: PaperTable) -> list[str]:
    """What is odd about the data, what is missing and what was left out, one line each."""
    lines = [f"Missing: {text}" for text in table.missing]
    if lines:
        lines.append(RUN.format(name=table.spec.name))
    return [*table.remarks, *lines, *(f"Not shown: {text}" for text in table.left_out)]


def _markdown(table: PaperTable) -> str:
    def entry(e: Entry) -> str:
        text = {1: f"**{e.text}**", 2: f"_{e.text}_"}.get(e.place, e.text)
        std = f" ± {e.std}" if e.std else ""
        return f"{text}{std}{_change(e)}{_brackets(e.notes)}"

    def label(line: Line) -> str:
        return _pipe(f"{line.label}{line.marks}{_brackets(line.notes)}")

    parts = [f"### {table.title}", "\n".join(f"- {text}" for text in table.caption)]
    for section in table.sections:
        if section.title:
            parts.append(f"**{section.title}**")
        head = ["method", "", *map(head_of, section.columns)]
        rows = _rows(section, entry, label)
        for start, block in reversed(_blocks(section.lines)):
            name = f"**{_pipe(block)}**" if block else ""
            rows.insert(start, [name, *[""] * (len(head) - 1)])
        parts.append(tabulate(rows, head, "pipe", disable_numparse=True, colalign=_align(section)))
    notes = [f"- {id}: {text}" for id, text in table.footnotes]
    notes += [f"- {text}" for text in _remarks(table)]
    return "\n\n".join([*parts, "\n".join(notes)]) + "\n"


def _brackets(notes: Iterable[str]) -> str:
    text = ",".join(notes)
    return f" [{text}]" if text else ""


def _pipe(text: str) -> str:
    return text.replace("|", r"\|")


def _latex(table: PaperTable) -> str:
    def entry(e: Entry) -> str:
        number = tex(re.sub(r"^-", "\N{MINUS SIGN}", e.text)).replace("\N{MINUS SIGN}", "$-$")
        text = {1: rf"\textbf{{{number}}}", 2: rf"\underline{{{number}}}"}.get(e.place, number)
        std = rf" $\pm$ {tex(e.std)}" if e.std else ""
        change = tex(_change(e)).replace("(-", "($-$")
        return f"{text}{std}{change}{_superscript(e.notes)}"

    def label(line: Line) -> str:
        return f"{tex(line.label)}{tex(line.marks)}{_superscript(line.notes)}"

    parts = [rf"\label{{tab:{table.spec.name.replace('/', ':')}}}"]
    for section in table.sections:
        parts.append(rf"\par\smallskip {tex(section.title)}\par\nopagebreak")
        head = ["method", "", *(tex(head_of(c)) for c in section.columns)]
        parts.append(
            grid(head, _rows(section, entry, label, tex), _align(section), _breaks(section.lines))
        )
    notes = [rf"\textsuperscript{{{tex(id)}}} {tex(text)}" for id, text in table.footnotes]
    notes += [tex(text) for text in _remarks(table)]
    if notes:
        parts.append(r"\par\smallskip\begin{minipage}{\linewidth}\scriptsize")
        parts += [f"{note}\\par" for note in notes] + [r"\end{minipage}"]
    return frame(tex(f"{table.title}. {'. '.join(table.caption)}."), parts) + "\n"


def _align(section: Section) -> list[str]:
    return ["left", "left", *["right"] * len(section.columns)]


def _superscript(notes: Sequence[str]) -> str:
    return rf"\textsuperscript{{{','.join(map(tex, notes))}}}" if notes else ""


def _breaks(lines: Sequence[Line]) -> list[int]:
    """Where a block begins below another."""
    return [i for i in range(1, len(lines)) if lines[i].block != lines[i - 1].block]


def _blocks(lines: Sequence[Line]) -> list[tuple[int, str]]:
    """Where each block begins, and its name; none where the table has one block alone."""
    starts = [0, *_breaks(lines)]
    return [(i, lines[i].block) for i in starts] if len(starts) > 1 else []


def _html(table: PaperTable) -> str:
    esc = html.escape

    def entry(e: Entry) -> str:
        text = esc(e.text)
        text = {1: f"<strong>{text}</strong>", 2: f"<u>{text}</u>"}.get(e.place, text)
        std = f" ± {esc(e.std)}" if e.std else ""
        return f"{text}{std}{esc(_change(e))}{_links(e.notes)}"

    def label(line: Line) -> str:
        return f"{esc(line.label)}{esc(line.marks)}{_links(line.notes)}"

    parts = ['<section class="paper-table">', f"<h3>{esc(table.title)}</h3>"]
    parts += [f"<p>{esc(text)}.</p>" for text in table.caption]
    for section in table.sections:
        if section.title:
            parts.append(f"<h4>{esc(section.title)}</h4>")
        head = ["method", "kind", *(esc(head_of(c)) for c in section.columns)]
        rows = _rows(section, entry, label, esc)
        body = tabulate(rows, head, "unsafehtml", disable_numparse=True, colalign=_align(section))
        parts.append(_kinds(body, section.lines))
    parts += [
        f'<p id="note-{esc(id)}"><sup>{esc(id)}</sup> {esc(text)}</p>'
        for id, text in table.footnotes
    ]
    parts += [f"<p>{esc(text)}</p>" for text in _remarks(table)]
    return "\n".join([*parts, "</section>"]) + "\n"


def _links(notes: Iterable[str]) -> str:
    links = ", ".join(f'<a href="#note-{html.escape(n)}">{html.escape(n)}</a>' for n in notes)
    return f"<sup>{links}</sup>" if links else ""


def _kinds(body: str, lines: Sequence[Line]) -> str:
    """A class on each line, so that a style can tell published from measured; a body of its own
    for each block, headed by its name."""
    before, start, rest = body.partition("<tbody>")
    pieces = rest.split("<tr>")
    rows = [
        f'<tr class="{_kind_class(line.kind)}">{piece}'
        for line, piece in zip(lines, pieces[1:], strict=True)
    ]
    before, width = re.subn(r"<th(?=[ >])", '<th scope="col"', before)
    for first, block in reversed(_blocks(lines)):
        head = f'<th scope="rowgroup" colspan="{width}">{html.escape(block)}</th>'
        opened = f"</tbody>\n{start}\n" if first else ""
        rows[first] = f'{opened}<tr class="block">{head}</tr>\n{rows[first]}'
    return before + start + pieces[0] + "".join(rows)


def _kind_class(kind: str) -> str:
    return MEASURED if kind.startswith(MEASURED) else kind.replace(" ", "-")
