"""What methods cost: parameters, operations, state, speed, memory, beside their scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.report.choice import quantities as q
from bench.report.choice.coverage import Coverage, cover
from bench.report.choice.groups import (
    TIMED_ALIKE,
    Group,
    groups,
    left_to_noise,
    marked,
    meanings,
)
from bench.report.choice.marks import NOISY, mask_notes, says_nothing
from bench.report.choice.readers import CostColumn, memory_text, split_by_reader
from bench.report.grid import Cell, Document, Grid, Line
from bench.rows.text import of_categories

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from bench.rows.row import Row

COLUMNS = tuple(
    (q.heading(name), name)
    for name in (
        *("params_m", "gflops", "state_mb", "state_backbone_mb", "fps_b1", "fps_b8", "fps"),
        *("latency_p50_ms", "latency_p95_ms", "encoder_fps", "decoder_fps"),
        *("fit_mb", "infer_mb", "fit_s"),
    )
)

_SHORT = 44
"""What tells variants apart stands in a figure's legend if it has no more characters."""


@dataclass(frozen=True)
class Cost:
    """One method in one group, over the categories that all methods share.

    Attributes:
        label: name with marks, as a table shows it.
        legend: the same with what tells it from the method's other variants, for a figure.
        costs: median over categories and seeds of each quiet row by heading, of all where none is
            quiet; None where not measured.
        rows: those it comes from.
        score: mean over categories, then seeds; None where not measured.
        batches: at which FPS was measured.
    """

    label: str
    legend: str
    costs: dict[str, float | None]
    rows: tuple[Row, ...]
    score: float | None
    batches: tuple[int, ...]


@dataclass(frozen=True)
class Costs:
    """All methods of a group, and the rows that their numbers come from."""

    group: Group
    coverage: Coverage
    columns: tuple[CostColumn, ...]
    lines: tuple[Cost, ...]

    def notes(self, shown: Sequence[tuple[str, str]] = COLUMNS) -> list[str]:
        """Seeds, what was left out, shown costs that some rows lack, and what the marks mean."""
        lines = self.coverage.notes()
        for cost in self.lines:
            lines += _partial(cost, [c for c in self.columns if c.name in _names(shown)])
            lines += left_to_noise(cost.label, cost.rows, shown)
        return [*lines, *meanings(self.group, *_names(shown))]


def cost_groups(rows: Sequence[Row]) -> list[Group]:
    """Rows with timings, apart by data set, protocol, device, threads and speed protocol."""
    return groups([row for row in rows if row.speed], TIMED_ALIKE)


def counted_groups(rows: Sequence[Row]) -> list[Group]:
    """Rows with operations, which no machine changes, apart by data set and protocol."""
    return groups([row for row in rows if row.gflops])


def costs(group: Group, metric: str | None, shown: Sequence[tuple[str, str]] = COLUMNS) -> Costs:
    """One line for each method of a group, with its mean score if a metric is given.

    Args:
        shown: the columns, with their headings, whose marks a label bears.
    """
    coverage = cover(group.variants, lambda row: 1.0)
    columns = split_by_reader(COLUMNS, [r for rows in group.variants.values() for r in rows])
    labels = {name: marked(group, name, *_names(shown)) for name in group.variants}
    lines = [_cost(group, coverage, columns, name, label, metric) for name, label in labels.items()]
    return Costs(group, coverage, tuple(columns), tuple(lines))


def _names(columns: Sequence[tuple[str, str]]) -> list[str]:
    return [name for _, name in columns]


def _cost(
    group: Group,
    coverage: Coverage,
    columns: Sequence[CostColumn],
    name: str,
    label: str,
    metric: str | None,
) -> Cost:
    rows = coverage.shared_rows(name) if name in coverage.compared else []
    told = group.settings.get(name, "")
    method = group.variants[name][0].method
    short = f"{method}{label[len(name) :]}, {told}"
    return Cost(
        label=label,
        legend=short if told and len(told) <= _SHORT else label,
        costs={c.heading: q.median_cost(c.rows(rows), c.name) for c in columns},
        rows=tuple(rows),
        score=_score(rows, metric, coverage.shared) if metric else None,
        batches=q.batches(rows),
    )


