"""The test half of a cell: predictions, their evaluation, and the score columns of a row."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from bench.evaluate import Evaluation, evaluate
from bench.evaluate.large import evaluate_large
from bench.evaluate.result import VERSION
from bench.files.tensors import ImageSet, MaskSet, fit_maps
from bench.rows.row import COLUMNS, DEGENERATE, NOT_FINITE, map_kind, stored
from bench.rows.row_values import SPOOLED
from bench.run.predicting import parts_of, predict, predict_in_parts
from bench.run.spool import MapSpool

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from bench.api import Method, Prediction, Sample
    from bench.plan.cells import Cell
    from bench.settings.protocol import Protocol

    Maps = list[NDArray[Any]] | MapSpool

MB = 10**6

BETTER = tuple(name for name, column in COLUMNS.items() if column.has_epoch)
"""Metrics of which `oracle-per-metric` takes the best epoch each; the others follow the best pixel
AUROC, as does `oracle` (image AUROC where the method gives no maps)."""

SORTED_BYTES = 16
"""Memory that the evaluator may take on a GPU, over that of the maps: copies, places, a sort."""


@dataclass
class Scored:
    """Scores of one epoch, and what they were computed from.

    Attributes:
        scores: (N,) of the images.
        maps: None where the method gives none, or they were let go.
        kind: of the maps, as the column has it.
    """

    epoch: int
    evaluation: Evaluation
    scores: Tensor
    maps: Maps | None
    kind: str

    @property
    def standing(self) -> float:
        """By which oracles choose an epoch: pixel AUROC; image AUROC where there are no maps."""
        metric = "image_auroc" if self.kind == "none" else "pixel_auroc"
        return self.evaluation.values[metric] or 0.0

    def let_maps_go(self) -> None:
        """Keep numbers and image scores alone: maps of every epoch would not fit."""
        if isinstance(self.maps, MapSpool):
            self.maps.close()
        self.maps = None


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
class CellTest:
    """The test half of a cell.

    Attributes:
        budget_mb: MB of maps up to which they are evaluated in memory.
    """

    samples: Sequence[Sample]
    images: ImageSet
    masks: MaskSet
    labels: list[int]
    names: list[str]
    leaked: int = 0
    budget_mb: float = math.inf

    @property
    def map_bytes(self) -> int:
        """Of all maps in single precision, at the size of the input or of the mask."""
        height, width = self.images.image_size
        return 4 * sum(max(height * width, h * w) for h, w in self.sizes)

    @property
    def is_large(self) -> bool:
        """Whether the maps go to a file, since they are more than the budget."""
        return self.map_bytes > self.budget_mb * MB

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """(height, width) at which each image is scored; that of the input where it has no mask."""
        return [shape or self.images.image_size for shape in self.masks.masks.shapes]


def score(
    method: Method,
    test: CellTest,
    protocol: Protocol,
    batch: int,
    epoch: int,
    whole: Prediction | None = None,
) -> Scored:
    """Predict the whole test set and evaluate it under the protocol.

    Args:
        whole: the predictions, where they are there.
    """
    scores, maps, kind = _placed(_parts(method, test, batch, whole), test, protocol)
    names, published = test.names, protocol.published
    if maps is None:
        found = evaluate(None, None, test.labels, scores.numpy(), names=names, published=published)
    elif isinstance(maps, MapSpool):
        found = evaluate_large(
            maps,
            test.masks.masks,
            test.labels,
            scores.numpy(),
            names=names,
            published=published,
            room_mb=test.budget_mb,
        )
    else:
        placed = evaluated_at([torch.from_numpy(one) for one in maps], test.images.device)
        masks, labels = test.masks.masks, test.labels
        found = evaluate(placed, masks, labels, scores.numpy(), names=names, published=published)
    return Scored(epoch, found, scores, maps, kind)


def _parts(
    method: Method, test: CellTest, batch: int, whole: Prediction | None
) -> Iterator[Prediction]:
    """Predictions of the test set: part by part where its maps are beyond the budget."""
    is_in_parts = test.is_large and not method.is_transductive
    if whole is None:
        if is_in_parts:
            return predict_in_parts(method, test.images, batch)
        return iter([predict(method, test.images, batch)])
    return parts_of(whole, batch) if is_in_parts else iter([whole])


def _placed(
    parts: Iterator[Prediction], test: CellTest, protocol: Protocol
) -> tuple[Tensor, Maps | None, str]:
    """Image scores; maps at the sizes of their masks, in memory or in a file; and their kind."""
    maps: Maps | None = None
    scores: list[Tensor] = []
    kinds: set[str] = set()
    for part in parts:
        kinds.add(map_kind(part.maps))
        if part.maps is None:
            scores.append(part.require_scores())
            continue
        if maps is None:
            maps = MapSpool(test.map_bytes) if test.is_large else []
        fitted = fit_maps(part.maps, test.sizes[len(maps) : len(maps) + len(part.maps)])
        for one in fitted:
            maps.append(one.numpy())
        own = None if protocol.image_score == "max" else part.scores
        scores.append(torch.stack([m.max() for m in fitted]) if own is None else own)
    kind = kinds.pop() if len(kinds) == 1 else ""
    return torch.cat(scores), maps, kind


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
    test: CellTest,
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
    counts = chosen.evaluation.counts
    return {
        **stored(values),
        "published": _published(cell, scored, chosen),
        "undefined": chosen.evaluation.undefined,
        "epoch": None if cell.protocol.epoch == "oracle-per-metric" else chosen.epoch,
        "epochs": last.epoch,
        "last_epoch": stored(last.evaluation.values) if cell.protocol.is_oracle else {},
        "transductive": method.is_transductive,
        "maps": chosen.kind,
        "evaluator": SPOOLED if test.is_large and chosen.kind != "none" else "",
        "evaluator_version": VERSION,
        "suspect": suspicions(chosen.evaluation, history),
        "n_train": len(train),
        "n_held_out": len(train.held_out),
        "n_test": len(test.samples),
        "n_anomalous": sum(test.labels),
        "n_unmasked": len(test.masks.unmasked),
        "n_leaked": test.leaked,
        "regions": counts.get("regions", test.masks.regions),
        "regions_lost": test.masks.regions_lost,
    }


def too_large(test: CellTest, method: Method) -> str:
    """What a user reads about maps beyond the budget."""
    size = f"{len(test.samples)} maps of {test.map_bytes / MB:,.0f} MB"
    text = f"{size} are more than [run].map_budget_mb = {test.budget_mb:g}: they go to a file"
    if method.is_transductive:
        text += ", but the method needs all predictions at once, which stay in memory"
    return text


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
