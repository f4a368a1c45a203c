"""Each method on a second device: the same predictions as on the CPU, and the same twice.

Marked `gpu`: the second device is CUDA. One method runs with the CPU in its place, so that these
tests cannot rot where no GPU is.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from bench.api import Sample
from bench.deploy.checkpoint import load_model, save_model
from bench.deploy.fitting import Options, fit_model
from bench.deploy.inference import in_chunks
from bench.plan import discovery
from bench.plan.request import Request, plan_request
from bench.rows.column import FOUND
from bench.rows.row import columns
from bench.run.driver import make_jobs
from bench.run.in_process import InProcessExecutor
from bench.run.job import Done
from bench.settings.config import load_settings
from bench.weights.choice import Weights

if TYPE_CHECKING:
    from pathlib import Path

    from bench.api import Dataset
    from bench.deploy.checkpoint import Model
    from bench.plan.cells import Cell
    from bench.settings.config import Settings

METHODS = sorted(discovery.sources("methods"))
CUDA = [pytest.param(name, "cuda", marks=pytest.mark.gpu) for name in METHODS]
PREDICTED = 1e-3
"""Of the range of the maps (or scores): one state on two devices, convolutions in another order."""
TRAINED = 0.1
"""Likewise for two trainings, whose rounding grows from step to step."""
METHOD_OF_THE_CPU = "padim"


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """The preset of the gate: seconds for each method."""
    shipped = load_settings(preset="gate")
    folder: Path = tmp_path_factory.mktemp("gpu")
    return replace(
        shipped,
        paths=replace(shipped.paths, cache=folder / "cache", results=folder / "results"),
        run=replace(shipped.run, weights="random", threads=1),
    )


def planned(settings: Settings, method: str) -> tuple[Cell, Dataset]:
    request = Request(methods=[method], datasets=["synthetic"], categories=["weave"])
    (part,) = plan_request(settings, request)
    part.dataset.prepare(["weave"])
    return part.cells[0], part.dataset


def fitted(settings: Settings, method: str, device: str) -> Model:
    cell, dataset = planned(settings, method)
    return fit_model(cell, dataset, Options(Weights("random"), device=device), lambda _: None)


def predicted(model: Model, dataset: Dataset) -> torch.Tensor:
    """Maps of the test images, or scores where the method gives no maps, on the CPU."""
    samples = [Sample(s.image, 0, "") for s in dataset.samples("weave", "test")[:8]]
    found = [p.maps if p.maps is not None else p.scores for _, p in in_chunks(model, samples, 4)]
    return torch.cat([part for part in found if part is not None]).float().cpu()


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    """Largest difference, as a share of the range of `a`."""
    return float((a - b).abs().max() / (a.max() - a.min()))


@pytest.mark.parametrize(("method", "device"), [(METHOD_OF_THE_CPU, "cpu"), *CUDA])
def test_a_state_fitted_on_the_cpu_predicts_the_same_on_a_device(
    settings: Settings, method: str, device: str, tmp_path: Path
) -> None:
    model = fitted(settings, method, "cpu")
    _, dataset = planned(settings, method)
    save_model(tmp_path, model)
    moved = load_model(tmp_path, device)
    assert moved.run.device.type == device
    assert distance(predicted(model, dataset), predicted(moved, dataset)) <= PREDICTED


@pytest.mark.parametrize(("method", "device"), [(METHOD_OF_THE_CPU, "cpu"), *CUDA])
def test_a_training_on_a_device_comes_near_that_on_the_cpu(
    settings: Settings, method: str, device: str
) -> None:
    _, dataset = planned(settings, method)
    ours, theirs = (predicted(fitted(settings, method, d), dataset) for d in ("cpu", device))
    assert theirs.isfinite().all()
    assert distance(ours, theirs) <= TRAINED


@pytest.mark.parametrize(("method", "device"), [(METHOD_OF_THE_CPU, "cpu"), *CUDA])
def test_the_same_cell_twice_on_a_device_has_the_same_scores(
    settings: Settings, method: str, device: str
) -> None:
    settings = replace(settings, run=replace(settings.run, device=device))
    request = Request(methods=[method], datasets=["synthetic"], categories=["weave"])
    plan = plan_request(settings, request)
    plan[0].dataset.prepare(["weave"])
    (job,) = make_jobs(settings, request, plan, {plan[0].cells[0].id})
    first, again = InProcessExecutor().map([job, job])
    assert isinstance(first, Done)
    assert isinstance(again, Done)
    assert first.environment["device"].startswith("CPU") == (device == "cpu")
    for column in columns(*FOUND):
        assert getattr(first.row, column) == getattr(again.row, column), column


SAVING: dict[str, str] = {"pyramidflow": "save_memory"}
"""Fields that trade time for memory and change no number."""


@pytest.fixture(
    params=[
        ("pyramidflow", "cpu"),
        *[pytest.param((m, "cuda"), marks=pytest.mark.gpu) for m in SAVING],
    ]
)
def saving(request: pytest.FixtureRequest) -> tuple[str, str]:
    return request.param  # type: ignore[no-any-return]


def test_training_that_saves_memory_agrees_with_plain_training(
    settings: Settings, saving: tuple[str, str]
) -> None:
    method, device = saving
    maps = []
    for choice in (True, False):
        fields: dict[str, Any] = {**settings.methods[method], SAVING[method]: choice}
        chosen = replace(settings, methods={**settings.methods, method: fields})
        _, dataset = planned(chosen, method)
        maps.append(predicted(fitted(chosen, method, device), dataset))
    assert distance(*maps) <= PREDICTED
