"""What a column is stands in one place, and everybody reads it there."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from bench.evaluate import evaluate
from bench.report.choice import quantities as q
from bench.rows.csv_file import as_csv
from bench.rows.row import COLUMNS, JSON, Row, columns, stored
from tests.row_maker import make_row, read_csv

ROOT = Path(__file__).parents[2]
FILES = sorted([*ROOT.glob("results/[!pt]*/*.csv"), *ROOT.glob("results/baseline/*/*.csv")])


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}-{file.stem}")
def test_a_committed_file_is_written_again_with_the_same_texts(file: Path) -> None:
    again = csv.DictReader(io.StringIO(as_csv(read_csv(file)).decode(), newline=""))
    with file.open(newline="", encoding="utf-8") as stream:
        for before, after in zip(csv.DictReader(stream), again, strict=True):
            # A file may be older than a column.
            assert {name: after[name] for name in before} == before


def test_every_field_of_a_row_but_unknown_columns_is_described() -> None:
    assert [f.name for f in fields(Row)] == [*COLUMNS, "extra"]


def test_every_number_of_a_report_has_a_direction_and_a_unit() -> None:
    for name in (*q.SCORES, *q.COSTS, *q.DERIVED):
        assert q.described(name).better, name
        assert q.unit(name) or name == "latency_iqr", name


def test_a_score_depends_on_no_machine_and_says_what_is_scored() -> None:
    assert {COLUMNS[name].machine for name in columns("score")} == {""}
    assert all(COLUMNS[name].level for name in columns("score"))


def test_json_is_read_into_values_and_written_as_it_stood() -> None:
    row = make_row(params={"layers": [2, 3], "kernel": 1.0}, suspect=["degenerate"])
    (text,) = as_csv([row]).decode().splitlines()[1:]
    assert '"{""kernel"":1.0,""layers"":[2,3]}"' in text
    assert row.texts["params"] == '{"kernel":1.0,"layers":[2,3]}'
    assert set(row.texts) == set(JSON)


def test_a_number_under_a_name_that_is_no_column_is_refused_and_not_lost() -> None:
    with pytest.raises(ValueError, match="'image_aurok' is no score of a row; did you mean"):
        stored({"image_aurok": 0.5})
    with pytest.raises(TypeError, match="latency_p50"):
        make_row(latency_p50=1.0)


def test_what_follows_from_a_column_depends_on_the_machine_as_it_does() -> None:
    assert q.conditions("encoder_fps_batch") == q.conditions("encoder_batch_ms")
    assert q.described("encoder_fps_batch").is_at_batch
    assert q.conditions("fit_gb") == ("device", "threads", "memory")
    assert (q.unit("fit_gb"), q.is_lower_better("fit_gb")) == ("GB", True)
    assert (q.unit("decoder_fps"), q.is_lower_better("decoder_fps")) == ("fps", False)


@pytest.mark.parametrize(
    "name",
    [
        *("preprocess_ms", "latency_p90_ms", "latency_iqr", "cpu_ms", "unit_ms", "fps_mean"),
        *("infer_reserved_mb", "fit_left_mb", "weights_statistics"),
    ],
)
def test_a_column_is_named_where_it_is_described_and_where_it_is_filled(name: str) -> None:
    """Of columns that no report singles out."""
    naming = [
        file.relative_to(ROOT).as_posix()
        for file in sorted(ROOT.glob("bench/**/*.py"))
        if re.search(rf"\b{name}\b", file.read_text(encoding="utf-8"))
    ]
    assert len(naming) == 2, naming
    assert "bench/rows/row.py" in naming


def test_every_score_of_an_evaluation_has_a_column() -> None:
    maps, masks = np.zeros((4, 8, 8)), np.zeros((4, 8, 8), dtype=bool)
    masks[2:, :3, :3] = True
    maps[2:, :4, :3] = 1.0
    scores = maps.max(axis=(1, 2))
    found = stored(evaluate([*maps], [*masks], [0, 0, 1, 1], scores).values)
    assert set(found) == {*columns("score"), "pixel_f1max_threshold"}
