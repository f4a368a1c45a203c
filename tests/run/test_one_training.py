"""Cells that differ in what is done after prediction alone: one training, a row for each."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from rich.console import Console

from bench.plan.discovery import plugin_path
from bench.plan.request import Request
from bench.plugins import methods
from bench.rows.column import FOUND
from bench.rows.row import columns
from bench.rows.store import ResultStore
from bench.run.driver import run_request
from bench.settings.config import load_settings
from tests.run.briefly import BRIEFLY

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bench.rows.row import Row
    from bench.run.driver import Result

    Run = Callable[..., Result]

SETTINGS = f"""
[run]
speed = 'one'
device = 'cpu'
executor = 'in-process'
threads = 1
[protocols.small]
resize = [32, 32]
[protocols.native]
resize = [32, 32]
mask_size = 'native'
[protocols.top]
resize = [32, 32]
image_score = 'max'
mask_resample = 'touched'
published = ['aupro_pyramidflow']
[protocols.unknown]
resize = [32, 32]
published = ['aupro_nowhere']
[protocols.larger]
resize = [48, 48]
[protocols.best]
resize = [32, 32]
epoch = 'oracle'
{BRIEFLY}"""
NOISY = '''"""The mean of the training images, with noise; each training leaves a line in a file."""
import os
from dataclasses import dataclass
from pathlib import Path

import torch

from bench.api import Method, Prediction


@dataclass
class Noisy(Method):
    transductive: bool = False

    @property
    def is_transductive(self):
        return self.transductive

    def fit(self, train, run):
        with Path(os.environ["BENCH_PROJECT"], "trainings").open("a") as stream:
            stream.write("x")
        self.mean = sum(x.sum(0) for x in train.batches(2)) / len(train)
        self.mean = self.mean + 0.1 * torch.rand(self.mean.shape)
        yield {"loss": 1.0}

    def predict(self, images):
        distance = (images - self.mean).abs().mean(1)
        return Prediction(distance, distance.mean((1, 2)))
'''


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "methods").mkdir()
    (tmp_path / "methods" / "noisy.py").write_text(NOISY, encoding="utf-8")
    (tmp_path / "bench.toml").write_text(SETTINGS, encoding="utf-8")
    monkeypatch.setenv("BENCH_PROJECT", str(tmp_path))
    # The folder of the project that this process first imported a method from stays otherwise.
    monkeypatch.setattr(methods, "__path__", plugin_path("methods", []))
    return tmp_path


@pytest.fixture
def run(project: Path) -> Run:
    """`run("small,native", results="a", budget=1000, **request)` in this process."""

    def call(protocols: str, results: str, budget: float = 1000, **changes: Any) -> Result:
        settings = load_settings(project)
        settings = replace(
            settings,
            run=replace(settings.run, map_budget_mb=budget),
            paths=replace(settings.paths, results=project / results),
        )
        named = protocols.split(",")
        request = Request(["noisy"], ["synthetic"], ["weave"], protocols=named, **changes)
        return run_request(settings, request, Console(file=io.StringIO()))

    return call


def trainings(project: Path) -> int:
    file = project / "trainings"
    return len(file.read_text()) if file.exists() else 0


def by_protocol(project: Path, results: str) -> dict[str, Row]:
    return {row.protocol: row for row in ResultStore(project / results).rows()}


def assert_same(project: Path, one: tuple[str, Row], other: tuple[str, Row]) -> None:
    """All that was found is equal, and so are image scores, curves and maps beside the row."""
    for name in (*columns("identity", "setting", *FOUND), "gflops", "params_m", "state_mb"):
        assert getattr(one[1], name) == getattr(other[1], name), name
    folders = [project / place / "artifacts" / row.cell for place, row in (one, other)]
    files = [
        sorted(f.relative_to(folder) for f in folder.rglob("*") if f.is_file())
        for folder in folders
    ]
    assert files[0] == files[1]
    for file in files[0]:
        ours, theirs = (folder / file for folder in folders)
        if file.suffix == ".npz":
            a, b = np.load(ours), np.load(theirs)
            assert all(np.array_equal(a[key], b[key]) for key in a.files), file
        else:
            assert ours.read_bytes() == theirs.read_bytes(), file


@pytest.mark.parametrize("budget", [1000, 0.01, 0.02], ids=["inside", "beyond", "native beyond"])
def test_rows_of_one_training_are_those_of_a_training_each(
    project: Path, run: Run, budget: float
) -> None:
    protocols = ("small", "native", "top")
    options: dict[str, Any] = {"budget": budget, "save_maps": True, "keep_maps": True}
    together = run(",".join(protocols), "together", **options)
    assert not together.failures
    assert trainings(project) == 1
    for name in protocols:
        run(name, name, **options)
    assert trainings(project) == 4
    found = by_protocol(project, "together")
    assert set(found) == set(protocols)
    for name in protocols:
        assert_same(project, ("together", found[name]), (name, by_protocol(project, name)[name]))
    first, *others = together.rows
    assert first.trained_with == ""
    assert [row.trained_with for row in others] == [first.cell] * 2
    assert {row.fit_s for row in together.rows} == {first.fit_s}


def test_predictions_of_the_whole_test_set_are_shared_beyond_the_budget_too(
    project: Path, run: Run
) -> None:
    result = run("small,native", "together", budget=0.01, overrides={"transductive": True})
    assert [row.evaluator for row in result.rows] == ["spooled"] * 2
    assert [row.transductive for row in result.rows] == [True] * 2
    assert trainings(project) == 1


def test_cells_whose_images_or_epochs_differ_have_a_training_each(project: Path, run: Run) -> None:
    result = run("small,larger,best", "results")
    assert [row.trained_with for row in result.rows] == [""] * 3
    assert trainings(project) == 3


def test_a_rerun_trains_once_for_the_rows_that_are_missing(project: Path, run: Run) -> None:
    run("small", "results")
    before = by_protocol(project, "results")["small"]
    result = run("small,native,top", "results")
    assert (result.skipped, trainings(project)) == (1, 2)
    found = by_protocol(project, "results")
    assert found["small"] == before
    assert (found["native"].trained_with, found["top"].trained_with) == ("", found["native"].cell)
    run("small,native,top", "results")
    assert trainings(project) == 2


def test_a_cell_that_cannot_be_scored_leaves_the_others_their_rows(project: Path, run: Run) -> None:
    result = run("unknown,small,native", "results")
    (failure,) = result.failures
    assert "unknown published metric 'aupro_nowhere'" in failure.cause
    log = project / "results" / "failures" / f"{failure.job.cell.id}.txt"
    assert log.read_text().startswith("noisy synthetic/weave seed 0, unknown\n")
    found = by_protocol(project, "results")
    assert set(found) == {"small", "native"}
    # The training is counted where there is a row.
    assert (found["small"].trained_with, found["native"].trained_with) == ("", found["small"].cell)
    assert trainings(project) == 1
    assert not list((project / "results" / "artifacts").glob("*.part"))
