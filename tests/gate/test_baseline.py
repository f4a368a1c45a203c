"""The committed baseline is valid, clean, and kept apart from results."""

from __future__ import annotations

from pathlib import Path

from bench.rows.check import check
from bench.rows.store import ResultStore
from bench.rows.tolerances import Tolerances
from bench.settings.config import load_settings

ROOT = Path(__file__).parents[2]
BASELINE = ROOT / "results" / "baseline"


def test_the_baseline_agrees_with_itself_under_the_shipped_tolerances() -> None:
    tolerances = Tolerances.from_table(load_settings(ROOT).check, "bench.toml")
    found = check(BASELINE, BASELINE, tolerances)
    assert found.exit_code(complete=True) == 0
    assert len(found.cells) >= 6


def test_the_baseline_was_made_by_committed_code_in_a_described_environment() -> None:
    for row in ResultStore(BASELINE).rows():
        assert row.commit
        assert not row.commit.endswith("-dirty")
        assert row.pretrained in ("pretrained", "none")
        assert (BASELINE / "env" / f"{row.env}.json").is_file()


def test_rows_of_the_baseline_are_no_results() -> None:
    cells = {row.cell for row in ResultStore(BASELINE).rows()}
    assert cells.isdisjoint(row.cell for row in ResultStore(ROOT / "results").rows())
