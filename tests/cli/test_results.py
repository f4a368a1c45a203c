"""`bench merge` and `bench status` of folders that hold something else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from bench.cli import app
from bench.errors import StoreError
from bench.rows.store import ResultStore
from tests.row_maker import make_row

if TYPE_CHECKING:
    from pathlib import Path


def bench(*arguments: object) -> str:
    """The output of a command that succeeds; its error is raised."""
    done = CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_one_merged_row_is_counted_in_the_singular(tmp_path: Path) -> None:
    ResultStore(tmp_path / "theirs").put(make_row())
    text = bench("merge", tmp_path / "theirs", "--results", tmp_path / "ours")
    assert text == "1 row added, 0 differing, 1 in all\n"


@pytest.mark.parametrize("place", ["theirs/mtd", "", "empty"])
def test_a_folder_without_rows_is_refused_with_the_right_one(tmp_path: Path, place: str) -> None:
    ResultStore(tmp_path / "theirs").put(make_row())
    (tmp_path / "empty").mkdir()
    folder = tmp_path / place
    is_near = place != "empty"
    hint = f"did you mean {tmp_path / 'theirs'}?" if is_near else "FOLDER/DATASET/METHOD.csv"
    with pytest.raises(StoreError) as error:
        bench("merge", folder, "--results", tmp_path / "ours")
    assert str(error.value).startswith(f"{folder} holds no rows; ")
    assert hint in str(error.value)
    assert not (tmp_path / "ours").exists()


def test_failures_of_methods_that_are_gone_leave_the_status(tmp_path: Path) -> None:
    (tmp_path / "failures").mkdir()
    for name in ("padim", "gone"):
        text = f"{name} mtd/tile seed 0\nof {name}\n"
        (tmp_path / "failures" / f"{name}.txt").write_text(text, encoding="utf-8")
    text = bench("status", "--results", tmp_path)
    assert "of padim" in text
    assert "gone" not in text
