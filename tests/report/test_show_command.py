"""`bench show`: where the picture goes, and what is said where it cannot."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from bench.commands.show import show
from bench.errors import StoreError
from bench.report.panels import Panel, save_panels
from bench.store import write_csv

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bench.row import Row


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
    with pytest.raises(StoreError, match="run it again with --force: bench run -m padim"):
        show("abc", None, results)
