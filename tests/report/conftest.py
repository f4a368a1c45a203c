"""Rows that a table would measure, made without running anything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from bench.plan.identity import plain
from bench.report.paper.matching import Matcher
from bench.report.paper.paper_table import PaperTable, build
from bench.report.paper.table_files import load_table
from bench.settings.config import Settings, load_settings
from tests import row_maker

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bench.report.paper.published import PublishedNumbers
    from bench.report.paper.table_spec import TableSpec
    from bench.rows.row import Row

    MakeRow = Callable[..., Row]
    MakeRows = Callable[..., list[Row]]


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.delenv("BENCH_PROJECT", raising=False)
    return load_settings()


@pytest.fixture
def spec(settings: Settings, published: PublishedNumbers) -> Callable[[str], TableSpec]:
    """`spec("pyramidflow/table4")`."""
    return lambda name: load_table(name, settings, published)


@pytest.fixture
def built(published: PublishedNumbers, settings: Settings) -> Callable[..., PaperTable]:
    """`built(spec, rows, seeds)`: the table with the published numbers and these rows."""

    def make(spec: TableSpec, rows: Sequence[Row] = (), seeds: Sequence[int] = ()) -> PaperTable:
        return build(spec, published, rows, settings, seeds)

    return make


@pytest.fixture
def make_row() -> MakeRow:
    """`make_row(method="padim", image_auroc=0.9)`: a row with defaults for the rest."""
    count = iter(range(10**6))

    def make(**changes: Any) -> Row:
        place = {"cell": f"{next(count):012x}", "dataset": "synthetic", "category": "weave"}
        return row_maker.make_row(**{**place, **changes})

    return make


@pytest.fixture
def rows_of(settings: Settings, make_row: MakeRow) -> MakeRows:
    """`rows_of(spec, image_auroc=0.9)`: every row that the table asks for."""

    def make(spec: TableSpec, **changes: Any) -> list[Row]:
        matcher = Matcher(spec, settings)
        fields = plain(settings.protocol(spec.protocol).identity())
        return [
            make_row(
                **{
                    "dataset": spec.dataset,
                    "protocol": spec.protocol,
                    "protocol_fields": fields,
                    "method": row.method,
                    "category": category,
                    "seed": seed,
                    "params": plain(matcher.params(row, category)),
                    **changes,
                }
            )
            for row in spec.rows
            if row.method
            for category in spec.wanted()
            for seed in spec.seeds_of(row)
        ]

    return make
