from __future__ import annotations

from typing import Any

import pytest

from bench.run.costs import longest_first, memory_of, seconds_of, with_expectations
from tests.row_maker import make_row
from tests.run.test_executors import job

CPU = "anonymous high-water mark"


def row(**changes: Any) -> Any:
    values = {"dataset": "mtd", "category": "tile", "n_test": 100, "fps": 10.0, "memory": CPU}
    return make_row(**{**values, **changes})


def test_a_cells_seconds_are_those_of_training_and_of_scoring_the_test_images() -> None:
    assert seconds_of(row(fit_s=5.0)) == 15.0
    assert seconds_of(row(fit_s=None, fps=None)) == 0.0


def test_memory_of_a_gpu_says_nothing_of_the_hosts() -> None:
    assert memory_of(row(fit_mb=70.0, infer_batch_mb=90.0)) == 90.0
    assert memory_of(row(fit_mb=70.0, memory="cuda allocator")) == 0.0


def test_the_most_similar_rows_say_how_long_a_cell_takes() -> None:
    rows = [
        row(method="padim", fit_s=5.0, fit_mb=70.0),
        row(method="padim", category="other", fit_s=500.0),
        row(method="spade", dataset="btad", fit_s=1.0),
    ]
    known, like, unknown = with_expectations([job("padim"), job("spade"), job("cflow")], rows)
    assert (known.expected_s, known.expected_mb) == (15.0, 70.0)
    assert like.expected_s == 11.0
    assert (unknown.expected_s, unknown.expected_mb) == (0.0, 0.0)


def test_longest_first_and_those_that_nobody_knows_before_all() -> None:
    jobs = [
        job("a", expected_s=5.0),
        job("b", expected_s=50.0),
        job("c"),
        job("d", seed=1, expected_s=5.0),
    ]
    assert [j.cell.method for j in longest_first(jobs)] == ["c", "b", "a", "d"]


@pytest.mark.parametrize("epochs", [2, 2.0])
def test_of_unknown_cells_those_of_many_epochs_come_first(epochs: float) -> None:
    one, many = job("one"), job("many")
    many.cell.params["epochs"] = epochs  # type: ignore[index]
    assert [j.cell.method for j in longest_first([one, many])] == ["many", "one"]
