"""AUROC, average precision and the best F1 from ranks, exact with ties."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bench.errors import DataError
from bench.evaluate.inputs import as_array, read_flags, refuse_nonfinite
from bench.evaluate.ranks import rank
from bench.evaluate.samples import Piece, Ranks, as_numpy, to_float64

if TYPE_CHECKING:
    from bench.evaluate.inputs import Nonfinite
    from bench.evaluate.samples import Block

__all__ = [
    "BinarySums",
    "BinaryValues",
    "auroc",
    "average_precision",
    "binary_metrics",
    "f1_max",
]


@dataclass(frozen=True)
class BinaryValues:
    """Metrics of a two-class ranking.

    Attributes:
        auroc: chance that an anomalous sample scores above a normal one, ties counting one half.
        ap: sum over the distinct scores of the step in recall times the precision there.
        f1max: the best F1 over all thresholds.
        threshold: the lowest score at which F1 is the best (anomalous: score >= threshold). It is
            chosen with the labels of the test set: an oracle.
        precision: at that threshold.
        recall: at that threshold.
    """

    auroc: float
    ap: float
    f1max: float
    threshold: float
    precision: float
    recall: float


@dataclass
class BinarySums:
    """Running sums over blocks of anomalous samples in ascending order."""

    ranks: Ranks
    misordered: int = 0
    """Twice the number of (anomalous, normal) pairs in the wrong order; a tie counts one."""
    precisions: list[float] = field(default_factory=list)
    best: tuple[float, Any, int, int] = (-1.0, None, 0, 0)
    """F1, key, hits and false alarms at the best threshold."""

    def add(self, block: Block) -> None:
        """Count one block."""
        hits = to_float64(block.hits)
        predicted = to_float64(block.at_or_above)
        predicted += hits
        self.misordered += int(block.doubled.sum())
        precisions = as_numpy(hits / predicted)
        self.precisions += [float(precisions[s].sum()) for s in block.steps(0, len(precisions))]
        predicted += self.ranks.positives
        half_f1 = hits / predicted
        at = int(half_f1.argmax())
        if 2 * float(half_f1[at]) > self.best[0]:
            found = int(block.hits[at]), int(block.at_or_above[at])
            self.best = (2 * float(half_f1[at]), block.keys[at], *found)

    def values(self) -> BinaryValues:
        """The metrics, of at least one sample of either class."""
        f1, key, hits, false = self.best
        pairs = 2 * self.ranks.positives * self.ranks.negatives
        return BinaryValues(
            auroc=(pairs - self.misordered) / pairs,
            ap=sum(self.precisions) / self.ranks.positives,
            f1max=f1,
            threshold=self.ranks.score_of(key),
            precision=hits / (hits + false),
            recall=hits / self.ranks.positives,
        )


def binary_metrics(
    scores: Any, labels: Any, *, nonfinite: Nonfinite = "error"
) -> BinaryValues | None:
    """All metrics of one vector of scores, compared as stored.

    Args:
        scores: (n,) of any real type; higher is more anomalous.
        labels: (n,) 0 normal, 1 anomalous.
        nonfinite: "rank" accepts infinite scores. NaN has no rank and is always refused.

    Returns:
        None where one class has no sample.

    Raises:
        DataError: an empty vector, lengths that differ, labels besides 0 and 1, scores that are
            not finite; the message names the first.
    """
    values = as_array(scores, "scores")
    flags = read_flags(labels)
    if values.ndim != 1 or len(values) != len(flags) or not len(values):
        raise DataError(
            f"scores have shape {tuple(values.shape)}, labels ({len(flags)},); vectors of one "
            "length, at least 1, are needed"
        )
    ranks = rank([Piece(values, flags)])
    if not ranks.is_finite:
        refuse_nonfinite({"the vector": values}, nonfinite)
    if not ranks.positives or not ranks.negatives:
        return None
    sums = BinarySums(ranks)
    for block in ranks.blocks():
        sums.add(block)
    return sums.values()


def auroc(scores: Any, labels: Any, *, nonfinite: Nonfinite = "error") -> float | None:
    """Area under the ROC curve; None with one class only. Arguments: see `binary_metrics`."""
    values = binary_metrics(scores, labels, nonfinite=nonfinite)
    return None if values is None else values.auroc


def average_precision(scores: Any, labels: Any, *, nonfinite: Nonfinite = "error") -> float | None:
    """Average precision; None with one class only. Arguments: see `binary_metrics`."""
    values = binary_metrics(scores, labels, nonfinite=nonfinite)
    return None if values is None else values.ap


def f1_max(
    scores: Any, labels: Any, *, nonfinite: Nonfinite = "error"
) -> tuple[float, float] | None:
    """Best F1 and its oracle threshold; None with one class only. See `binary_metrics`."""
    values = binary_metrics(scores, labels, nonfinite=nonfinite)
    return None if values is None else (values.f1max, values.threshold)
