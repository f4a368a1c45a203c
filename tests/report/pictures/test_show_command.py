"""`bench show`: where the picture goes, and what is said where it cannot."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from bench.commands.show import show
from bench.errors import StoreError
from bench.report.rerun import rerun
from bench.rows.csv_file import write_csv
from bench.rows.panels import Panel, save_panels

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bench.rows.row import Row


@pytest.fixture
def results(tmp_path: Path, make_row: Callable[..., Row]) -> Path:
    """One row with panels."""
    row = make_row(cell="abc123", command="bench run -m padim")
    write_csv(tmp_path / "results" / "synthetic" / "padim.csv", [row])
    folder = tmp_path / "results" / "artifacts" / "abc123"
    folder.mkdir(parents=True)
    zeros: Any = np.zeros((8, 8))
    panel = Panel("a.png", np.zeros((8, 8, 3), np.uint8), zeros, zeros, 0.5, 0, "good", "highest")
    save_panels(folder / "panels.npz", [panel], None)
    return tmp_path / "results"


def test_the_picture_goes_where_it_was_asked_for(results: Path, tmp_path: Path) -> None:
    show("abc", tmp_path / "look.png", results)
    assert (tmp_path / "look.png").read_bytes().startswith(b"\x89PNG")


def test_a_place_that_cannot_be_written_is_named(results: Path, tmp_path: Path) -> None:
    for place in (tmp_path / "absent" / "look.png", tmp_path):
        with pytest.raises(StoreError, match=r"cannot be written: .*choose another --out"):
            show("abc", place, results)


def test_a_cell_without_panels_says_how_to_make_them(results: Path) -> None:
    (results / "artifacts" / "abc123" / "panels.npz").unlink()
    with pytest.raises(
        StoreError, match=r"again: bench run -m padim -d synthetic -c weave .*--force"
    ):
        show("abc", None, results)


def test_an_unknown_cell_says_how_to_list_them(results: Path) -> None:
    with pytest.raises(StoreError, match=r"no cell 'ffff' among the 1 in .*bench status --cells"):
        show("ffff", None, results)


@pytest.mark.parametrize(
    ("recorded", "again"),
    [
        (
            "bench run -m padim,cflow -d synthetic --preset demo --random-weights --seed 0,1",
            "--preset demo --random-weights --force --results r",
        ),
        ("bench run -mcflow --method=padim --results old --threads 2", "--threads 2 --force"),
        (
            "bench run -m padim,cflow --set cflow.x=1 --set padim.d=9 --set levels=3 --force",
            "--set padim.d=9 --force",
        ),
        (
            "bench run -m padim --set dimensions=9 --set synthetic.size=64",
            "--set dimensions=9 --set synthetic.size=64 --force",
        ),
    ],
)
def test_a_cell_is_made_again_by_its_own_part_of_the_command(
    make_row: Callable[..., Row], recorded: str, again: str
) -> None:
    row = make_row(seed=1, command=recorded, params='{"dimensions": 9}')
    results = " --results r" if "--results r" in again else ""
    assert rerun(row, results) == f"bench run -m padim -d synthetic -c weave --seed 1 {again}"


def test_maps_from_elsewhere_cannot_be_made_again(make_row: Callable[..., Row]) -> None:
    assert rerun(make_row(kind="submitted", command="bench score maps")) == ""
    assert rerun(make_row(command="")) == ""
    assert rerun(make_row(command="bench table a/b --run")) == "bench table a/b --run"
