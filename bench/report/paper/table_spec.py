"""A paper's table as data: which numbers it prints, and which cells would measure them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from bench.report.paper.published import MEANS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from bench.report.paper.published import Selector

ANY = "any"
"""The category of numbers that belong to none, such as speed."""

MOST_DECIMALS = 6
"""Of a percentage: more than any float of a score is worth."""

Mark = Literal["oracle", "transductive"]


@dataclass(frozen=True)
class MetricSpec:
    """One metric of the table.

    Attributes:
        id: the name by which a row can measure something else for it.
        published: its name in published.csv; "" where nothing is printed.
        measured: the quantity of a row to put beside it; "" where there is none.
        label: heading.
        where: further columns of published.csv that its numbers have.
        decimals: of measured scores, in percent.
    """

    id: str
    published: str
    measured: str
    label: str
    where: Mapping[str, Any] = field(default_factory=dict)
    decimals: int = 1


@dataclass(frozen=True)
class RowSpec:
    """One row: a selector of published numbers, and a method of the harness or none.

    Attributes:
        preset: of bench.toml, whose fields of the method hold, by category too; `params` and
            `category_params` come on top.
        measured: quantity in place of the metric's, by the metric's id.
        definition: what the row's numbers are, by the metric's id, where it is not what the table's
            other rows have; they are not ranked with those.
        printed: how the row's printed number was made, by the metric's id, where that is not what
            the row measures; the two are not subtracted.
        seeds: in place of the table's; empty: those.
    """

    label: str
    block: str = ""
    published: Mapping[str, Any] = field(default_factory=dict)
    method: str = ""
    preset: str = ""
    params: Mapping[str, Any] = field(default_factory=dict)
    category_params: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    measured: Mapping[str, str] = field(default_factory=dict)
    definition: Mapping[str, str] = field(default_factory=dict)
    printed: Mapping[str, str] = field(default_factory=dict)
    seeds: tuple[int, ...] = ()
    marks: tuple[Mark, ...] = ()


@dataclass(frozen=True)
class FigureSpec:
    """A figure of the table: a metric against a parameter, on logarithmic axes.

    Attributes:
        file: its name, without suffix.
        title, origin: above it; what the printed numbers come from.
        published: how labels call the printed numbers.
        x: parameter of the rows' methods, of powers of two.
        metric: id of one of the table's.
        curves: by name, the parameters that the rows of a curve have.
        named: further parameters that the label of a measured curve names.
    """

    file: str
    title: str
    origin: str
    published: str
    x: str
    x_label: str
    metric: str
    y_label: str
    curves: Mapping[str, Mapping[str, Any]]
    named: tuple[str, ...] = ()

    @property
    def told(self) -> tuple[str, ...]:
        """Parameters that labels name."""
        return (*self.named, *(name for params in self.curves.values() for name in params))

    def kind(self, params: Mapping[str, Any]) -> int | None:
        """Index of the curve of a row with these parameters, if it is of one."""
        for index, of_curve in enumerate(self.curves.values()):
            if all(params.get(name) == value for name, value in of_curve.items()):
                return index
        return None


@dataclass(frozen=True)
class TableSpec:
    """A table of a paper. `docs/tables.md` describes the keys."""

    name: str
    file: Path
    title: str
    paper: str
    table: str
    source: str
    dataset: str
    protocol: str
    published_protocol: str
    metrics: tuple[MetricSpec, ...]
    rows: tuple[RowSpec, ...]
    categories: tuple[str, ...] = ()
    means: tuple[str, ...] = ()
    layout: Literal["categories", "metrics"] = "categories"
    column: str = ""
    seeds: tuple[int, ...] = (0,)
    rank: bool = True
    figure: FigureSpec | None = None
    change_from: str = ""  # label of the row that the paper's changes are against, or "worst"
    note: str = ""

    def metric(self, id: str) -> MetricSpec:
        """The metric of that id."""
        return next(metric for metric in self.metrics if metric.id == id)

    def selector(self, row: RowSpec, metric: MetricSpec, name: str = "") -> Selector:
        """Of the numbers that are printed for a row.

        Args:
            name: in place of the metric's.
        """
        metric_of = {"metric": name or metric.published, "dataset": self.dataset}
        return {**metric_of, **metric.where, **row.published}

    def members(self, column: str) -> tuple[str, ...]:
        """The categories that a column stands for: itself, or those of a mean."""
        if column in self.categories:
            return (column,)
        if column in MEANS and self.dataset == "mvtec":
            return MEANS[column]
        return self.categories

    def seeds_of(self, row: RowSpec, asked: Sequence[int] = ()) -> tuple[int, ...]:
        """The seeds of a row: those that a user asks for, else its own, else the table's."""
        return tuple(asked) or row.seeds or self.seeds

    def wanted(self) -> tuple[str, ...]:
        """Every category whose cells the table needs."""
        columns = (self.column,) if self.layout == "metrics" else (*self.categories, *self.means)
        return tuple(dict.fromkeys(c for column in columns for c in self.members(column)))
