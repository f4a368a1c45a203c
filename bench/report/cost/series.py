"""The figure of a paper's table: its printed numbers against a parameter, and measured rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.report.choice import quantities as q
from bench.report.choice.settings_text import named_values, not_shared
from bench.report.choice.variants import told_apart
from bench.report.cost.complexity import input_side
from bench.report.cost.memory import (
    SIZE,
    marks_of_memory,
    measured_on,
    options_but_size,
    place_and_machine,
    setting_of,
)
from bench.rows.settings import Likeness, defaults_in
from bench.rows.text import device, plain

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from bench.report.paper.published import PublishedNumbers
    from bench.report.paper.table_spec import FigureSpec, TableSpec
    from bench.rows.row import Row


@dataclass(frozen=True)
class Series:
    """Numbers of one metric against a parameter, by which they are sorted.

    Attributes:
        kind: index of what it is among the `curves` of the figure.
    """

    label: str
    points: tuple[tuple[float, float], ...]
    kind: int
    is_published: bool


def printed(spec: TableSpec, figure: FigureSpec, published: PublishedNumbers) -> Iterable[Series]:
    """The numbers of the table."""
    for kind, name in enumerate(figure.curves):
        points = [
            (row.params[figure.x], number.number)
            for row in spec.rows
            if figure.kind(row.params) == kind
            for number in published.find(
                spec.paper, spec.table, spec.selector(row, spec.metric(figure.metric))
            )
        ]
        label = f"{name}, {figure.published}"
        yield Series(label, tuple(sorted(points)), kind, is_published=True)


def measured(spec: TableSpec, figure: FigureSpec, rows: Iterable[Row]) -> Iterable[Series]:
    """Rows of the table's methods that differ in the parameter alone, on one machine."""
    methods = {row.method for row in spec.rows if row.method}
    metric = spec.metric(figure.metric).measured
    having = [row for row in rows if row.method in methods and figure.x in row.params]
    having = [row for row in having if q.quantity(row, metric)]
    likeness = Likeness(having)
    groups = q.group_by(
        having,
        lambda row: (*setting_of(row, likeness, figure.x), *place_and_machine(row, likeness)),
    )
    several = [group for group in groups if len({row.params[figure.x] for row in group}) > 1]
    firsts = [group[0] for group in several]
    places = not_shared([options_but_size(row) for row in firsts])
    for group in several:
        params = {**defaults_in(group[0], "params"), **group[0].params}
        told = told_apart(group[0], firsts, without=(figure.x, SIZE, *figure.told))
        told += named_values(options_but_size(group[0]), places)
        if (kind := figure.kind(params)) is not None:
            named = [f"{plain(params.get(name))} {name}" for name in figure.named]
            label = f"{list(figure.curves)[kind]}{_label(group, named, told)}"
            yield Series(label, _points(group, figure.x, metric), kind, is_published=False)


def _points(rows: Sequence[Row], x: str, metric: str) -> tuple[tuple[float, float], ...]:
    by_place: dict[Any, list[Row]] = {}
    for row in rows:
        by_place.setdefault(row.params[x], []).append(row)
    return tuple((at, q.median_cost(of, metric) or 0.0) for at, of in sorted(by_place.items()))


def _label(rows: Sequence[Row], named: Sequence[str], told: Sequence[str]) -> str:
    """Marks, settings, data, machine, and how memory was measured."""
    row, marked, side = rows[0], marks_of_memory(rows), input_side(rows[0])
    parts = [
        f"{''.join(marked)}, measured: {', '.join(named)}",
        f"{side:.0f} px" if side else "size unknown",
        *told,
        f"{row.dataset}, {measured_on(rows)}",
        device(row),
        f"memory by {row.memory or 'no stated means'}",
        *(f"{mark} {text}" for mark, text in marked.items()),
    ]
    return ", ".join(parts)
