"""Training for keeps: one cell to its last epoch, as `bench run` trains it, without a test set."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bench.api import Method, MethodError
from bench.deploy.checkpoint import Model, TrainFigures, cannot_load
from bench.deploy.inference import image_scores, in_chunks
from bench.files.tensors import check_samples
from bench.run.context import (
    CellRun,
    choose_device,
    image_set,
    make_method,
    seed_everything,
)
from bench.run.training import check_training, epochs_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from bench.api import Dataset, Sample
    from bench.plan.cells import Cell
    from bench.weights.choice import Weights


@dataclass(frozen=True)
class Options:
    """What fitting needs beside the cell.

    Attributes:
        folders: of auxiliary pictures, by the field that names them.
    """

    weights: Weights
    device: str = "auto"
    loaders: int = 0
    batch: int = 8
    folders: Mapping[str, Path] = field(default_factory=dict)


def fit_model(
    cell: Cell, dataset: Dataset, options: Options, report: Callable[[str], None]
) -> Model:
    """Train one cell exactly as `bench run` does, to its last epoch; the test images are not read.

    Args:
        report: called with warnings, and with the figures of each epoch.

    Raises:
        BenchError: bad data, a method that cannot run, numbers that are not finite.
    """
    device = choose_device(options.device)
    seed_everything(cell.seed, cell.precision)
    method = make_method(cell)
    samples = list(dataset.samples(cell.category, "train"))
    check_training(cell, method, samples)
    for warning in check_samples(samples):
        report(warning)
    train = image_set(cell, method, samples, "train", device, workers=options.loaders)
    run = CellRun(cell, device, train.image_size, options.weights, options.folders)
    method.prepare(run)
    if warning := run.note_unrecorded(method):
        report(warning)
    epochs = 0
    for figures in epochs_of(method, train, run):
        epochs += 1
        text = ", ".join(f"{key} {float(value):.4g}" for key, value in figures.items())
        report(f"epoch {epochs}{': ' if text else ''}{text}")
    figures_of_training = _figures(cell, method, run, samples, options.batch)
    bits = max(sample.bits for sample in samples)
    model = Model(cell, method, run, epochs, figures_of_training, bits=bits)
    if problem := cannot_load(model, next(iter(train.batches(2)))):
        raise MethodError(f"{cell.method}: {problem}")
    return model


def _figures(
    cell: Cell, method: Method, run: CellRun, samples: Sequence[Sample], batch: int
) -> TrainFigures | None:
    if method.is_transductive:
        return None
    model = Model(cell, method, run, 0, None)
    score_max = -math.inf
    lows, highs = [], []
    for _, prediction in in_chunks(model, samples, batch):
        score_max = max(score_max, float(image_scores(model, prediction).max()))
        if prediction.maps is not None:
            lows.append(float(prediction.maps.min()))
            highs.append(float(prediction.maps.max()))
    return TrainFigures(len(samples), score_max, min(lows, default=None), max(highs, default=None))
