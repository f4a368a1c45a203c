"""The test half of a cell: predictions, their evaluation, and the score columns of a row."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from bench.api import Method, MethodError, Prediction
from bench.evaluate import Evaluation, evaluate
from bench.files.tensors import ImageSet, TestMasks, fit_maps
from bench.plan.cells import canonical
from bench.rows.row import Row

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from bench.api import Sample
    from bench.plan.cells import Cell
    from bench.settings.protocol import Protocol

BETTER = ("image_auroc", "pixel_auroc", "aupro_30", "aupro_100")
"""Metrics of which `oracle-per-metric` takes the best epoch each; the others follow the best pixel
AUROC, as does `oracle`."""


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
    leaked: int = 0

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """(height, width) at which each image is scored; that of the input where it has no mask."""
        return [m.shape if m is not None else self.images.image_size for m in self.masks.masks]


def predict(method: Method, images: ImageSet, batch: int) -> Prediction:
    """Predictions for all images, on the CPU, after `finish`."""
    maps, scores = [], []
    with torch.inference_mode():
        for tensor in images.batches(batch):
            raw = method.predict(tensor)
            _require_one_each(method, raw, len(tensor), dimensions=(3, 4))
            maps.append(_on_host(raw.maps))
            if raw.scores is not None:
                scores.append(_on_host(raw.scores))
        whole = Prediction(torch.cat(maps), torch.cat(scores) if scores else None)
        done = method.finish(whole)
        _require_one_each(method, done, len(whole.maps), dimensions=(3,))
        return done


def _require_one_each(
    method: Method, prediction: Prediction, count: int, dimensions: tuple[int, ...]
) -> None:
    """Refuse maps or scores that are not one for each image.

    Raises:
        MethodError: names the class, the shape and what is expected.
    """
    name, shape = type(method).__name__, tuple(prediction.maps.shape)
    if len(shape) not in dimensions or shape[0] != count:
        raise MethodError(f"{name}: maps of shape {shape}, expected ({count}, H, W)")
    if prediction.scores is not None and tuple(prediction.scores.shape) != (count,):
        found = tuple(prediction.scores.shape)
        raise MethodError(f"{name}: image scores of shape {found}, expected ({count},)")


def _on_host(tensor: Tensor) -> Tensor:
    """On the CPU, as NumPy can read it: bfloat16 becomes float32, which holds every value of it."""
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).cpu()


def score(method: Method, test: Test, protocol: Protocol, batch: int, epoch: int) -> Scored:
    """Predict the whole test set and evaluate it under the protocol."""
    prediction = predict(method, test.images, batch)
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


def score_columns(
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
        "n_leaked": test.leaked,
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
