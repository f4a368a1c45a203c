"""One cell from files to a row: load, fit, predict, evaluate, profile."""

from __future__ import annotations

import importlib
import math
from datetime import datetime, timezone
from itertools import cycle, islice
from typing import TYPE_CHECKING, Any

import torch

from bench.errors import DataError, counted
from bench.files.manifest import find_shared_groups
from bench.files.tensors import ImageSet, checked, load_masks
from bench.files.twins import contradiction, find_contradictions, find_leaks
from bench.plan import discovery
from bench.plan.auxiliary import picture_fields
from bench.profile import FitMeter, profile
from bench.rows import provenance
from bench.rows.row import DEGENERATE, Row
from bench.rows.row_values import CACHED
from bench.run.artifacts import save_artifacts
from bench.run.context import (
    CellRun,
    choose_device,
    image_set,
    make_method,
    method_size,
    seed_everything,
)
from bench.run.feature_cache import open_cache
from bench.run.kept_maps import keep_maps
from bench.run.loading_back import left_out
from bench.run.scoring import (
    CellTest,
    Epochs,
    Scored,
    score,
    score_columns,
    suspicions,
    too_large,
)
from bench.run.training import check_training, epochs_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from torch import nn

    from bench.api import Dataset, Method, Sample
    from bench.plan.cells import Cell
    from bench.run.job import Job

    Report = Callable[[Mapping[str, Any]], None]

PROFILED_IMAGES = 32
"""Test images that the speed measurement cycles through; more only cost memory."""
PROFILED_BYTES = 512 * 10**6
"""What they may take as tensors; images of more than 1.3 million pixels are fewer."""


def run_cell(job: Job, report: Report) -> tuple[Row, dict[str, str]]:
    """Run one cell.

    Args:
        job: the cell, with what it needs on this machine.
        report: called with progress events: {"phase": ...} and {"epoch": ..., figures}.

    Returns:
        the row, and the environment that its `env` column is the key of.

    Raises:
        BenchError: bad data, a method that cannot run, numbers that are not finite.
    """
    started = datetime.now(timezone.utc)
    cell = job.cell
    device = choose_device(job.device)
    torch.set_num_threads(max(1, job.threads))
    seed_everything(cell.seed, cell.precision)
    report({"phase": "reading"})
    method = make_method(cell)
    train, test = read_category(job, method, device, report)
    features = open_cache(
        job.cache, job.feature_cache_mb, device, lambda text: report({"warning": text})
    )
    run = CellRun(cell, device, train.image_size, job.weights, job.auxiliary, features)
    _load_libraries(cell)
    meter = FitMeter(device)
    epochs, history = fit(job, method, run, meter, train, test, report)
    if epochs.shown.kind == "constant":
        text = "maps are constant within every image: pixel metrics only repeat the image scores"
        report({"warning": f"{text}; a method without maps returns Prediction(None, scores)"})
    if DEGENERATE in suspicions(epochs.scored[-1].evaluation):
        report({"warning": "degenerate: all pixel scores are equal; the row is marked"})
    report({"phase": "profiling"})
    complexity = _costs(job, method, run, meter, test)
    if objects := left_out(method):
        text = f"{', '.join(objects)} is no tensor: state_mb cannot count it and stays empty"
        report({"warning": f"{text}, and bench fit refuses it; override state and load_state"})
        complexity |= {"state_mb": None, "state_fitted_mb": None}
    save_artifacts(job.artifacts, test, epochs, history, job.save_maps)
    if job.keep_maps:
        _keep_maps(job, test, epochs.shown, report)
    environment = provenance.environment(_packages(cell)) | _device_facts(device)
    row = Row.of(
        cell,
        environment,
        **score_columns(cell, method, epochs.scored, history, train, test),
        **complexity,
        weights=", ".join(dict.fromkeys(run.identities)) or "none",
        auxiliary=_auxiliary(cell),
        weights_source=_joined(run.backbones, "source"),
        weights_statistics=_joined(run.backbones, "statistics"),
        code=job.code,
        commit=job.commit,
        device=environment["device"],
        threads=torch.get_num_threads(),
        command=job.command,
        started=started.isoformat(timespec="seconds"),
    )
    return row, environment


