"""The test half of a cell: predictions, their evaluation, and the score columns of a row."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch

from bench.api import Method, MethodError, Prediction
from bench.evaluate import Evaluation, evaluate
from bench.files.tensors import ImageSet, TestMasks, fit_maps
from bench.plan.identity import canonical
from bench.profile.mode import prediction_mode
from bench.rows.row import DEGENERATE, NOT_FINITE, Row, map_kind
from bench.run.plugin_errors import type_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from bench.api import Sample
    from bench.plan.cells import Cell
    from bench.settings.protocol import Protocol

BETTER = ("image_auroc", "pixel_auroc", "aupro_30", "aupro_100")
"""Metrics of which `oracle-per-metric` takes the best epoch each; the others follow the best pixel
AUROC, as does `oracle` (image AUROC where the method gives no maps)."""

SORTED_BYTES = 16
"""Memory that the evaluator may take on a GPU, over that of the maps: copies, places, a sort."""


@dataclass
class Scored:
    """Scores of one epoch, and what they were computed from.

    Attributes:
        maps: None where the method gives none, or they were let go.
        kind: of the maps, as the column has it.
    """

    epoch: int
    evaluation: Evaluation
    prediction: Prediction
    maps: list[Tensor] | None
    kind: str = field(init=False)

    def __post_init__(self) -> None:
        self.kind = map_kind(self.prediction.maps)

    @property
    def standing(self) -> float:
        """By which oracles choose an epoch: pixel AUROC; image AUROC where there are no maps."""
        metric = "image_auroc" if self.kind == "none" else "pixel_auroc"
        return self.evaluation.values[metric] or 0.0

    @property
    def scores(self) -> Tensor:
        """(N,) image scores."""
        assert self.prediction.scores is not None  # `score` sets them
        return self.prediction.scores

    def let_maps_go(self) -> None:
        """Keep numbers and image scores alone: maps of every epoch would not fit in memory."""
        self.maps = None
        self.prediction = Prediction(None, self.prediction.scores)


@dataclass
class Epochs:
    """The scored epochs of a run, of which one has its maps: the one that the row shows.

    While another one is scored there are maps of two.
    """

    protocol: Protocol
    scored: list[Scored] = field(default_factory=list)

    def add(self, new: Scored) -> None:
        """Keep an epoch, and the maps of the better one."""
        others = [self.shown, new] if self.scored else [new]
        self.scored.append(new)
        for other in others:
            if other is not self.shown:
                other.let_maps_go()

    @property
    def last(self) -> Scored:
        """Of which the state is kept."""
        return self.scored[-1]

    @property
    def shown(self) -> Scored:
        """The epoch of the row's numbers; where each metric has its own, of most of them."""
        return _chosen(self.scored, self.protocol)

    @property
    def image_scores(self) -> Tensor:
        """(N,) scores of the epoch of the row's image AUROC."""
        if self.protocol.epoch != "oracle-per-metric":
            return self.shown.scores
        return max(self.scored, key=lambda s: s.evaluation.values["image_auroc"] or 0.0).scores


def _chosen(scored: Sequence[Scored], protocol: Protocol) -> Scored:
    return max(scored, key=lambda s: s.standing) if protocol.is_oracle else scored[-1]


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
    """Predictions for all images, on the CPU, after `finish`.

    Raises:
        MethodError: maps or scores that are not one for each image, or of some batches only.
    """
    maps, scores = [], []
    with prediction_mode(method):
        for tensor in images.batches(batch):
            raw = require_prediction(method, method.predict(tensor))
            _require_one_each(method, raw, len(tensor), dimensions=(3, 4))
            maps.append(_on_host(raw.maps))
            scores.append(_on_host(raw.scores))
        whole = Prediction(_joined(method, "maps", maps), _joined(method, "scores", scores))
        done = require_prediction(method, method.finish(whole), "finish")
        _require_one_each(method, done, len(images), dimensions=(3,))
        return done


def require_prediction(method: Method, found: object, called: str = "predict") -> Prediction:
    """What a method returned, if it is a prediction that holds tensors.

    Raises:
        MethodError: says what came instead.
    """
    name = type(method).__name__
    if not isinstance(found, Prediction):
        raise MethodError(
            f"{name}: {called} returned {type_name(found)}; return Prediction(maps, scores)"
        )
    for what, value in (("maps", found.maps), ("scores", found.scores)):
        if value is not None and not isinstance(value, torch.Tensor):
            raise MethodError(
                f"{name}: {called} gave {what} as {type_name(value)}; give a torch tensor, as by "
                "torch.from_numpy"
            )
    return found


