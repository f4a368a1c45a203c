"""Published numbers as the pages show them: beside measured rows, and paper by paper."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bench.report.choice.quantities import described
from bench.report.site.lines import COLUMNS, PRINTED_AUPRO, Value, rank
from bench.report.site.names import printed_prior

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from bench.report.paper.published import PublishedNumber, PublishedNumbers
    from bench.report.site.printed_marks import PrintedMarks

FIRST_HAND = ("seed", "paper")
"""Kinds of sources that are the paper itself."""

FEW = 12
"""So many published lines stand beside every board; more are chosen from."""

MEANS = {"mean": 0, "mean_registered12": 12, "mean_unregistered4": 4}
"""How many categories each mean is over; 0: all."""

_METRICS = {"image_auroc": "image_auroc", "pixel_auroc": "pixel_auroc", PRINTED_AUPRO: "aupro"}
_NAMES = {
    "aupro": "AUPRO (the paper's definition)",
    "mad": "mAD",
    "fps": "FPS",
    "params_m": "parameters",
    "additional_params_m": "additional parameters",
    "pixel_iou_max": "highest pixel IoU",
    "pixel_pr_auc": "pixel PR-AUC",
    "train_memory_gb": "training memory",
    "val_memory_gb": "validation memory",
}
"""Of metrics in titles of tables, whose captions have the unit."""


@dataclass(frozen=True)
class PrintedLine:
    """What one paper prints for one method over the same categories.

    Attributes:
        tables: of the paper that hold the numbers, each with the anchor on the paper's page.
        coverage: categories of the mean, as "12 of 15"; empty where their number is unknown.
        is_partial: whether the mean lacks categories.
        marks: of its numbers, with their meaning.
        values: one for each of `COLUMNS`.
    """

    paper: str
    tables: tuple[tuple[str, str], ...]
    method: str
    variant: str
    encoder: str
    input_size: str
    coverage: str
    is_partial: bool
    marks: Mapping[str, str]
    values: tuple[Value, ...]

    @property
    def prior(self) -> str:
        """What the encoder was trained on."""
        return printed_prior(self.encoder)

    @property
    def prints_aupro(self) -> bool:
        """Whether it has an AUPRO, of the paper's own definition."""
        return bool(self.values[COLUMNS.index(PRINTED_AUPRO)].text)

    @property
    def is_own(self) -> bool:
        """Whether the paper's own method, and not a baseline."""
        return re.sub("[^a-z0-9]", "", self.method.lower()).startswith(self.paper)


@dataclass(frozen=True)
class PrintedRow:
    """A line of a paper's table; `remarks` are those made when its numbers were typed in."""

    first: PublishedNumber
    values: tuple[Value, ...]
    marks: Mapping[str, str]
    remarks: str


@dataclass(frozen=True)
class PrintedTable:
    """One table of a paper for one data set and metric."""

    anchor: str
    title: str
    unit: str
    categories: tuple[str, ...]
    lines: tuple[PrintedRow, ...]
    notes: tuple[str, ...]

    @property
    def marks(self) -> dict[str, str]:
        """Marks of any of its lines, with their meaning."""
        return {mark: text for line in self.lines for mark, text in line.marks.items()}


