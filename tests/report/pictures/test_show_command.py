"""`bench show`: where the picture goes, and what is said where it cannot."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from bench.cli import app
from bench.commands.show import show
from bench.errors import StoreError
from bench.report.rerun import rerun
from bench.rows.csv_file import write_csv
from bench.rows.panels import SHARED, Panel, save_panels
from tests.row_maker import read_csv

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

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
    show(["abc"], tmp_path / "look.png", results)
    assert (tmp_path / "look.png").read_bytes().startswith(b"\x89PNG")


def test_a_place_that_cannot_be_written_is_named(results: Path, tmp_path: Path) -> None:
    for place in (tmp_path / "absent" / "look.png", tmp_path):
        with pytest.raises(StoreError, match=r"cannot be written: .*choose another --out"):
            show(["abc"], place, results)


def test_a_cell_without_panels_says_how_to_make_them(results: Path) -> None:
    (results / "artifacts" / "abc123" / "panels.npz").unlink()
    with pytest.raises(
        StoreError, match=r"again: bench run -m padim -d synthetic -c weave .*--force"
    ):
        show(["abc"], None, results)


@pytest.fixture
def side_by_side(results: Path, make_row: Callable[..., Row]) -> Callable[..., Path]:
    """`side_by_side(names=("a.png",), category="bolt")`: another cell, def456, beside abc123."""

    def put(names: Sequence[str] = ("a.png",), has_maps: bool = True, **changes: object) -> Path:
        row = make_row(cell="def456", method="cflow", command="bench run -m cflow", **changes)
        write_csv(results / row.dataset / "cflow.csv", [row])
        folder = results / "artifacts" / "def456"
        folder.mkdir(parents=True)
        shade = np.zeros((8, 8, 3), np.uint8)
        found: Any = np.eye(4) if has_maps else None
        panels = [Panel(name, shade, None, found, 3.0, 0, "good", SHARED) for name in names]
        save_panels(folder / "panels.npz", panels, None)
        return results

    return put


def test_several_cells_stand_side_by_side_on_the_images_that_all_keep(
    side_by_side: Callable[..., Path], tmp_path: Path
) -> None:
    results = side_by_side(("a.png", "b.png"))
    show(["abc"], tmp_path / "one.png", results)
    show(["abc", "def"], tmp_path / "two.png", results)
    with Image.open(tmp_path / "one.png") as one, Image.open(tmp_path / "two.png") as two:
        # image, truth, map and contour; image, truth and two maps, on one line each
        assert one.width == two.width
    show(["abc", "def", "abc"], None, results)  # the same cell again adds nothing
    assert (results / "artifacts" / "abc123" / "panels-def456.png").is_file()


def test_a_method_without_maps_has_an_empty_column(
    side_by_side: Callable[..., Path], tmp_path: Path
) -> None:
    show(["abc", "def"], tmp_path / "two.png", side_by_side(has_maps=False))
    assert (tmp_path / "two.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"category": "bolt"}, "category weave and bolt"),
        ({"dataset": "mtd"}, "data set synthetic and mtd"),
        ({"data": "other"}, "data feed and other"),
        ({"protocol_fields": {"resize": [128, 128]}}, "protocol's resize .* and 128 x 128"),
        ({"protocol_fields": {"crop": 224}}, "protocol's crop null and 224"),
    ],
)
def test_cells_of_other_images_are_refused(
    side_by_side: Callable[..., Path], changes: dict[str, object], why: str
) -> None:
    with pytest.raises(StoreError, match=f"not of the same images: {why}; choose cells"):
        show(["abc", "def"], None, side_by_side(**changes))


def test_of_several_cells_the_one_without_panels_says_how_to_make_them(
    side_by_side: Callable[..., Path],
) -> None:
    results = side_by_side()
    (results / "artifacts" / "def456" / "panels.npz").unlink()
    with pytest.raises(StoreError, match=r"def456 has a row but no .*again: bench run -m cflow"):
        show(["abc", "def"], None, results)


def test_cells_that_keep_no_common_image_say_how_to_make_them(
    side_by_side: Callable[..., Path],
) -> None:
    with pytest.raises(StoreError, match=r"no image is kept of all .* bench run -m padim .* && "):
        show(["abc", "def"], None, side_by_side(("b.png",)))


def test_an_unknown_cell_says_how_to_list_them(results: Path) -> None:
    with pytest.raises(StoreError, match=r"no cell 'ffff' among the 1 in .*bench status --cells"):
        show(["ffff"], None, results)


def test_a_cell_is_made_again_with_all_that_is_no_default(make_row: Callable[..., Row]) -> None:
    row = make_row(
        seed=1,
        protocol="quick",
        method_version=1,
        params={"dimensions": 9, "layers": [2, 3], "sigma": 4.0},
        dataset_params={"categories_only": "1", "size": 64},
        pretrained="random",
        precision="tf32",
        speed="brief (changed)",
        threads=2,
        n_leaked=3,
    )
    assert rerun(row, " --results r") == (
        "bench run -m padim -d synthetic -c weave --seed 1 --protocol quick "
        "--set padim.dimensions=9 --set 'padim.layers=[2, 3]' "
        "--set 'synthetic.categories_only=\"1\"' --set synthetic.size=64 --random-weights "
        "--precision tf32 --speed brief --threads 2 --allow-leaks --force --results r"
    )


def test_folders_of_pictures_are_named_without_their_digests(make_row: Callable[..., Row]) -> None:
    row = make_row(method="draem", params={"textures": "dtd@0123"}, auxiliary="textures=dtd@0123")
    assert "--set draem.textures=dtd --force" in rerun(row)
    assert "--weights FILE" in rerun(make_row(pretrained="file:0123"))


ROWS = Path(__file__).parents[3] / "results" / "baseline" / "synthetic"


@pytest.mark.parametrize("method", ["cflow", "differnet", "spade", "vae"])
def test_the_command_of_a_row_plans_its_cell(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path))
    row = read_csv(ROWS / f"{method}.csv")[0]
    found = CliRunner().invoke(app, [*shlex.split(rerun(row))[1:], "--dry-run"])
    assert found.exit_code == 0, found.output
    assert row.cell in found.output
    assert "1 cell, 1 to run" in found.output


def test_maps_from_elsewhere_cannot_be_made_again(make_row: Callable[..., Row]) -> None:
    assert rerun(make_row(kind="submitted", command="bench score maps")) == ""