def _partial(cost: Cost, shown: Sequence[CostColumn]) -> list[str]:
    """Columns that only some of a method's rows have: `FPS b8: from 14 of 18 rows of padim`."""
    found: dict[int, list[str]] = {}
    for column in shown:
        count = sum(q.quantity(row, column.name) is not None for row in column.rows(cost.rows))
        if 0 < count < len(cost.rows):
            found.setdefault(count, []).append(column.heading)
    return [
        f"{', '.join(headings)}: from {count} of {len(cost.rows)} rows of {cost.label}"
        for count, headings in found.items()
    ]


def _score(rows: Sequence[Row], metric: str, categories: Sequence[str]) -> float | None:
    """Mean over categories, then seeds; None where a row lacks it."""
    if any(q.quantity(row, metric) is None for row in rows):
        return None
    return q.over_seeds(rows, metric, categories)[0]


def input_side(row: Row) -> float | None:
    """Side of the network's input in pixels; None where neither protocol nor method says."""
    resize = row.protocol_fields.get("resize")
    if crop := row.protocol_fields.get("crop"):
        return float(crop)
    if resize == "method":
        resize = row.params.get("input_size")
    if isinstance(resize, list):
        return float((resize[0] * resize[1]) ** 0.5)
    return float(resize) if isinstance(resize, (int, float)) else None


def complexity_table(
    group: Group, metric: str | None, skip_scores: Collection[str] = ()
) -> Document:
    """Title with device and protocols, costs, notes; without a metric no scores.

    Args:
        skip_scores: protocols whose scores say nothing; if there is a metric, shown with a remark.
    """
    found = costs(group, metric)
    lines = []
    for cost in found.lines:
        batch = ", ".join(map(str, cost.batches)) or "n/a"
        values = [_text(cost, column) for column in found.columns]
        score = [q.show(metric, cost.score) or "n/a"] if metric else []
        lines.append(Line(Cell(cost.label), tuple(map(Cell, [*score, *values, batch]))))
    heads = [*([q.label(metric)] if metric else []), *(c.heading for c in found.columns), "batch"]
    grid = Grid("method", tuple(heads), tuple(lines))
    notes = tuple(_notes(found, metric, skip_scores))
    return Document("complexity", _title(group), (grid,), remarks=notes)


def _title(group: Group) -> str:
    memory = memory_text([row for rows in group.variants.values() for row in rows])
    return f"Complexity on {group.title}{', ' if memory else ''}{memory}"


def _text(cost: Cost, column: CostColumn) -> str:
    """With the mark of noise where no row is quiet."""
    noisy = NOISY if q.is_uncertain(column.rows(cost.rows), column.name) else ""
    value = q.show(column.name, cost.costs[column.heading])
    return f"{value}{noisy}" if value else "n/a"


def _notes(found: Costs, metric: str | None, skip_scores: Collection[str]) -> list[str]:
    protocol = found.group.first.protocol
    score = "score: mean" if metric else f"{says_nothing(protocol)}: left out"
    remarks = [says_nothing(protocol)] if metric and protocol in skip_scores else []
    if metric and q.is_of_pixels(metric):
        rows = [row for each in found.coverage.chosen.values() for row in each.every_row]
        remarks += mask_notes(rows)
    return [
        f"{score}; costs: median; over {of_categories(found.coverage.shared)}",
        "FPS: at the batch in the last column; latency, encoder and enc+dec: at batch 1",
        "enc+dec: network and method, without upsampling and copies",
        "GFLOPs: 2 for each multiply-add, one image; MB of 10^6 bytes; state includes the encoder",
        *found.group.legend,
        *found.notes(),
        *remarks,
    ]
