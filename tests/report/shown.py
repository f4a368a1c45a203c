"""What a built table shows, by row and column."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from bench.report.compare import document as comparison
from bench.report.cost.complexity import complexity_table
from bench.report.formats import render
from bench.report.paper import document as paper
from bench.report.paper.paper_table import PaperTable
from bench.report.paper.table_spec import TableSpec
from bench.rows.row import Row

if TYPE_CHECKING:
    from bench.report.choice.groups import Group
    from bench.report.compare.compare import Table
    from bench.report.paper.ranking import Entry, PaperLine

Spec = Callable[[str], TableSpec]
RowsOf = Callable[..., list[Row]]
Built = Callable[..., PaperTable]


def lines(table: PaperTable, section: int = 0) -> dict[tuple[str, str], PaperLine]:
    return {(line.label, line.kind): line for line in table.sections[section].lines}


def cell(table: PaperTable, label: str, kind: str, column: str, section: int = 0) -> Entry:
    index = table.sections[section].columns.index(column)
    return lines(table, section)[label, kind].entries[index]


def written(table: PaperTable, format: str = "md") -> str:
    return render([paper.document(table)], format)


def compared(table: Table, format: str = "md", transpose: bool | None = None) -> str:
    return render([comparison.document(table, transpose)], format)


def timed(make_row: Callable[..., Row], **changes: object) -> Row:
    values = {"speed": "speed-1", "device": "CPU test", "threads": 2, "memory": "sampled"}
    return make_row(**{**values, **changes})


def complexity(group: Group, metric: str | None) -> str:
    return render([complexity_table(group, metric)], "md")
