"""`bench run --shard` and `bench merge`, as a job array uses them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bench.rows.store import ResultStore

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Bench

RUN = ("run", "-m", "mean", "-d", "tiny", "--seeds", "0,1,2", "--in-process")


@pytest.mark.slow
def test_the_shards_of_a_plan_merge_to_the_whole_of_it(project: Path, bench: Bench) -> None:
    whole = bench(*RUN, "--results", "whole")
    assert whole.returncode == 0, whole.stderr
    for part in ("1/2", "2/2"):
        done = bench(*RUN, "--shard", part, "--results", f"s{part[0]}")
        assert done.returncode == 0, done.stdout + done.stderr
    merged = bench("merge", "s1", "--results", "all")
    assert "shard 2/2 is in none of these folders" in merged.stdout
    merged = bench("merge", "s1", "s2", "--results", "all")
    assert merged.returncode == 0
    assert "none of these" not in merged.stdout
    expected, found = (ResultStore(project / name).rows() for name in ("whole", "all"))
    assert [row.cell for row in found] == [row.cell for row in expected]
    checked = bench("check", "--baseline", "whole", "--results", "all", "--complete")
    assert checked.returncode == 0, checked.stdout


@pytest.mark.slow
def test_a_second_shard_in_one_folder_is_refused_and_the_first_stays(
    project: Path, bench: Bench
) -> None:
    first = bench(*RUN, "--shard", "1/2")
    assert first.returncode == 0, first.stdout
    rows = ResultStore(project / "results").rows()
    second = bench(*RUN, "--shard", "2/2")
    assert second.returncode == 2
    assert second.stderr.count("\n") == 1
    assert "holds shard 1/2, not 2/2; give each shard a folder of its own" in second.stderr
    assert ResultStore(project / "results").rows() == rows
    again = bench(*RUN, "--shard", "1/2")
    assert again.returncode == 0


def test_a_shard_without_a_cell_says_so_and_nothing_ran(bench: Bench) -> None:
    planned = bench(*RUN[:-3], "--dry-run")
    cell = planned.stdout.splitlines()[2].split()[0]
    empty = int(cell, 16) % 9973 or 9973  # the part before that of the cell
    done = bench(*RUN[:-3], "-c", "left", "--shard", f"{empty}/9973")
    assert done.returncode == 3
    assert f"shard {empty}/9973 has no cell of this plan" in done.stdout
    merged = bench("merge", "results", "--results", "all")
    assert (merged.returncode, merged.stdout.splitlines()[-1]) == (
        0,
        "0 rows added, 0 differing, 0 in all",
    )
