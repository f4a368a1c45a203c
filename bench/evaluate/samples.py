"""Samples to rank, and what each engine gives of them: blocks of anomalous samples with counts.

A block is one step of the sums over anomalous samples. Where steps begin is a rule of the sorted
samples, not of the engine: sums of floats are then the same, bit for bit, on every device.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.evaluate.inputs import is_tensor

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from bench.evaluate.inputs import Array

__all__ = ["Block", "Piece", "Ranks", "as_numpy", "step_ends", "to_float64"]


@dataclass(frozen=True)
class Piece:
    """Some samples, usually one image: scores of any shape, and which of them are anomalous.

    Attributes:
        scores: no NaN is looked for here; see `Ranks.extremes`.
        anomalous: bool of the same shape; None: all are normal.
    """

    scores: Array
    anomalous: Array | None


@dataclass(frozen=True)
class Block:
    """Anomalous samples in ascending order of their scores; equal scores have equal ranks.

    Of equal scores that of the lower group comes first.

    Attributes:
        doubled: (k,) int64, normal samples above plus normal samples at or above: twice the
            normal samples above, an equal one counting one half.
        at_or_above: (k,) int64, normal samples with at least this score.
        hits: (k,) int64, anomalous samples with at least this score.
        keys: (k,), what `Ranks.score_of` turns into the score.
        groups: (k,) int64, the group (region) of every sample; None where samples have none.
        ends: where the steps of the block end, rising; the last is k.
    """

    doubled: Array
    at_or_above: Array
    hits: Array
    keys: Array
    groups: Array | None
    ends: Sequence[int]

    def steps(self, start: int, stop: int) -> list[slice]:
        """The samples from `start` to `stop`, cut where a step ends."""
        cuts = [start, *(end for end in self.ends if start < end < stop), stop]
        return [slice(*pair) for pair in pairwise(cuts)]


class Ranks(ABC):
    """Sorted samples of one test set.

    Attributes:
        positives: anomalous samples, P.
        negatives: normal samples, N.
    """

    positives: int
    negatives: int

    @abstractmethod
    def blocks(self) -> Iterator[Block]:
        """The anomalous samples from the lowest score to the highest."""

    @abstractmethod
    def score_of(self, key: Any) -> float:
        """The score that a key of a block stands for."""

    @abstractmethod
    def extremes(self) -> tuple[float, float]:
        """Lowest and highest score; NaN in one of them if any score is NaN."""

    @property
    def is_finite(self) -> bool:
        """Whether no score is NaN or infinite: the sort has brought these to the ends."""
        return all(math.isfinite(score) for score in self.extremes())

    @property
    def is_constant(self) -> bool:
        """Whether all scores are equal."""
        lowest, highest = self.extremes()
        return lowest == highest


def step_ends(chunks: NDArray[np.int64], least: int) -> list[int]:
    """Where steps end: with the chunk that brings a step to `least` samples, and with the last one.

    Args:
        chunks: anomalous samples in each chunk of all sorted samples.
    """
    ends, waiting, total = [], 0, 0
    for count in chunks.tolist():
        waiting, total = waiting + count, total + count
        if waiting >= least:
            ends.append(total)
            waiting = 0
    return [*ends, total] if waiting else ends


def to_float64(values: Array) -> Array:
    """Counts as float64, where they are."""
    return values.double() if is_tensor(values) else values.astype(np.float64)


def as_numpy(values: Array) -> NDArray[Any]:
    """As an array."""
    return values.cpu().numpy() if is_tensor(values) else values  # type: ignore[no-any-return]
