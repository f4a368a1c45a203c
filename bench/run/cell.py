"""One training from files to rows: load, fit, predict; then evaluate and profile for each cell."""

from __future__ import annotations

import importlib
import math
from dataclasses import dataclass, field, fields
from datetime import datetime, timezone
from functools import cached_property
from itertools import cycle, islice
from typing import TYPE_CHECKING, Any

import torch

from bench.api import MethodError
from bench.plan import discovery
from bench.plan.auxiliary import picture_fields
from bench.profile import FitMeter, profile
from bench.rows import provenance
from bench.rows.row import DEGENERATE, OF_TRAINING, TIMES_OF_TRAINING, Row
from bench.rows.row_values import CACHED
from bench.run.artifacts import save_artifacts
from bench.run.category import read_category
from bench.run.context import CellRun, choose_device, make_method, seed_everything
from bench.run.feature_cache import open_cache
from bench.run.kept_maps import keep_maps
from bench.run.loading_back import left_out
from bench.run.predicting import predict
from bench.run.scoring import (
    CellTest,
    Epochs,
    Scored,
    score,
    score_columns,
    suspicions,
    too_large,
)
from bench.run.training import epochs_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import nn

    from bench.api import Method, Prediction
    from bench.files.tensors import ImageSet
    from bench.plan.cells import Cell
    from bench.run.job import Job

    Report = Callable[[Mapping[str, Any]], None]

PROFILED_IMAGES = 32
"""Test images that the speed measurement cycles through; more only cost memory."""
PROFILED_BYTES = 512 * 10**6
"""What they may take as tensors; images of more than 1.3 million pixels are fewer."""


def train(job: Job, report: Report) -> Trained:
    """Read the images of a job, and fit its method once.

    Args:
        job: the cells, with what they need on this machine.
        report: called with progress events: {"phase": ...} and {"epoch": ..., figures}.

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
    images, half = read_category(job, method, device, report)
    tests = {cell.id: half(cell.protocol) for cell in job.cells}
    for text in dict.fromkeys(too_large(t, method) for t in tests.values() if t.is_large):
        report({"warning": text})
    features = open_cache(
        job.cache, job.feature_cache_mb, device, lambda text: report({"warning": text})
    )
    run = CellRun(cell, device, images.image_size, job.weights, job.auxiliary, features)
    _load_libraries(cell)
    meter = FitMeter(device)
    epochs, history = fit(job, method, run, meter, images, tests, report)
    if not cell.protocol.is_oracle:
        report({"phase": "scoring"})
    whole = _shared(method, list(tests.values()), job.batch)
    return Trained(job, report, started, method, run, meter, images, tests, epochs, history, whole)


@dataclass
class Trained:
    """The fitted method of a job, from which each of its cells gets its row.

    Attributes:
        tests: the test half of each cell, by its id.
        epochs: that were scored in training, by an oracle.
        history: the figures of every epoch.
        whole: the predictions, where several cells are scored from them.
        first: the cell whose row came first; it has the training to itself.
    """

    job: Job
    report: Report
    started: datetime
    method: Method
    run: CellRun
    meter: FitMeter
    train: ImageSet
    tests: Mapping[str, CellTest]
    epochs: Epochs
    history: list[dict[str, float]]
    whole: Prediction | None
    first: str = ""
    _costs: dict[tuple[tuple[int, int], ...], dict[str, Any]] = field(default_factory=dict)
    _told: set[str] = field(default_factory=set)

    def row(self, cell: Cell) -> tuple[Row, dict[str, str]]:
        """Score and profile under the protocol of a cell, and write its artifacts.

        Returns:
            the row, and the environment that its `env` column is the key of.

        Raises:
            BenchError: predictions or numbers that cannot be used.
        """
        job, method, run, test = self.job, self.method, self.run, self.tests[cell.id]
        epochs = self._scored(cell, test)
        self.report({"phase": "profiling"})
        complexity = self._measured(test) | self._unsaved
        save_artifacts(job.folder(cell), test, epochs, self.history, job.save_maps)
        if job.keep_maps:
            self._keep_maps(cell, test, epochs.shown)
        environment = provenance.environment(_packages(cell)) | _device_facts(run.device)
        row = Row.of(
            cell,
            environment,
            **score_columns(cell, method, epochs.scored, self.history, self.train, test),
            **complexity,
            trained_with=self.first,
            weights=", ".join(dict.fromkeys(run.identities)) or "none",
            auxiliary=_auxiliary(cell),
            weights_source=_joined(run.backbones, "source"),
            weights_statistics=_joined(run.backbones, "statistics"),
            code=job.code,
            commit=job.commit,
            device=environment["device"],
            threads=torch.get_num_threads(),
            command=job.command,
            started=self.started.isoformat(timespec="seconds"),
        )
        refuse_not_finite(row)
        self.first = self.first or cell.id
        return row, environment

    def _scored(self, cell: Cell, test: CellTest) -> Epochs:
        """The last epoch, or those that an oracle has scored."""
        epochs = self.epochs
        if not cell.protocol.is_oracle:
            number, batch = len(self.history), self.job.batch
            epochs = Epochs(cell.protocol)
            epochs.add(score(self.method, test, cell.protocol, batch, number, self.whole))
        if epochs.shown.kind == "constant":
            text = "maps are constant within every image: pixel metrics only repeat the image"
            self._warn(f"{text} scores; a method without maps returns Prediction(None, scores)")
        if DEGENERATE in suspicions(epochs.last.evaluation):
            self._warn("degenerate: all pixel scores are equal; the row is marked")
        return epochs

    def _measured(self, test: CellTest) -> dict[str, Any]:
        """Measured once for cells whose maps are brought to the same sizes."""
        key = tuple(test.sizes)
        if key not in self._costs:
            self._costs[key] = _costs(self.job, self.method, self.run, self.meter, test)
        return self._costs[key]

    @cached_property
    def _unsaved(self) -> dict[str, None]:
        """The columns that stay empty where the method's state is not all tensors."""
        objects = left_out(self.method)
        if not objects:
            return {}
        text = f"{', '.join(objects)} is no tensor: state_mb cannot count it and stays empty"
        self._warn(f"{text}, and bench fit refuses it; override state and load_state")
        return {"state_mb": None, "state_fitted_mb": None}

    def _keep_maps(self, cell: Cell, test: CellTest, shown: Scored) -> None:
        if shown.maps is None:
            self._warn(f"{cell.method} gives no maps; there are none to keep")
            return
        masks, scores = test.masks.masks, shown.scores.numpy()
        keep_maps(self.job.folder(cell), shown.maps, masks, test.labels, scores, test.names)

    def _warn(self, text: str) -> None:
        """Once, whatever number of cells it is true of."""
        if text not in self._told:
            self._told.add(text)
            self.report({"warning": text})