def _require_one_each(
    method: Method, prediction: Prediction, count: int, dimensions: tuple[int, ...]
) -> None:
    """Refuse maps or scores that are not one for each image, or that hold their graph.

    Raises:
        MethodError: names the class, the shape and what is expected.
    """
    name, maps, scores = type(method).__name__, prediction.maps, prediction.scores
    if maps is not None and (maps.ndim not in dimensions or len(maps) != count):
        raise MethodError(f"{name}: maps of shape {tuple(maps.shape)}, expected ({count}, H, W)")
    if scores is not None and tuple(scores.shape) != (count,):
        raise MethodError(
            f"{name}: image scores of shape {tuple(scores.shape)}, expected ({count},)"
        )
    for what, tensor in (("maps", maps), ("image scores", scores)):
        if tensor is not None and tensor.requires_grad:
            raise MethodError(f"{name}: {what} hold the graph that made them; return .detach()")


def _joined(method: Method, what: str, parts: Sequence[Tensor | None]) -> Tensor | None:
    """One tensor of all batches; None where no batch has any."""
    known = [part for part in parts if part is not None]
    if known and len(known) < len(parts):
        raise MethodError(
            f"{type(method).__name__}: {what} in {len(known)} of {len(parts)} batches; give them "
            "for all images or for none"
        )
    return torch.cat(known) if known else None


def _on_host(tensor: Tensor | None) -> Tensor | None:
    """On the CPU, as NumPy can read it: bfloat16 becomes float32, which holds every value of it."""
    if tensor is None:
        return None
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).cpu()


def score(method: Method, test: Test, protocol: Protocol, batch: int, epoch: int) -> Scored:
    """Predict the whole test set and evaluate it under the protocol."""
    prediction = predict(method, test.images, batch)
    maps = None if prediction.maps is None else fit_maps(prediction.maps, test.sizes)
    scores = prediction.scores
    if maps is not None and (scores is None or protocol.image_score == "max"):
        scores = torch.stack([m.max() for m in maps])
    assert scores is not None  # a prediction without maps has scores
    evaluation = evaluate(
        None if maps is None else evaluated_at(maps, test.images.device),
        None if maps is None else test.masks.masks,
        test.labels,
        scores.numpy(),
        names=test.names,
        published=protocol.published,
    )
    return Scored(epoch, evaluation, replace(prediction, scores=scores), maps)


def evaluated_at(maps: list[Tensor], device: torch.device) -> list[Tensor]:
    """The maps on a GPU that has room to sort them there; else where they are. Same numbers."""
    if device.type != "cuda":
        return maps
    pool = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    room = torch.cuda.mem_get_info(device)[0] + pool
    needed = SORTED_BYTES * sum(m.numel() * m.element_size() for m in maps)
    return [m.to(device) for m in maps] if needed <= room else maps


def score_columns(
    cell: Cell,
    method: Method,
    scored: Sequence[Scored],
    history: Sequence[Mapping[str, float]],
    train: ImageSet,
    test: Test,
) -> dict[str, Any]:
    """The score columns: of the last epoch, or of the best by the protocol's rule.

    Args:
        history: the figures of every epoch.
    """
    last = scored[-1]
    chosen = _chosen(scored, cell.protocol)
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
        "maps": chosen.kind,
        "suspect": canonical(suspicions(chosen.evaluation, history)),
        "n_train": len(train),
        "n_held_out": len(train.held_out),
        "n_test": len(test.samples),
        "n_anomalous": sum(test.labels),
        "n_unmasked": len(test.masks.unmasked),
        "n_leaked": test.leaked,
        "regions": counts.get("regions", test.masks.regions),
        "regions_lost": test.masks.regions_lost,
    }


def suspicions(evaluation: Evaluation, history: Sequence[Mapping[str, float]] = ()) -> list[str]:
    """What column `suspect` says of an evaluation and of the figures of training."""
    found = [DEGENERATE] if any(w.startswith(DEGENERATE) for w in evaluation.warnings) else []
    finite = all(math.isfinite(value) for figures in history for value in figures.values())
    return found if finite else [*found, NOT_FINITE]


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