def _keep_maps(job: Job, test: CellTest, shown: Scored, report: Report) -> None:
    if shown.maps is None:
        report({"warning": f"{job.cell.method} gives no maps; there are none to keep"})
        return
    masks, scores = test.masks.masks, shown.scores.numpy()
    keep_maps(job.artifacts, shown.maps, masks, test.labels, scores, test.names)


def _packages(cell: Cell) -> list[tuple[str, str] | None]:
    """Of the cell's method and data set: the installed packages that offer them."""
    names: tuple[tuple[discovery.Kind, str], ...]
    names = (("methods", cell.method), ("datasets", cell.dataset))
    return [discovery.describe(kind, name).package for kind, name in names]


def read_category(
    job: Job, method: Method, device: torch.device, report: Report
) -> tuple[ImageSet, CellTest]:
    """The training images, and the test half with its masks; every file is checked first.

    Raises:
        DataError: unreadable files, an empty or mixed split, too few training images.
    """
    cell, protocol = job.cell, job.cell.protocol
    plugin = discovery.describe("datasets", cell.dataset)
    dataset: Dataset = discovery.make(plugin, cell.dataset_params, root=job.root)
    train = list(dataset.samples(cell.category, "train"))
    test = list(dataset.samples(cell.category, "test"))
    check_training(cell, method, train)
    _check_test(cell, train, test)
    found = checked([*train, *test], job.cache)
    leaks = _check_twins(job, train, test, found.pixels)
    for finding in found.findings:
        report({"warning": finding.text})
    train_images = image_set(cell, method, train, "train", device, workers=job.loaders)
    test_images = image_set(cell, method, test, "test", device, workers=job.loaders)
    if test_images.image_size != train_images.image_size:
        raise DataError(
            f"{cell.dataset}/{cell.category}: training images become {train_images.image_size}, "
            f"test images {test_images.image_size}; use a protocol with a fixed (height, width)"
        )
    half = CellTest(
        samples=test,
        images=test_images,
        masks=load_masks(test, protocol, test_images.image_size, method_size(method)),
        labels=[s.label for s in test],
        names=[_name(s.image, dataset.root) for s in test],
        leaked=leaks,
        budget_mb=job.map_budget_mb,
    )
    if half.is_large:
        report({"warning": too_large(half, method)})
    return train_images, half


def fit(
    job: Job,
    method: Method,
    run: CellRun,
    meter: FitMeter,
    train: ImageSet,
    test: CellTest,
    report: Report,
) -> tuple[Epochs, list[dict[str, float]]]:
    """Train; score the last epoch, or each one where the protocol chooses among them.

    Returns:
        the scored epochs, and the figures of every epoch.
    """
    protocol = job.cell.protocol
    history: list[dict[str, float]] = []
    scored = Epochs(protocol)
    report({"phase": "fitting"})
    with meter:
        method.prepare(run)
        if warning := run.note_unrecorded(method):
            report({"warning": warning})
        meter.begin()
        for figures in epochs_of(method, train, run):
            history.append({k: float(v) for k, v in figures.items()})
            meter.images(len(train) - len(train.held_out))
            report({"epoch": len(history), "epochs": method.epochs, **history[-1]})
            _warn_not_finite(history, report)
            if protocol.is_oracle:
                with meter.paused():
                    scored.add(score(method, test, protocol, job.batch, len(history)))
    if not scored.scored:
        report({"phase": "scoring"})
        scored.add(score(method, test, protocol, job.batch, len(history)))
    return scored, history


def _warn_not_finite(history: Sequence[Mapping[str, float]], report: Report) -> None:
    """Say once, at the first epoch that has such a figure, which is not finite."""
    epochs = [{k: v for k, v in f.items() if not math.isfinite(v)} for f in history]
    if epochs[-1] and not any(epochs[:-1]):
        told = ", ".join(f"{name} is {value}" for name, value in epochs[-1].items())
        report({"warning": f"{told} in epoch {len(history)}; the row is marked"})


