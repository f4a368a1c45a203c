"""A comparison for programs: one line for each number and for each test."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

from bench.report.choice.groups import marked, meanings
from bench.report.choice.settings_text import settings_of
from bench.report.compare.compare import average
from bench.rows.text import mean_label

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from bench.report.compare.compare import Number, Table

COLUMNS = (
    *("metric", "place", "machine", "method", "settings", "category"),
    *("value", "deviation", "low", "high", "mean_rank", "seeds", "marks"),
    *("kind", "against", "interval", "weights", "protocol", "protocol_fields"),
    *("dataset", "dataset_params", "note_texts", "rank_low", "rank_high", "p", "over"),
)
NUMBER = "number"
FRIEDMAN = "friedman"
WILCOXON = "wilcoxon-shaffer"
DIFFERENCE = "difference"


def csv_text(tables: Sequence[Table]) -> str:
    """CSV with a header; values in full, fractions and not percent.

    A line of a test has its p-value as `value` and as `p`, that of a difference of means the
    difference, its interval and its p; of a pair, `method` is the one that is better.
    """
    file = io.StringIO()
    writer = csv.DictWriter(file, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    for table in tables:
        writer.writerows([*_numbers(table), *_tests(table)])
    return file.getvalue().rstrip("\n")


def _numbers(table: Table) -> Iterable[dict[str, str]]:
    group = table.group
    whole = mean_label(average(table.metric), group.categories)
    notes = [*meanings(group, table.metric), *table.remarks]
    for name, rows in group.variants.items():
        of_method = {
            **_place(table),
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
        last = {**of_method, "category": whole, **_number(table, table.means.get(name))}
        yield {**last, "mean_rank": _figure(table.rank(name)), **_ranks(table, name)}


def _place(table: Table) -> dict[str, str]:
    """What all lines of a table have."""
    first = table.group.first
    return {
        "metric": table.metric,
        "place": table.group.place,
        "machine": table.group.machine,
        "protocol": first.protocol,
        "protocol_fields": first.protocol_fields,
        "dataset": first.dataset,
        "dataset_params": first.dataset_params,
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


def _ranks(table: Table, name: str) -> dict[str, str]:
    """The interval of a mean rank over categories."""
    if table.comparison is None or name not in table.methods:
        return {}
    low, high = table.comparison.rank_intervals[table.methods.index(name)]
    return {"rank_low": _figure(low), "rank_high": _figure(high)}


def _tests(table: Table) -> Iterable[dict[str, str]]:
    for each in table.differences:
        low, high = map(_figure, each.interval)
        yield {
            **_place(table),
            "method": table.methods[each.better],
            "against": table.methods[each.worse],
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
        p = _figure(table.comparison.friedman)
        kind = FRIEDMAN if table.comparison.is_exact else f"{FRIEDMAN}-chi-square"
        yield {**_place(table), "kind": kind, "value": p, "p": p, "over": CATEGORIES}
    for pair in table.comparison.pairs:
        names = {"method": table.methods[pair.better], "against": table.methods[pair.worse]}
        p = _figure(pair.p)
        of_test = {"kind": WILCOXON, "value": p, "p": p, "over": CATEGORIES}
        yield {**_place(table), **names, **of_test}


CATEGORIES = "categories"


def _figure(value: float | None) -> str:
    """Twelve digits: all that is no rounding of a sum."""
    return "" if value is None else f"{value:.12g}"