def refuse_not_finite(row: Row) -> None:
    """Raises MethodError where a number of the row is none."""
    values = {f.name: getattr(row, f.name) for f in fields(row)}
    bad = [k for k, v in values.items() if isinstance(v, float) and not math.isfinite(v)]
    if bad:
        raise MethodError(f"{', '.join(f'{name} is {values[name]}' for name in bad)}; not a result")


def _shared(method: Method, tests: Sequence[CellTest], batch: int) -> Prediction | None:
    """The predictions of several cells; None where each has its own.

    So it is where the maps of all are beyond the budget: they are predicted anew, part by part.
    """
    is_large = not method.is_transductive and all(test.is_large for test in tests)
    return None if is_large or len(tests) == 1 else predict(method, tests[0].images, batch)


def _packages(cell: Cell) -> list[tuple[str, str] | None]:
    """Of the cell's method and data set: the installed packages that offer them."""
    names: tuple[tuple[discovery.Kind, str], ...]
    names = (("methods", cell.method), ("datasets", cell.dataset))
    return [discovery.describe(kind, name).package for kind, name in names]


def fit(
    job: Job,
    method: Method,
    run: CellRun,
    meter: FitMeter,
    train: ImageSet,
    tests: Mapping[str, CellTest],
    report: Report,
) -> tuple[Epochs, list[dict[str, float]]]:
    """Train, and score each epoch where the protocol chooses among them.

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
            if protocol.is_oracle:  # then the cell is alone
                with meter.paused():
                    test = tests[job.cell.id]
                    scored.add(score(method, test, protocol, job.batch, len(history)))
    return scored, history


def _warn_not_finite(history: Sequence[Mapping[str, float]], report: Report) -> None:
    """Say once, at the first epoch that has such a figure, which is not finite."""
    epochs = [{k: v for k, v in f.items() if not math.isfinite(v)} for f in history]
    if epochs[-1] and not any(epochs[:-1]):
        told = ", ".join(f"{name} is {value}" for name, value in epochs[-1].items())
        report({"warning": f"{told} in epoch {len(history)}; the row is marked"})


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
    """The columns of cost; empty where they depend on a training that the feature cache was in.

    Times of training are where nothing is to be timed: others may have run on the device meanwhile.
    """
    training: dict[str, Any] = meter.columns()
    if not job.speed.is_timed:
        training |= dict.fromkeys(TIMES_OF_TRAINING)
    cached = run.features
    if cached is not None:
        cached.close()
    costs = training | _profile(job, method, run, meter, test)
    if cached is not None and cached.in_training:
        costs |= {**dict.fromkeys(OF_TRAINING), "features": CACHED}
    return costs


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