def _check_test(cell: Cell, train: Sequence[Sample], test: Sequence[Sample]) -> None:
    place = f"{cell.dataset}/{cell.category}"
    if not test:
        raise DataError(f"{place}: no test image")
    both = find_shared_groups(train, test)
    if both:
        raise DataError(f"{place}: {len(both)} parts are in both splits, first {both[0]}")


def _check_twins(
    job: Job, train: Sequence[Sample], test: Sequence[Sample], pixels: Mapping[Path, str]
) -> int:
    """How many test images hold the pixels of a training image; refused unless allowed.

    Raises:
        DataError: such images, or test images of equal pixels under two labels.
    """
    place = f"{job.cell.dataset}/{job.cell.category}"
    if pairs := find_contradictions(test, pixels):
        raise DataError(f"{place}: {contradiction(pairs)}")
    leaks = find_leaks(train, test, pixels)
    if leaks and not job.allow_leaks:
        twin, image = leaks[0]
        raise DataError(
            f"{place}: {counted(len(leaks), 'test image')} in the training images too, first "
            f"{image} = {twin}; remove them, or say --allow-leaks to run and count them"
        )
    return len(leaks)


def _name(image: Path, root: Path) -> str:
    return image.relative_to(root).as_posix() if image.is_relative_to(root) else image.name


def _load_libraries(cell: Cell) -> None:
    """Import now what is imported on first use, so that no method's memory is charged for it."""
    torch.compiler.reset()  # loads the compiler, as optimisers and the FLOP counter do
    if cell.pretrained != "none":
        importlib.import_module("timm")


def _auxiliary(cell: Cell) -> str:
    """Which pictures each field that may name a folder of them stands for."""
    fields = picture_fields(discovery.describe("methods", cell.method))
    return ", ".join(f"{name}={cell.params[name] or 'none'}" for name in fields)


def _joined(backbones: Sequence[nn.Module], name: str) -> str:
    """An attribute of all backbones, each value once."""
    return ", ".join(dict.fromkeys(text for b in backbones if (text := getattr(b, name, ""))))


def _costs(
    job: Job, method: Method, run: CellRun, meter: FitMeter, test: CellTest
) -> dict[str, Any]:
    """The columns of cost; those of training are empty where the feature cache had a part in it."""
    training: dict[str, Any] = meter.columns()
    if run.features is not None:
        run.features.close()
        if run.features.in_training:
            training = {k: None if k.startswith("fit_") else v for k, v in training.items()}
            training["features"] = CACHED
    return training | _profile(job, method, run, meter, test)


def _profile(
    job: Job, method: Method, run: CellRun, meter: FitMeter, test: CellTest
) -> dict[str, Any]:
    height, width = test.images.image_size
    count = min(len(test.images), PROFILED_IMAGES, max(1, PROFILED_BYTES // (12 * height * width)))
    # One batch more than needed is never read: the generator is lazy.
    size = min(job.batch, count)
    batches = islice(test.images.batches(size), -(-count // size))
    images = torch.cat([batch.cpu() for batch in batches])[:count]
    # In turn, so that no cache of the system decides.
    files = cycle(sample.image for sample in test.samples)
    return profile(
        method,
        images,
        run.backbones,
        test.sizes[:count],
        job.speed,
        run.device,
        preprocess=lambda: test.images.read_pixels(next(files)),
        memory=meter.memory,
        precision=job.cell.precision,
    )


def _device_facts(device: torch.device) -> dict[str, str]:
    if device.type != "cuda":
        return {"device": f"CPU {provenance.cpu_name()}"}
    facts = torch.cuda.get_device_properties(device)
    cudnn: Any = torch.backends.cudnn
    return {
        "device": facts.name,
        "cuda": str(torch.version.cuda),
        "cudnn": str(cudnn.version()),
        "device_memory_gb": f"{facts.total_memory / 1e9:.0f}",
    }
