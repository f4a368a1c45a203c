"""Methods that score images without maps, or with maps that say no more, from end to end."""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from bench.report.choice.marks import marks
from bench.rows.panels import epoch_note, load_panels
from bench.rows.store import ResultStore

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    from bench.rows.row import Row

    Bench = Callable[..., subprocess.CompletedProcess[str]]

METHOD = '''"""The highest distance to the mean image, {summary}."""
from __future__ import annotations

from dataclasses import dataclass

import torch

from bench.api import Method, Prediction


@dataclass
class Highest(Method):
    gradients: bool = False

    @property
    def needs_gradients(self):
        return self.gradients

    def fit(self, train, run):
        rest, held = train.hold_out(0.3, "validation")
        self.mean = sum(x.sum(0) for x in rest.batches(4)) / len(rest)
        self.limit = max(self.distances(x).max() for x in held.batches(4))
        yield {{}}

    def distances(self, images):
        return (images - self.mean).abs().mean(1).amax((1, 2)) - getattr(self, "limit", 0)

    def predict(self, images):
        if self.gradients:
            images = images.clone().requires_grad_()
            (slope,) = torch.autograd.grad(self.distances(images).sum(), images)
            images = (images - 0 * slope).detach()
        scores = self.distances(images)
        return Prediction({maps}, scores)
'''
QUICK = ("-d", "tiny", "-c", "left", "--device", "cpu", "--threads", "1")
PIXEL = ("pixel_auroc", "pixel_ap", "pixel_f1max", "aupro_05", "aupro_30", "aupro_100", "aupimo")


@pytest.fixture
def only(project: Path) -> Path:
    """The project, with `only` (scores alone) and `flat` (the score in every pixel)."""
    texts = {
        "only": METHOD.format(summary="as a score", maps="None"),
        "flat": METHOD.format(
            summary="in every pixel", maps="scores[:, None, None].expand(-1, 8, 8)"
        ),
    }
    for name, text in texts.items():
        (project / "methods" / f"{name}.py").write_text(text, encoding="utf-8")
    return project


def rows(project: Path) -> list[Row]:
    return ResultStore(project / "results").rows()


@pytest.mark.slow
def test_metrics_without_maps_and_of_flat_maps_are_told_everywhere(
    only: Path, bench: Bench
) -> None:
    done = bench("run", "-m", "only,flat,mean", *QUICK)
    assert done.returncode == 0, done.stderr
    assert "left: pixel AUROC and AUPRO 0.3 n/a: the method gives no maps" in done.stdout
    assert "flat tiny/left seed 0: maps are constant within every image" in done.stdout
    row, flat, _ = (next(r for r in rows(only) if r.method == m) for m in ("only", "flat", "mean"))
    reasons = row.undefined
    assert {getattr(row, name) for name in PIXEL} == {None}
    assert {reasons[name] for name in PIXEL} == {"the method gives no maps"}
    assert (row.image_auroc, row.maps, row.n_train, row.n_held_out) == (1.0, "none", 6, 2)
    assert (flat.maps, flat.image_auroc) == ("constant", 1.0)
    assert flat.pixel_auroc is not None
    assert "○" in marks(row)
    assert "●" in marks(flat)
    assert row.fps is not None
    panels, threshold = load_panels(only / "results" / "artifacts" / row.cell / "panels.npz")
    assert threshold is None
    assert {panel.map for panel in panels} == {None}
    assert epoch_note(panels).startswith(", scores of epoch")
    assert bench("show", row.cell, "--out", "shown.png").returncode == 0
    assert (only / "shown.png").stat().st_size > 1000
    compared = bench("compare", "-m", "only,mean", "--metric", "pixel_auroc")
    assert "only left out: has no such value: the method gives no maps" in compared.stdout
    assert bench("site", "--out", "site").returncode == 0
    assert any("gives no maps" in page.read_text() for page in (only / "site").rglob("*.html"))
    same = bench("check", "--baseline", "results", "--results", "results")
    assert same.returncode == 0, same.stdout + same.stderr
    assert "only gives no maps" in bench("export", "--out", "out", "--cell", row.cell).stderr
    _submit(only, bench, row)


def _submit(project: Path, bench: Bench, row: Row) -> None:
    """The row's image scores, handed in without maps, give its image metrics again."""
    with np.load(project / "results" / "artifacts" / row.cell / "scores.npz") as kept:
        lines = [
            f"test/{defect}/{name.rsplit('/')[-1].removesuffix('.png')},{score!r}"
            for name, defect, score in zip(
                kept["names"], kept["defects"], kept["scores"].tolist(), strict=True
            )
        ]
    file = project / "theirs" / "left" / "scores.csv"
    file.parent.mkdir(parents=True)
    file.write_text("\n".join(["file,score", *lines]) + "\n")
    scored = bench("score", "theirs", "-d", "tiny", "-c", "left")
    assert scored.returncode == 0, scored.stderr
    assert "left: no maps; the image scores of scores.csv alone are scored" in scored.stderr
    (submitted,) = (r for r in rows(project) if r.kind == "submitted")
    assert (submitted.image_auroc, submitted.maps) == (row.image_auroc, "none")
    assert submitted.undefined == row.undefined


@pytest.mark.slow
def test_a_method_that_differentiates_runs_is_tested_saved_and_loaded(
    only: Path, bench: Bench
) -> None:
    gradients = ("--set", "gradients=true")
    done = bench("run", "-m", "only", *QUICK, *gradients)
    assert done.returncode == 0, done.stdout + done.stderr
    (row,) = rows(only)
    assert row.image_auroc == 1.0
    assert row.fps is not None
    assert bench("test-plugin", "only").returncode == 0
    fitted = bench("fit", "-m", "only", *QUICK, *gradients, "--out", "model")
    assert fitted.returncode == 0, fitted.stderr
    assert json.loads((only / "model" / "model.json").read_text())["train"]["map_max"] is None
    image = next((only / ".cache").rglob("test/spot/*.png"))
    done = bench("predict", "--model", "model", str(image), "--out", "maps")
    assert done.returncode == 0, done.stderr
    assert "note: only gives no maps; --out maps holds none" in done.stderr
    (line,) = csv.DictReader(io.StringIO(done.stdout))
    assert line["above_training"] == "1"
