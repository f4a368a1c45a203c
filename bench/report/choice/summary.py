"""The table that a run ends with: categories, their mean, the protocol in the caption."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.report.choice import quantities as q
from bench.report.choice.coverage import Chosen, choose, dropped
from bench.report.choice.groups import TIMED_ALIKE, groups, left_to_noise, marked, meanings
from bench.report.choice.marks import NOISY, data_notes, marks, says_nothing
from bench.report.choice.readers import CostColumn, memory_text, split_by_reader
from bench.report.choice.variants import variants
from bench.report.grid import Cell, Document, Grid, Line
from bench.rows.row import MAIN_COSTS, MAIN_SCORES, OF_TRAINING
from bench.rows.text import device, listed, mean_label

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from bench.report.choice.groups import Group
    from bench.rows.row import Row

COLUMNS = tuple((q.heading(name), name) for name in (*MAIN_SCORES, *MAIN_COSTS))


def tables(rows: Iterable[Row], skip_scores: Collection[str] = ()) -> list[Document]:
    """One table for each data set, protocol and machine; never mixed.

    Args:
        skip_scores: protocols whose scores say nothing: left out, and it is said.
    """
    return [table(group, skip_scores) for group in groups(list(rows), TIMED_ALIKE)]


def table(group: Group, skip_scores: Collection[str] = ()) -> Document:
    """The table of one data set under one protocol on one machine."""
    is_skipped = group.first.protocol in skip_scores
    every = [row for of_method in group.variants.values() for row in of_method]
    wanted = [(n, c) for n, c in COLUMNS if not (is_skipped and q.is_score(c))]
    columns = split_by_reader(wanted, every)
    names = [column.name for column in columns]
    lines: list[Line] = []
    for name, of_method in group.variants.items():
        label = marked(group, name, *names)
        categories = list(dict.fromkeys(row.category for row in of_method))
        for category in categories:
            chosen = [row for row in of_method if row.category == category]
            lines.append(_line(label, category, chosen, columns))
        if len(categories) > 1:
            lines.append(_line(label, mean_label("mean", categories), of_method, columns))
    heads = ("category", *(column.heading for column in columns))
    below = [
        line
        for name, of_method in group.variants.items()
        for line in left_to_noise(name, choose(of_method).every_row, wanted)
    ]
    below += meanings(group, *names)
    below += [says_nothing(group.first.protocol) + ": left out"] if is_skipped else []
    below += _of_rows(group.variants, group.legend, with_scores=not is_skipped)
    grid = Grid("method", heads, tuple(lines))
    return Document("summary", caption(group), (grid,), remarks=tuple(below))


def caption(group: Group) -> str:
    """What makes the numbers comparable: protocol, seeds, machine, speed protocol, medians."""
    first = group.first
    rows = [row for of_method in group.variants.values() for row in of_method]
    parts = [group.place, listed("seed", (row.seed for row in rows))]
    if first.device:
        parts.append(device(first))
    if first.speed:
        batches = ", ".join(map(str, q.batches(rows))) or "n/a"
        parts.append(f"{first.speed}, FPS at batch {batches}, latency at batch 1")
    parts += [text] if (text := memory_text(rows)) else []
    if first.speed and any(len(of_method) > 1 for of_method in group.variants.values()):
        parts.append("costs: median")
    return "; ".join(parts)


def notes(rows: Sequence[Row]) -> list[str]:
    """One line for each mark, for what was left out and for what is odd about the images."""
    found = {mark: text for row in rows for mark, text in marks(row).items()}
    named, told = variants(rows)
    legend = [f"{name}: {text}" for name, text in told.items()]
    lines = [f"{mark}  {text}" for mark, text in sorted(found.items())]
    lines += _of_rows(named, legend, with_scores=True)
    return ["", *lines] if lines else []


def _of_rows(
    named: Mapping[str, Sequence[Row]], legend: Sequence[str], with_scores: bool
) -> list[str]:
    """What is missing or left out, the legend, and what is odd about the images."""
    rows = [row for of_method in named.values() for row in of_method]
    undefined = {f"{row.category}: {text}" for row in rows for text in _undefined(row)}
    left_out = dropped({name: choose(of_method) for name, of_method in named.items()})
    if not with_scores:
        return [*left_out, *legend]
    return [*sorted(undefined), *left_out, *legend, *data_notes(rows)]


def _undefined(row: Row) -> list[str]:
    """Which scores of the table are not defined, which costs were not measured, and why."""
    reasons = dict(row.undefined)
    if row.features:
        reasons |= dict.fromkeys(OF_TRAINING, "features came from a cache, or went into it")
    names: dict[str, list[str]] = {}
    for name, column in COLUMNS:
        if column in reasons:
            names.setdefault(reasons[column], []).append(name)
    return [f"{_and(columns)} n/a: {reason}" for reason, columns in names.items()]


def _and(names: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _line(label: str, category: str, rows: Sequence[Row], columns: Sequence[CostColumn]) -> Line:
    counting = choose(rows)
    texts = [category, *(_text(counting, column) for column in columns)]
    return Line(Cell(label), tuple(map(Cell, texts)))


def _text(counting: Chosen, column: CostColumn) -> str:
    """Mean ± standard deviation of a score, median of a cost; n/a where one is missing."""
    rows = column.rows(counting.every_row)
    if not rows or any(q.quantity(row, column.name) is None for row in rows):
        return "n/a"
    if not q.is_score(column.name):
        noisy = NOISY if q.is_uncertain(rows, column.name) else ""
        return q.show(column.name, q.median_cost(rows, column.name)) + noisy
    value, deviation = q.over_seeds(rows, column.name, list(counting.rows))
    spread = "" if deviation is None else f" ± {q.show(column.name, deviation)}"
    return q.show(column.name, value) + spread
