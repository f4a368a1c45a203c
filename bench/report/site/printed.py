"""Published numbers as the pages show them: beside measured rows, and paper by paper."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.report.quantities import LABELS
from bench.report.site.boards import COLUMNS, PRINTED_AUPRO, Value
from bench.report.site.names import printed_prior

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from bench.report.published import Published, PublishedNumber

FIRST_HAND = ("seed", "paper")
"""Kinds of sources that are the paper itself."""

MEANS = {
    "mean": "",
    "mean_registered12": "12 of 15",
    "mean_unregistered4": "4 of 15",
}
_METRICS = {"image_auroc": "image_auroc", "pixel_auroc": "pixel_auroc", PRINTED_AUPRO: "aupro"}
_AUPRO = "AUPRO (the paper's definition)"


@dataclass(frozen=True)
class PrintedLine:
    """What one paper prints for one method over the same categories.

    Attributes:
        tables: of the paper that hold the numbers.
        coverage: categories of the mean; empty: all.
        values: one for each of `COLUMNS`.
    """

    paper: str
    tables: tuple[str, ...]
    method: str
    variant: str
    encoder: str
    input_size: str
    coverage: str
    values: tuple[Value, ...]

    @property
    def prior(self) -> str:
        """What the encoder was trained on."""
        return printed_prior(self.encoder)


@dataclass(frozen=True)
class PrintedTable:
    """One table of a paper for one data set and metric."""

    anchor: str
    title: str
    unit: str
    categories: tuple[str, ...]
    lines: tuple[tuple[PublishedNumber, tuple[Value, ...]], ...]
    notes: tuple[str, ...]


def beside(published: Published, dataset: str, protocol: str) -> list[PrintedLine]:
    """Means that papers print for a data set, those of the protocol's own paper first.

    Numbers that repositories and third parties print appear only where no paper's own are known.
    """
    means = [n for n in published.numbers if n.dataset == dataset and n.category in MEANS]
    means = [n for n in means if n.metric in _METRICS.values() and n.unit == "%"]
    own = [n for n in means if n.source_kind in FIRST_HAND] or means
    groups: dict[tuple[str, ...], dict[str, list[PublishedNumber]]] = {}
    for n in own:
        key = (n.paper, n.method, n.variant, n.encoder, n.input_size, n.category)
        groups.setdefault(key, {}).setdefault(n.metric, []).append(n)
    lines = [line for group in groups.values() for line in _lines(published, group)]
    return sorted(lines, key=lambda x: (x.paper != protocol, x.paper, _rank(x)))


def _rank(line: PrintedLine) -> tuple[bool, list[float]]:
    """Complete lines first, then by the numbers, highest first."""
    return bool(line.coverage), [-(v.number or 0) for v in line.values]


def _lines(
    published: Published, group: Mapping[str, list[PublishedNumber]]
) -> Iterable[PrintedLine]:
    """One line; one for each table where two tables print different values."""
    if any(len({n.number for n in numbers}) > 1 for numbers in group.values()):
        tables = dict.fromkeys(n.table for numbers in group.values() for n in numbers)
        for table in tables:
            own = {m: [n for n in ns if n.table == table] for m, ns in group.items()}
            yield _line(published, {m: ns for m, ns in own.items() if ns})
    else:
        yield _line(published, group)


def _line(published: Published, group: Mapping[str, list[PublishedNumber]]) -> PrintedLine:
    first = next(iter(group.values()))[0]
    found = {_METRICS.get(c, ""): c for c in _METRICS}
    values = {found[m]: _value(published, ns[0]) for m, ns in group.items()}
    return PrintedLine(
        paper=first.paper,
        tables=tuple(dict.fromkeys(n.table for ns in group.values() for n in ns)),
        method=first.method,
        variant=first.variant,
        encoder=first.encoder,
        input_size=first.input_size,
        coverage=MEANS[first.category],
        values=tuple(values.get(column, Value("")) for column in COLUMNS),
    )


def _value(published: Published, number: PublishedNumber) -> Value:
    text = number.value + (f" ± {number.std}" if number.std else "")
    return Value(text, number.number, notes=tuple(published.notes_of(number)))


def paper_tables(published: Published, paper: str) -> list[PrintedTable]:
    """Every number that a paper prints, table by table."""
    groups: dict[tuple[str, str, str, str], list[PublishedNumber]] = {}
    for n in published.numbers:
        if n.paper == paper:
            groups.setdefault((n.table, n.dataset, n.metric, n.unit), []).append(n)
    return [_table(published, number, numbers) for number, numbers in enumerate(groups.values(), 1)]


def _table(published: Published, number: int, numbers: Sequence[PublishedNumber]) -> PrintedTable:
    first = numbers[0]
    categories = tuple(dict.fromkeys(n.category for n in numbers))
    rows: dict[tuple[str, ...], dict[str, PublishedNumber]] = {}
    for n in numbers:
        key = (n.method, n.variant, n.encoder, n.input_size)
        rows.setdefault(key, {})[n.category] = n
    lines = []
    for row in rows.values():
        cells = [_value(published, row[c]) if c in row else Value("") for c in categories]
        lines.append((next(iter(row.values())), tuple(cells)))
    on = "" if first.dataset == "any" else f" on {first.dataset}"
    return PrintedTable(
        anchor=f"t{number}-{re.sub('[^a-z0-9]+', '-', first.table.lower()).strip('-')}",
        title=f"{first.table}: {_label(first.metric)}{on}",
        unit=first.unit,
        categories=categories,
        lines=tuple(lines),
        notes=tuple(published.notes_of_table(paper=first.paper, table=first.table)),
    )


def _label(metric: str) -> str:
    """How pages call a metric of published.csv."""
    if metric.endswith("_delta"):
        return f"change of {_label(metric.removesuffix('_delta'))}"
    return _AUPRO if metric == "aupro" else LABELS.get(metric, metric.replace("_", " "))