@dataclass(frozen=True)
class Printer:
    """Makes lines and tables of the published numbers.

    Attributes:
        marks: those that the project's tables give to numbers.
        anchors: for (paper, table, data set) that of the first such table on the paper's page.
    """

    published: PublishedNumbers
    marks: PrintedMarks
    anchors: dict[tuple[str, str, str], str] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        for paper in {n.paper for n in self.published.numbers}:
            for index, (key, numbers) in enumerate(_tables(self.published, paper).items(), 1):
                anchor = _anchor(index, key[0])
                self.anchors.setdefault((paper, key[0], numbers[0].dataset), anchor)

    def means(self, dataset: str, categories: int) -> list[PrintedLine]:
        """Means that papers print for a data set, highest first, those over fewer categories last.

        Numbers that repositories and third parties print appear only where no paper's own are
        known. Tables of one method alone (ablations) are left out where their paper has others.

        Args:
            categories: how many the data set has; 0: unknown.
        """
        means = [n for n in self.published.numbers if n.dataset == dataset and n.category in MEANS]
        means = [n for n in means if n.metric in _METRICS.values() and n.unit == "%"]
        own = [n for n in means if n.source_kind in FIRST_HAND] or means
        groups: dict[tuple[str, ...], dict[str, list[PublishedNumber]]] = {}
        for n in _comparisons(own):
            key = (n.paper, n.method, n.variant, n.encoder, n.input_size, n.category)
            groups.setdefault(key, {}).setdefault(n.metric, []).append(n)
        lines = [line for group in groups.values() for line in self._lines(group, categories)]
        return sorted(lines, key=lambda x: (x.is_partial, *map(rank, x.values), x.paper, x.method))

    def _lines(
        self, group: Mapping[str, list[PublishedNumber]], categories: int
    ) -> Iterable[PrintedLine]:
        """One line; one for each table where two tables print different values."""
        if any(len({n.number for n in numbers}) > 1 for numbers in group.values()):
            tables = dict.fromkeys(n.table for numbers in group.values() for n in numbers)
            for table in tables:
                own = {m: [n for n in ns if n.table == table] for m, ns in group.items()}
                yield self._line({m: ns for m, ns in own.items() if ns}, categories)
        else:
            yield self._line(group, categories)

    def _line(self, group: Mapping[str, list[PublishedNumber]], categories: int) -> PrintedLine:
        numbers = [n for ns in group.values() for n in ns]
        first = numbers[0]
        column = {metric: name for name, metric in _METRICS.items()}
        values = {column[m]: self._value(ns[0]) for m, ns in group.items()}
        count = MEANS[first.category] or categories
        return PrintedLine(
            paper=first.paper,
            tables=tuple(
                (table, self.anchors[first.paper, table, first.dataset])
                for table in dict.fromkeys(n.table for n in numbers)
            ),
            method=first.method,
            variant=first.variant,
            encoder=first.encoder,
            input_size=first.input_size,
            coverage=f"{count} of {categories}" if categories else "",
            is_partial=count < categories,
            marks={m: text for n in numbers for m, text in self.marks.of(n).items()},
            values=tuple(values.get(name, Value("")) for name in COLUMNS),
        )

    def _value(self, number: PublishedNumber) -> Value:
        text = number.value + (f" ± {number.std}" if number.std else "")
        return Value(text, number.number, notes=tuple(self.published.notes_of(number)))

    def tables(self, paper: str) -> list[PrintedTable]:
        """Every number that a paper prints, table by table."""
        groups = _tables(self.published, paper)
        return [
            self._table(_anchor(index, key[0]), numbers)
            for index, (key, numbers) in enumerate(groups.items(), 1)
        ]

    def _table(self, anchor: str, numbers: Sequence[PublishedNumber]) -> PrintedTable:
        first = numbers[0]
        categories = tuple(dict.fromkeys(n.category for n in numbers))
        rows: dict[tuple[str, ...], dict[str, PublishedNumber]] = {}
        for n in numbers:
            key = (n.method, n.variant, n.encoder, n.input_size)
            rows.setdefault(key, {})[n.category] = n
        on = "" if first.dataset == "any" else f" on {first.dataset}"
        return PrintedTable(
            anchor=anchor,
            title=f"{first.table}: {_label(first.metric)}{on}",
            unit=first.unit,
            categories=categories,
            lines=tuple(self._row(row, categories) for row in rows.values()),
            notes=tuple(self.published.notes_of_table(paper=first.paper, table=first.table)),
        )

    def _row(self, row: Mapping[str, PublishedNumber], categories: Sequence[str]) -> PrintedRow:
        return PrintedRow(
            first=next(iter(row.values())),
            values=tuple(self._value(row[c]) if c in row else Value("") for c in categories),
            marks={m: text for n in row.values() for m, text in self.marks.of(n).items()},
            remarks=_remarks(row),
        )


def beside(
    lines: Sequence[PrintedLine], protocol: str, methods: Collection[str]
) -> list[PrintedLine]:
    """The published lines that stand beside a board; the page shows all of them once.

    Those of the protocol's own paper; otherwise what the papers of the measured methods print for
    their own method; otherwise all, if they are few.
    """
    return (
        [line for line in lines if line.paper == protocol]
        or [line for line in lines if line.paper in methods and line.is_own]
        or [line for line in lines if len(lines) <= FEW]
    )


def _comparisons(numbers: Sequence[PublishedNumber]) -> list[PublishedNumber]:
    """Without the tables of a single method, where their paper has tables of several."""
    methods: dict[tuple[str, str], set[str]] = {}
    for n in numbers:
        methods.setdefault((n.paper, n.table), set()).add(n.method)
    comparing = {paper for (paper, _), found in methods.items() if len(found) > 1}
    return [n for n in numbers if n.paper not in comparing or len(methods[n.paper, n.table]) > 1]


def _tables(
    published: PublishedNumbers, paper: str
) -> dict[tuple[str, str, str, str], list[PublishedNumber]]:
    groups: dict[tuple[str, str, str, str], list[PublishedNumber]] = {}
    for n in published.numbers:
        if n.paper == paper:
            groups.setdefault((n.table, n.dataset, n.metric, n.unit), []).append(n)
    return groups


def _anchor(index: int, table: str) -> str:
    return f"t{index}-{re.sub('[^a-z0-9]+', '-', table.lower()).strip('-')}"


def _remarks(row: Mapping[str, PublishedNumber]) -> str:
    """The remarks on the numbers of a line; one that is not on all of them with its categories."""
    places: dict[str, list[str]] = {}
    for category, number in row.items():
        if number.notes:
            places.setdefault(number.notes, []).append(category)
    return "; ".join(
        text if len(found) == len(row) else f"{text} ({', '.join(found)})"
        for text, found in places.items()
    )


def _label(metric: str) -> str:
    """How pages call a metric of published.csv."""
    if metric.endswith("_delta"):
        return f"change of {_label(metric.removesuffix('_delta'))}"
    plain = re.sub("_(gb|mb|ms|s|m)$", "", metric).replace("_", " ")
    return _NAMES.get(metric) or described(metric).label or plain
