"""Rows from before a field was added stand with those that have it, wherever rows are compared."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from bench.plan import discovery
from bench.plan.identity import plain
from bench.report.choice.groups import groups
from bench.report.cost.memory import memory_plots
from bench.report.site.boards import boards
from bench.rows.settings import SETTINGS, Likeness
from bench.settings.protocol import PROTOCOLS

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.rows.row import Row

    MakeRow = Callable[..., Row]

PADIM = plain(discovery.describe("methods", "padim").defaults())
SYNTHETIC = plain(discovery.describe("datasets", "synthetic").defaults())
STANDARD = plain(PROTOCOLS["standard"].identity())

ADDED: dict[str, dict[str, Any]] = {
    "a parameter": {"params": PADIM, "lacking": "sigma"},
    "an option": {"dataset_params": SYNTHETIC, "lacking": "size"},
    "a field of the protocol": {"protocol_fields": STANDARD, "lacking": "image_score"},
    "of a method that is not here": {
        "method": "elsewhere",
        "params": {"depth": 3, "width": 2},
        "lacking": "width",
    },
    "of a data set that is not here": {
        "dataset": "elsewhere",
        "dataset_params": {"bits": 8, "crop": 0},
        "lacking": "crop",
    },
    "of a newer protocol": {"protocol_fields": {**STANDARD, "later": 1}, "lacking": "later"},
}
"""Rows with all fields, and the one that an older row lacks."""


def before(row: Row, field: str) -> Row:
    """The row of another category from before a field was added."""
    columns = ("params", "dataset_params", "protocol_fields")
    older: dict[str, Any] = {
        name: {k: v for k, v in getattr(row, name).items() if k != field} for name in columns
    }
    return replace(row, cell="b" * 12, category="older", **older)


@pytest.fixture(params=list(ADDED.values()), ids=list(ADDED))
def rows(request: pytest.FixtureRequest, make_row: MakeRow) -> tuple[Row, Row]:
    """A row, and an older one that lacks a field."""
    changes = dict(request.param)
    field = changes.pop("lacking")
    new = make_row(image_auroc=0.9, **changes)
    return new, before(new, field)


def test_they_have_the_same_settings(rows: tuple[Row, Row]) -> None:
    new, old = rows
    likeness = Likeness(rows)
    assert all(likeness.key(new, column) == likeness.key(old, column) for column in SETTINGS)


def test_they_stand_in_one_table_as_one_line(rows: tuple[Row, Row]) -> None:
    (group,) = groups(rows)
    assert {name: len(found) for name, found in group.variants.items()} == {rows[0].method: 2}
    assert not group.settings


def test_their_board_stands_as_one_with_one_line(rows: tuple[Row, Row]) -> None:
    (board,) = boards(rows)
    (line,) = board.lines
    assert (line.categories, line.label) == (tuple(sorted({r.category for r in rows})), "")


def test_their_memory_is_drawn_on_one_line(make_row: MakeRow) -> None:
    new = make_row(params={**PADIM, "input_size": 256}, protocol_fields={"resize": "method"})
    sized = [
        replace(row, cell=f"{side:012d}", params={**row.params, "input_size": side})
        for row, side in ((new, 256), (before(new, "sigma"), 512))
    ]
    rows = [replace(row, memory="anonymous", fit_mb=10.0) for row in sized]
    ((name, points),) = memory_plots(rows)[0].series.items()
    assert (name, [point.side for point in points]) == ("padim", [256.0, 512.0])


def test_another_value_than_the_default_keeps_rows_apart(make_row: MakeRow) -> None:
    new = make_row(params={**PADIM, "sigma": 2.0})
    old = before(new, "sigma")
    likeness = Likeness([new, old])
    assert likeness.key(new, "params") != likeness.key(old, "params")


def test_a_field_of_unknown_default_counts_where_rows_differ_in_it(make_row: MakeRow) -> None:
    rows = [
        make_row(method="elsewhere", image_auroc=0.5, params=params)
        for params in ({"width": 2}, {"width": 3}, {})
    ]
    (group,) = groups(rows)
    assert len(group.variants) == 3
