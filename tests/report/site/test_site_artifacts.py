"""Curves, losses and test images on the pages, and what stands there without them."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from bench.evaluate.curves import Curve, save_curves
from bench.report.site import build_site, load_site_data
from bench.rows.panels import Panel, save_panels
from tests.report.site.elements import Page

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from bench.rows.row import Row

    WriteResults = Callable[[Path, Sequence[Row]], Path]


def test_curves_losses_and_panels_of_a_cell_are_shown(
    tmp_path: Path, site_row: Callable[..., Row], write_results: WriteResults
) -> None:
    row = site_row()
    results = write_results(tmp_path / "r", [row])
    artifacts = results / "artifacts" / row.cell
    artifacts.mkdir(parents=True)
    curve = Curve(np.array([0.0, 1.0]), np.array([0.0, 1.0]), 0.0)
    save_curves(artifacts / "curves.npz", {"pro": curve})
    (artifacts / "history.json").write_text('[{"loss": 2.5}, {"loss": 1.25}]')
    zeros = np.zeros((8, 8))
    panel = Panel("a.png", np.zeros((8, 8, 3), np.uint8), zeros, zeros, 0.5, 1, "hole", "lowest")
    save_panels(artifacts / "panels.npz", [panel], 0.5)
    told: list[str] = []
    build_site(load_site_data([results]), tmp_path / "out", report=told.append)
    assert f"test images of {row.method} on {row.dataset}/{row.category}" in told
    page = Page(tmp_path / "out" / "methods" / "padim.html")
    titles = [e.attributes["aria-label"] for e in page.all("svg")]
    assert [t.split(" of ")[0] for t in titles] == ["Per-region overlap", "Training loss"]
    assert "from 1.25 to 2.5" in titles[1]
    image = page.all("img")[0].attributes
    assert (page.file.parent / image["src"]).resolve().is_file()
    assert "failures first" in image["alt"]
    build_site(load_site_data([results]), tmp_path / "out", galleries=False)
    assert not list((tmp_path / "out").rglob("images/*"))


def test_a_gallery_is_drawn_again_only_where_what_it_shows_has_changed(
    tmp_path: Path, site_row: Callable[..., Row], write_results: WriteResults
) -> None:
    row = site_row()
    artifacts = tmp_path / "r" / "artifacts" / row.cell
    artifacts.mkdir(parents=True)
    zeros = np.zeros((8, 8))
    panel = Panel("a.png", np.zeros((8, 8, 3), np.uint8), zeros, zeros, 0.5, 1, "hole", "lowest")
    picture = tmp_path / "out" / "images" / f"{row.cell}.webp"

    def drawn(row: Row, *panels: Panel) -> int:
        save_panels(artifacts / "panels.npz", panels, 0.5)
        results = write_results(tmp_path / "r", [row])
        build_site(load_site_data([results]), tmp_path / "out")
        assert 'width="' in (tmp_path / "out" / "methods" / "padim.html").read_text("utf-8")
        return picture.stat().st_mtime_ns

    first = drawn(row, panel)
    assert drawn(row, panel) == first
    other_panels = drawn(row, panel, panel)
    assert other_panels > first
    other_texts = drawn(replace(row, image_auroc=0.1), panel, panel)
    assert other_texts > other_panels
    picture.write_bytes(b"no picture")
    assert drawn(row, panel) > other_texts
    assert len(picture.read_bytes()) > 1000


def test_images_that_show_people_are_never_drawn(
    tmp_path: Path, site_row: Callable[..., Row], write_results: WriteResults
) -> None:
    row = site_row(dataset="stc", category="01")
    results = write_results(tmp_path / "r", [row])
    artifacts = results / "artifacts" / row.cell
    artifacts.mkdir(parents=True)
    zeros = np.zeros((8, 8))
    panel = Panel("a.png", np.zeros((8, 8, 3), np.uint8), zeros, zeros, 0.5, 1, "hole", "lowest")
    save_panels(artifacts / "panels.npz", [panel], 0.5)
    build_site(load_site_data([results]), tmp_path / "out")
    assert not list((tmp_path / "out").rglob("images/*"))
    page = (tmp_path / "out" / "methods" / "padim.html").read_text(encoding="utf-8")
    assert "Test images show people: personal data, never shown here" in page


def test_a_damaged_artifact_is_named_and_the_site_is_whole(
    tmp_path: Path, site_row: Callable[..., Row], write_results: WriteResults
) -> None:
    rows = [site_row(command="bench run -m padim"), site_row(method="cflow")]
    results = write_results(tmp_path / "r", rows)
    for name in ("curves.npz", "history.json", "panels.npz"):
        artifacts = results / "artifacts" / rows[0].cell
        artifacts.mkdir(parents=True, exist_ok=True)
        (artifacts / name).write_bytes(b"PK\x03\x04 cut off")
    out = tmp_path / "out"
    command = ["bench", "site", "--out", str(out), "--results", str(results)]
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            f"import sys; sys.argv = {command!r}; from bench.cli import main; main()",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert [name for name in ("curves.npz", "history.json", "panels.npz") if name in done.stderr]
    assert len(done.stderr.splitlines()) == 3
    assert (out / "index.html").is_file()
    assert (out / "methods" / "cflow.html").is_file()
    page = Page(out / "methods" / "padim.html")
    warnings = page.texts("p", "warn")
    assert [w.split()[0] for w in warnings] == [
        f"artifacts/{rows[0].cell}/{name}" for name in ("curves.npz", "history.json", "panels.npz")
    ]
    assert not list(out.rglob("*.webp"))


def test_what_has_no_pictures_says_which_command_makes_them(
    tmp_path: Path, site_row: Callable[..., Row], write_results: WriteResults
) -> None:
    rows = [site_row(), site_row(method="maps", kind="submitted")]
    data = load_site_data([write_results(tmp_path / "r", rows)])
    build_site(data, tmp_path / "out")
    methods = tmp_path / "out" / "methods"
    (text,) = Page(methods / "padim.html").texts("p", "small")
    assert text.startswith("No curves or test images lie among the results")
    again = "bench run -m padim -d mvtec -c carpet --seed 0 --protocol standard --force"
    assert f"{again} makes them again" in text
    assert Page(methods / "maps.html").texts("p", "small") == [
        "Submitted maps come without curves and test images."
    ]
    build_site(data, tmp_path / "out", galleries=False)
    texts = Page(methods / "padim.html").texts("p", "small")
    assert texts[0].startswith("No curves lie among")
    assert texts[1] == "Test images are left out of this site (--no-galleries)."


def test_curves_without_panels_say_how_to_make_the_test_images(
    tmp_path: Path, site_row: Callable[..., Row], write_results: WriteResults
) -> None:
    row = site_row()
    results = write_results(tmp_path / "r", [row])
    artifacts = results / "artifacts" / row.cell
    artifacts.mkdir(parents=True)
    (artifacts / "history.json").write_text('[{"loss": 2.5}, {"loss": 1.25}]')
    build_site(load_site_data([results]), tmp_path / "out")
    (text,) = Page(tmp_path / "out" / "methods" / "padim.html").texts("p", "small")
    assert text.startswith("No test images lie among")
    again = "bench run -m padim -d mvtec -c carpet --seed 0 --protocol standard --force"
    assert text.endswith(f"{again} makes them again.")


def test_progress_is_shown_on_a_terminal_alone(
    tmp_path: Path, site_row: Callable[..., Row], write_results: WriteResults
) -> None:
    results = write_results(tmp_path / "r", [site_row()])
    command = ["bench", "site", "--out", str(tmp_path / "out"), "--results", str(results)]
    program = f"import sys; sys.argv = {command!r}; from bench.cli import main; main()"
    plain = {k: v for k, v in os.environ.items() if k not in ("FORCE_COLOR", "TTY_COMPATIBLE")}
    for environment, is_shown in ((plain, False), ({**plain, "FORCE_COLOR": "1"}, True)):
        done = subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            check=True,
            env=environment,
        )
        assert ("reading rows" in done.stderr) == is_shown
        assert "pages from 1 row" in done.stdout
