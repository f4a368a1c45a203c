"""A comparison as a document that any format writes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.report.choice import quantities as q
from bench.report.choice.groups import marked, meanings
from bench.report.choice.settings_text import settings_of
from bench.report.compare.compare import average
from bench.report.compare.conclusions import conclusions
from bench.report.grid import Cell, Document, Grid, Line
from bench.rows.text import mean_label

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bench.report.compare.compare import Number, Table

RECORD = (
    *("metric", "place", "machine", "method", "settings", "category"),
    *("value", "deviation", "low", "high", "mean_rank", "seeds", "marks"),
    *("kind", "against", "interval", "weights", "protocol", "protocol_fields"),
    *("dataset", "dataset_params", "note_texts", "rank_low", "rank_high", "p", "over"),
)
NUMBER = "number"
FRIEDMAN = "friedman"
WILCOXON = "wilcoxon-shaffer"
DIFFERENCE = "difference"
CATEGORIES = "categories"

WIDE = 8
"""With more categories they become the lines of a table, and methods its columns."""

NONE = "n/a"


def document(table: Table, transpose: bool | None = None) -> Document:
    """Title, grid and conclusions; for programs one record for each number and for each test.

    Records have values in full, fractions and not percent. That of a test has its p-value as
    `value` and as `p`, that of a difference of means the difference, its interval and its p; of a
    pair, `method` is the one that is better.

    Args:
        transpose: categories as lines; None decides by their number.
    """
    grid = _grid(table)
    wide = len(table.group.categories) > WIDE if transpose is None else transpose
    return Document(
        style="comparison",
        title=title(table),
        grids=(_turned(grid) if wide else grid,),
        remarks=tuple(conclusions(table)),
        record_columns=RECORD,
        records=tuple(_place(table) | each for each in (*_numbers(table), *_tests(table))),
    )


def title(table: Table) -> str:
    """Metric, unit, what brackets are, data set and protocol."""
    unit = " (%)" if q.is_score(table.metric) else ""
    brackets = f" [{table.brackets}]" if table.brackets else ""
    return f"{q.label(table.metric)}{unit}{brackets} on {table.group.title}"


def _grid(table: Table) -> Grid:
    return Grid(
        corner="method",
        columns=(*table.group.categories, _mean(table), "mean rank"),
        lines=tuple(_line(table, name) for name in table.group.variants),
    )


def _turned(grid: Grid) -> Grid:
    """Its columns as lines."""
    return Grid(
        corner="category",
        columns=tuple(line.label.text for line in grid.lines),
        lines=tuple(
            Line(Cell(head), tuple(line.cells[i] for line in grid.lines))
            for i, head in enumerate(grid.columns)
        ),
    )


def _line(table: Table, name: str) -> Line:
    categories, metric = table.group.categories, table.metric
    numbers = [table.cells.get((name, c)) for c in categories] + [table.means.get(name)]
    texts = [NONE if number is None else number.text(metric) for number in numbers]
    texts.append(NONE if (rank := table.rank(name)) is None else f"{rank:.2f}")
    return Line(Cell(marked(table.group, name, metric)), tuple(map(Cell, texts)))


def _numbers(table: Table) -> Iterable[dict[str, str]]:
    group = table.group
    notes = [*meanings(group, table.metric), *table.remarks]
    for name, rows in group.variants.items():
        of_method = {
            "method": name,
            "settings": settings_of(group.variants, group.settings, name),
            "seeds": " ".join(map(str, table.coverage.chosen[name].seeds)),
            "marks": marked(group, name, table.metric)[len(name) :],
            "kind": NUMBER,
            "weights": ", ".join(sorted({row.pretrained for row in rows})),
            "note_texts": " | ".join(notes),
        }
        for category in group.categories:
            number = table.cells.get((name, category))
            yield {**of_method, "category": category, **_number(table, number)}
        last = {**of_method, "category": _mean(table), **_number(table, table.means.get(name))}
        yield {**last, "mean_rank": _figure(table.rank(name)), **_rank_interval(table, name)}


def _mean(table: Table) -> str:
    """The head of the numbers over all categories."""
    return mean_label(average(table.metric), table.group.categories)


def _place(table: Table) -> dict[str, str]:
    """What all records of a table have."""
    first = table.group.first
    return {
        "metric": table.metric,
        "place": table.group.place,
        "machine": table.group.machine,
        "protocol": first.protocol,
        "protocol_fields": first.texts["protocol_fields"],
        "dataset": first.dataset,
        "dataset_params": first.texts["dataset_params"],
    }


def _number(table: Table, number: Number | None) -> dict[str, str]:
    if number is None:
        return {}
    low, high = number.interval or (None, None)
    return {
        "value": _figure(number.value),
        "deviation": _figure(number.deviation),
        "low": _figure(low),
        "high": _figure(high),
        "interval": "" if number.interval is None else table.brackets,
    }


def _rank_interval(table: Table, name: str) -> dict[str, str]:
    """The interval of a mean rank over categories."""
    if table.comparison is None or name not in table.methods:
        return {}
    low, high = table.comparison.rank_intervals[table.methods.index(name)]
    return {"rank_low": _figure(low), "rank_high": _figure(high)}


def _tests(table: Table) -> Iterable[dict[str, str]]:
    names = table.methods
    for each in table.differences:
        low, high = map(_figure, each.interval)
        yield {
            "method": names[each.better],
            "against": names[each.worse],
            "kind": DIFFERENCE,
            "value": _figure(each.value),
            "low": low,
            "high": high,
            "interval": "95 % interval of the difference",
            "p": _figure(each.p),
            "over": " and ".join(each.over),
        }
    if table.comparison is None:
        return
    if table.comparison.friedman is not None:
        kind = FRIEDMAN if table.comparison.is_exact else f"{FRIEDMAN}-chi-square"
        yield {"kind": kind, **_p_value(table.comparison.friedman)}
    for pair in table.comparison.pairs:
        pair_of = {"method": names[pair.better], "against": names[pair.worse]}
        yield {"kind": WILCOXON, **pair_of, **_p_value(pair.p)}


def _p_value(p: float) -> dict[str, str]:
    return {"value": _figure(p), "p": _figure(p), "over": CATEGORIES}


def _figure(value: float | None) -> str:
    """Twelve digits: all that is no rounding of a sum."""
    return "" if value is None else f"{value:.12g}"
