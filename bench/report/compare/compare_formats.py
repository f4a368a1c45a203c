"""A comparison as Markdown, LaTeX, HTML or CSV, with what it allows to say."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

from tabulate import tabulate

from bench.report.choice import quantities as q
from bench.report.choice.groups import marked, meanings
from bench.report.choice.marks import caution
from bench.report.compare.compare import average
from bench.report.compare.compare_csv import csv_text
from bench.report.compare.significance import ALPHA, FEWEST
from bench.report.latex import frame, grid, tex
from bench.rows.text import mean_label, of_categories

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.report.compare.compare import Number, Table
    from bench.rows.text import Format

WIDE = 8
"""With more categories they become the lines of a table, and methods its columns."""

NONE = "n/a"


def render_tables(tables: Sequence[Table], format: Format, transpose: bool | None = None) -> str:
    """All tables in a format.

    Args:
        transpose: categories as lines; None decides by their number.
    """
    if format == "csv":
        return csv_text(tables)
    write = {"md": text_table, "tex": _latex, "html": _html}[format]
    return "\n\n".join(write(table, transpose) for table in tables)


def text_table(table: Table, transpose: bool | None = None) -> str:
    """Title, grid and conclusions as Markdown."""
    head, lines = _grid(table, transpose)
    body = tabulate(lines, head, "pipe", disable_numparse=True, stralign="right")
    return "\n".join([title(table), "", body, "", *conclusions(table)])


def title(table: Table) -> str:
    """Metric, unit, data set and protocol."""
    unit = " (%)" if q.is_score(table.metric) else ""
    return f"{q.label(table.metric)}{unit} on {table.group.title}"


def _grid(table: Table, transpose: bool | None) -> tuple[list[str], list[list[str]]]:
    """Head and lines."""
    group, metric = table.group, table.metric
    mean = mean_label(average(metric), group.categories)
    columns = ["method", *group.categories, mean, "mean rank"]
    lines = [
        [
            marked(group, name, metric),
            *(_text(table.cells.get((name, c)), metric) for c in group.categories),
            _text(table.means.get(name), metric),
            NONE if (rank := table.rank(name)) is None else f"{rank:.2f}",
        ]
        for name in group.variants
    ]
    if not (len(group.categories) > WIDE if transpose is None else transpose):
        return columns, lines
    turned = [list(line) for line in zip(columns, *lines, strict=True)]
    return ["category", *turned[0][1:]], turned[1:]


def _text(number: Number | None, metric: str) -> str:
    return NONE if number is None else number.text(metric)


def _latex(table: Table, transpose: bool | None) -> str:
    head, lines = _grid(table, transpose)
    align = ["left", *["right"] * (len(head) - 1)]
    body = grid([*map(tex, head)], [[*map(tex, line)] for line in lines], align)
    notes = " ".join(f"{tex(line)}." for line in conclusions(table))
    return frame(f"{tex(title(table))}. {notes}", [body])


def _html(table: Table, transpose: bool | None) -> str:
    head, lines = _grid(table, transpose)
    body = tabulate(lines, head, "html", disable_numparse=True, stralign="right")
    notes = "".join(f"<li>{html.escape(line)}</li>" for line in conclusions(table))
    return f"<h3>{html.escape(title(table))}</h3>\n{body}\n<ul>{notes}</ul>"


def conclusions(table: Table) -> list[str]:
    """What the table allows to say, and what it does not."""
    lines = []
    if any(number.deviation is not None for number in table.cells.values()):
        lines.append("mean ± deviation over seeds")
    if not q.is_score(table.metric):
        lines.append("median over categories and seeds")
    else:
        lines += caution(table.group.first.dataset)
    lines += [*table.coverage.notes(), *table.intervals, *_batches(table)]
    lines += [*table.group.legend, *meanings(table.group, table.metric), *table.remarks]
    return [*lines, *verdict(table)]


def _batches(table: Table) -> list[str]:
    found = sorted({b for number in table.cells.values() for b in number.batches})
    return [f"measured at batches {', '.join(map(str, found))}: compare with care"] if found else []


def verdict(table: Table) -> list[str]:
    """Whether methods differ, as the tests across categories say."""
    result = table.comparison
    names = [marked(table.group, name, table.metric) for name in table.methods]
    if len(names) < 2:
        return [f"{'one method only' if names else 'no method left'}: nothing to compare"]
    if not q.is_score(table.metric):
        return ["no test of costs: categories are no samples of a machine's speed or of sizes"]
    if result is None:
        count = f"{of_categories(table.shared)} measured for every method"
        return [
            f"{count}: too few to conclude anything; tests across categories need at least {FEWEST}"
        ]
    lines = []
    if result.friedman is not None:
        lines.append(f"Friedman over {of_categories(table.shared)}: p = {result.friedman:.3g}")
    lines += [
        f"{names[pair.better]} is better than {names[pair.worse]}, p = {pair.p:.3g}"
        for pair in result.pairs
        if pair.differs
    ]
    alike = [
        f"{names[pair.better]} and {names[pair.worse]} (p = {pair.p:.3g})"
        for pair in result.pairs
        if not pair.differs
    ]
    if len(alike) == len(result.pairs) > 3:
        smallest = min(pair.p for pair in result.pairs)
        lines.append(f"no two methods are told apart: smallest p = {smallest:.3g}")
    elif alike:
        lines.append(f"not told apart: {', '.join(alike)}")
    lines.append("p of pairs: Wilcoxon signed-rank over categories, corrected by Holm")
    return [*lines, *hopeless(table)]


def hopeless(table: Table) -> list[str]:
    """That no pair could be told apart, where so."""
    if table.comparison is None or table.comparison.can_tell:
        return []
    where = f"with {of_categories(table.shared)}"
    return [f"{where} no pair can reach p < {ALPHA}, even if one method wins everywhere"]
