"""One cell from files to a row: load, fit, predict, evaluate, profile."""

from __future__ import annotations

import hashlib
import json
import random
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

import bench
from bench import discovery, provenance
from bench.api import Method, MethodError, Prediction, Run
from bench.data import ImageSet, TestMasks, check_samples, fit_maps, load_masks
from bench.errors import DataError
from bench.evaluate import Evaluation, evaluate
from bench.plan import canonical
from bench.profile import FitMeter, profile
from bench.row import Row
from bench.speed import SpeedProtocol
from bench.weights import Weights, load_backbone

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from torch import Tensor, nn

    from bench.api import Dataset, Sample
    from bench.executors import Job
    from bench.plan import Cell

    Report = Callable[[Mapping[str, Any]], None]

BETTER = ("image_auroc", "pixel_auroc", "aupro_30", "aupro_100")
"""Metrics of which `oracle-per-metric` takes the best epoch each; the others follow the best pixel
AUROC, as does `oracle`."""


def seed_of(seed: int, purpose: str) -> int:
    """A 63-bit seed from SHA-256 of (seed, purpose): independent streams for each purpose."""
    digest = hashlib.sha256(f"{seed}/{purpose}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


class CellRun(Run):
    """The run that a cell offers its method; remembers the backbones that it handed out."""

    def __init__(
        self, cell: Cell, device: torch.device, image_size: tuple[int, int], weights: Weights
    ) -> None:
        self.cell = cell
        self.device = device
        self.seed = cell.seed
        self.image_size = image_size
        self.weights = weights
        self.backbones: list[nn.Module] = []
        self.identities: list[str] = []

    def generator(self, purpose: str) -> torch.Generator:
        return torch.Generator().manual_seed(seed_of(self.seed, purpose))

    def backbone(self, name: str, layers: Sequence[int]) -> nn.Module:
        if self.cell.pretrained == "none":
            raise MethodError(
                f"{self.cell.method} asks for the backbone {name!r}, but no field called backbone "
                "or stem names it, so its weights would not be part of the cell"
            )
        module, identity = load_backbone(
            name, layers, self.weights, seed=seed_of(self.seed, "weights"), device=self.device
        )
        self.backbones.append(module)
        self.identities.append(identity)
        return module


@dataclass
class Scored:
    """Scores of one epoch, and what they were computed from."""

    epoch: int
    evaluation: Evaluation
    prediction: Prediction
    maps: list[Tensor]


@dataclass
class Test:
    """The test half of a cell."""

    samples: Sequence[Sample]
    images: ImageSet
    masks: TestMasks
    labels: list[int]
    names: list[str]
    regions: Any = field(default=None)

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """(height, width) at which each image is scored; that of the input where it has no mask."""
        return [m.shape if m is not None else self.images.image_size for m in self.masks.masks]


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
    seed_everything(cell.seed)
    report({"phase": "reading"})
    dataset = _dataset(job)
    train = list(dataset.samples(cell.category, "train"))
    test_samples = list(dataset.samples(cell.category, "test"))
    _check_split(cell, train, test_samples)
    check_samples([*train, *test_samples])
    method = make_method(cell)
    size = method_size(method)
    train_images = _images(job, train, size, device)
    test = _test_half(job, dataset, test_samples, size, device)
    if test.images.image_size != train_images.image_size:
        raise DataError(
            f"{cell.dataset}/{cell.category}: training images become {train_images.image_size}, "
            f"test images {test.images.image_size}; use a protocol with a fixed (height, width)"
        )
    if len(train) < method.min_train:
        raise DataError(
            f"{cell.dataset}/{cell.category}: {len(train)} training images, but {cell.method} "
            f"needs at least {method.min_train}"
        )
    run = CellRun(cell, device, train_images.image_size, Weights(**_weights(job)))
    scored, history, fit = _train(job, method, run, train_images, test, report)
    report({"phase": "profiling"})
    complexity = _profile(job, method, run, test)
    _save_artifacts(job, test, scored[-1], history)
    environment = provenance.environment() | _device_facts(device)
    row = Row(
        **_identity(cell),
        **_scores(cell, method, scored, len(train), test),
        **{**complexity, **fit},
        weights=", ".join(dict.fromkeys(run.identities)) or "none",
        data=cell.data,
        code=job.code,
        commit=job.commit,
        bench=bench.__version__,
        env=provenance.environment_key(environment),
        device=environment["device"],
        threads=torch.get_num_threads(),
        command=job.command,
        started=started.isoformat(timespec="seconds"),
    )
    return row, environment


def choose_device(name: str) -> torch.device:
    """The device of that name; "auto": CUDA where there is one."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise MethodError(
            f"--device {name}: not a device; use auto, cpu, cuda or cuda:N"
        ) from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise MethodError(f"--device {name}: torch sees no CUDA device here; use --device cpu")
    return device


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch, each from (seed, its name), and ask for repeatable kernels."""
    random.seed(seed_of(seed, "python"))
    np.random.seed(seed_of(seed, "numpy") % 2**32)  # noqa: NPY002 - FrEIA draws from this one
    torch.manual_seed(seed_of(seed, "torch"))
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False


def make_method(cell: Cell) -> Method:
    """The method of a cell, its fields set."""
    plugin = discovery.describe("methods", cell.method)
    params = {k: tuple(v) if isinstance(v, list) else v for k, v in cell.params.items()}
    method: Method = discovery.load(plugin)(**params)
    return method


def method_size(method: Method) -> tuple[int, int] | None:
    """(height, width) of the method's own `input_size`, for protocols that ask for it."""
    size = getattr(method, "input_size", None)
    return (size, size) if isinstance(size, int) else size


def predict(method: Method, images: ImageSet, batch: int) -> Prediction:
    """Predictions for all images, on the CPU, after `finish`."""
    maps, scores = [], []
    with torch.inference_mode():
        for tensor in images.batches(batch):
            raw = method.predict(tensor)
            maps.append(raw.maps.float().cpu())
            if raw.scores is not None:
                scores.append(raw.scores.float().cpu())
        whole = Prediction(torch.cat(maps), torch.cat(scores) if scores else None)
        return method.finish(whole)


def _dataset(job: Job) -> Dataset:
    plugin = discovery.describe("datasets", job.cell.dataset)
    params = {k: tuple(v) if isinstance(v, list) else v for k, v in job.cell.dataset_params.items()}
    dataset: Dataset = discovery.load(plugin)(root=job.root, **params)
    return dataset


def _check_split(cell: Cell, train: Sequence[Sample], test: Sequence[Sample]) -> None:
    place = f"{cell.dataset}/{cell.category}"
    if not train:
        raise DataError(f"{place}: no training image")
    if not test:
        raise DataError(f"{place}: no test image")
    anomalous = [s.image for s in train if s.label]
    if anomalous:
        raise DataError(f"{place}: {len(anomalous)} anomalous training images: {anomalous[0]}")
    both = {s.group for s in train if s.group} & {s.group for s in test if s.group}
    if both:
        raise DataError(f"{place}: {len(both)} parts are in both splits, first {min(both)}")


def _images(
    job: Job, samples: Sequence[Sample], size: tuple[int, int] | None, device: torch.device
) -> ImageSet:
    return ImageSet(
        samples,
        job.cell.protocol,
        method_size=size,
        device=device,
        seed=seed_of(job.cell.seed, "loader"),
        workers=job.loaders,
    )


def _test_half(
    job: Job,
    dataset: Dataset,
    samples: Sequence[Sample],
    size: tuple[int, int] | None,
    device: torch.device,
) -> Test:
    images = _images(job, samples, size, device)
    masks = load_masks(samples, job.cell.protocol, images.image_size)
    return Test(
        samples=samples,
        images=images,
        masks=masks,
        labels=[s.label for s in samples],
        names=[_name(s.image, dataset.root) for s in samples],
    )


def _name(image: Path, root: Path) -> str:
    return image.relative_to(root).as_posix() if image.is_relative_to(root) else image.name


def _weights(job: Job) -> dict[str, Any]:
    paths = {k: Path(job.weights[k] or "") if job.weights[k] else None for k in ("file", "folder")}
    return {"kind": job.weights["kind"], **paths}


def _train(
    job: Job, method: Method, run: CellRun, train: ImageSet, test: Test, report: Report
) -> tuple[list[Scored], list[dict[str, float]], dict[str, Any]]:
    """Fit; score the last epoch, or each one where the protocol chooses among them."""
    history: list[dict[str, float]] = []
    scored: list[Scored] = []
    meter = FitMeter(run.device)
    report({"phase": "fitting"})
    with meter:
        method.prepare(run)
        for figures in method.fit(train, run):
            history.append({k: float(v) for k, v in figures.items()})
            meter.images(len(train))
            report({"epoch": len(history), "epochs": _epochs(method), **history[-1]})
            if job.cell.protocol.is_oracle:
                with meter.paused():
                    scored.append(_score(job, method, test, len(history)))
    if not history:
        raise MethodError(f"{job.cell.method}: fit ended without a usable state; it never yielded")
    if not scored:
        report({"phase": "scoring"})
        scored.append(_score(job, method, test, len(history)))
    return scored, history, meter.figures()


def _epochs(method: Method) -> int | None:
    epochs = getattr(method, "epochs", None)
    return epochs if isinstance(epochs, int) else None


def _score(job: Job, method: Method, test: Test, epoch: int) -> Scored:
    protocol = job.cell.protocol
    prediction = predict(method, test.images, job.batch)
    maps = fit_maps(prediction.maps, test.sizes)
    scores = prediction.scores
    if scores is None or protocol.image_score == "max":
        scores = torch.stack([m.max() for m in maps])
    evaluation = evaluate(
        [m.numpy() for m in maps],
        test.masks.masks,
        test.labels,
        scores.numpy(),
        names=test.names,
        published=protocol.published,
    )
    return Scored(epoch, evaluation, replace(prediction, scores=scores), maps)


def _scores(
    cell: Cell, method: Method, scored: Sequence[Scored], n_train: int, test: Test
) -> dict[str, Any]:
    """The score columns: of the last epoch, or of the best by the protocol's rule."""
    last = scored[-1]
    chosen = last
    if cell.protocol.is_oracle:
        chosen = max(scored, key=lambda s: s.evaluation.values["pixel_auroc"] or 0.0)
    values = dict(chosen.evaluation.values)
    if cell.protocol.epoch == "oracle-per-metric":
        values |= {m: _best(scored, m) for m in BETTER}
    known = {k: v for k, v in values.items() if k in Row.__dataclass_fields__}
    counts = chosen.evaluation.counts
    return {
        **known,
        "published": canonical(_published(cell, scored, chosen)),
        "undefined": canonical(dict(chosen.evaluation.undefined)),
        "epoch": None if cell.protocol.epoch == "oracle-per-metric" else chosen.epoch,
        "epochs": last.epoch,
        "last_epoch": canonical(_last(last) if cell.protocol.is_oracle else {}),
        "transductive": method.is_transductive,
        "n_train": n_train,
        "n_test": len(test.samples),
        "n_anomalous": sum(test.labels),
        "n_unmasked": len(test.masks.unmasked),
        "regions": counts.get("regions", test.masks.regions),
        "regions_lost": test.masks.regions_lost,
    }


def _best(scored: Sequence[Scored], metric: str) -> float | None:
    values = [s.evaluation.values.get(metric) for s in scored]
    return max((v for v in values if v is not None), default=None)


def _published(cell: Cell, scored: Sequence[Scored], chosen: Scored) -> dict[str, float | None]:
    if cell.protocol.epoch != "oracle-per-metric":
        return dict(chosen.evaluation.published)
    names = chosen.evaluation.published
    best: dict[str, float | None] = {}
    for name in names:
        values = [s.evaluation.published[name] for s in scored]
        best[name] = max((v for v in values if v is not None), default=None)
    return best


def _last(last: Scored) -> dict[str, float | None]:
    values = last.evaluation.values
    return {k: v for k, v in values.items() if k in Row.__dataclass_fields__}


def _profile(job: Job, method: Method, run: CellRun, test: Test) -> dict[str, Any]:
    count = min(len(test.images), 64)
    images = torch.cat([b.cpu() for b in _take(test.images.batches(8), count)])[:count]
    return profile(
        method,
        images,
        run.backbones,
        test.sizes[:count],
        SpeedProtocol(**job.speed),
        run.device,
        preprocess=lambda: test.images.read(0),
    )


def _take(batches: Iterable[Tensor], count: int) -> list[Tensor]:
    taken: list[Tensor] = []
    for batch in batches:
        taken.append(batch)
        if sum(len(b) for b in taken) >= count:
            break
    return taken


def _identity(cell: Cell) -> dict[str, Any]:
    return {
        "cell": cell.id,
        "method": cell.method,
        "method_version": cell.method_version,
        "dataset": cell.dataset,
        "dataset_version": cell.dataset_version,
        "category": cell.category,
        "seed": cell.seed,
        "protocol": cell.protocol.name,
        "protocol_fields": canonical(cell.protocol.identity()),
        "pretrained": cell.pretrained,
        "params": canonical(dict(cell.params)),
        "dataset_params": canonical(dict(cell.dataset_params)),
    }


def _device_facts(device: torch.device) -> dict[str, str]:
    if device.type != "cuda":
        return {"device": f"CPU {provenance.cpu_name()}"}
    facts = torch.cuda.get_device_properties(device)
    return {
        "device": facts.name,
        "cuda": str(torch.version.cuda),
        "cudnn": str(torch.backends.cudnn.version()),
        "device_memory_gb": f"{facts.total_memory / 1e9:.0f}",
    }


def _save_artifacts(
    job: Job, test: Test, scored: Scored, history: Sequence[Mapping[str, float]]
) -> None:
    """Beside the row: image scores and labels, losses, and the panels that `bench show` draws."""
    from bench.report.gallery import Panel, save_panels, select

    job.artifacts.mkdir(parents=True, exist_ok=True)
    assert scored.prediction.scores is not None
    scores = scored.prediction.scores.numpy()
    np.savez_compressed(
        job.artifacts / "scores.npz",
        names=np.array(test.names),
        scores=scores,
        labels=np.array(test.labels),
        defects=np.array([s.defect for s in test.samples]),
    )
    (job.artifacts / "history.json").write_text(json.dumps(list(history)), encoding="utf-8")
    panels = []
    for index, reason in select(scores, np.array(test.labels)):
        panels.append(
            Panel(
                name=test.names[index],
                image=test.images.raw(index),
                mask=test.masks.masks[index],
                map=scored.maps[index].numpy(),
                score=float(scores[index]),
                label=test.labels[index],
                defect=test.samples[index].defect,
                reason=reason,
            )
        )
    threshold = scored.evaluation.values.get("pixel_f1max_threshold")
    save_panels(job.artifacts / "panels.npz", panels, threshold)
    if job.save_maps:
        folder = job.artifacts / "maps"
        folder.mkdir(exist_ok=True)
        for name, anomaly_map in zip(test.names, scored.maps, strict=True):
            target = folder / Path(name).with_suffix(".npy")
            target.parent.mkdir(parents=True, exist_ok=True)
            np.save(target, anomaly_map.numpy())
