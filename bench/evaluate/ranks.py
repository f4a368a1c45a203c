"""Where anomalous scores stand among normal ones: the sorted data that all metrics share.

Scores of at most 32 bits are sorted as integers that carry the label in their lowest bit, so one
keys-only sort of all pixels gives both counts of every anomalous pixel: no index is sorted, and
nothing is searched. 64-bit scores and accelerators sort the two classes apart and search.
"""

from __future__ import annotations

import math
import sys
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.evaluate.coding import Coding
from bench.evaluate.inputs import is_tensor
from bench.evaluate.positions import positions_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from bench.evaluate.inputs import Array

__all__ = ["Block", "Piece", "Ranks", "rank", "to_float64"]

BLOCK = 1 << 14
"""Anomalous samples per block on the CPU: the temporaries stay in the second-level cache."""

CHUNK = 1 << 17
"""Sorted samples among which anomalous ones are looked for at a time."""

DEVICE_BLOCK = 1 << 22

_ONE = np.uint32(1)


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

    Attributes:
        doubled: (k,) int64, normal samples above plus normal samples at or above: twice the
            normal samples above, an equal one counting one half.
        at_or_above: (k,) int64, normal samples with at least this score.
        hits: (k,) int64, anomalous samples with at least this score.
        keys: (k,), what `Ranks.score_of` turns into the score.
        groups: (k,) int64, the group (region) of every sample; None where samples have none.
    """

    doubled: Array
    at_or_above: Array
    hits: Array
    keys: Array
    groups: Array | None


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


def rank(pieces: Sequence[Piece], groups: NDArray[np.int32] | None = None) -> Ranks:
    """Sort the samples.

    Args:
        pieces: samples, all of one type; at least one sample.
        groups: (P,) group of every anomalous sample, in the order of the pieces.
    """
    coding = None if is_tensor(pieces[0].scores) else Coding.of([p.scores for p in pieces])
    return SearchedRanks(pieces, groups) if coding is None else KeyedRanks(coding, pieces, groups)


def to_float64(values: Array) -> Array:
    """Counts as float64, where they are."""
    return values.double() if is_tensor(values) else values.astype(np.float64)


class KeyedRanks(Ranks):
    """Scores of at most 32 bits as unsigned keys, ascending; the lowest bit marks anomalous ones.

    So of equal scores the normal ones come first.
    """

    def __init__(
        self, coding: Coding, pieces: Sequence[Piece], groups: NDArray[np.int32] | None
    ) -> None:
        """See `rank`."""
        self.coding = coding
        size = sum(piece.scores.size for piece in pieces)
        masks = [piece.anomalous for piece in pieces if piece.anomalous is not None]
        counted = sum(map(np.count_nonzero, masks)) if groups is None else len(groups)
        self.positives, self.negatives = int(counted), size - int(counted)
        self.padded = np.empty(size + 1, np.uint32)
        # An odd number in front: what comes before the first key is no normal score.
        self.padded[0] = 1
        self.keys = self.padded[1:]
        self.anomalous = _Anomalous(self.positives, groups)
        at = done = 0
        for piece in pieces:
            codes = coding.encode(piece.scores.reshape(-1))
            target = self.keys[at : at + len(codes)]
            np.left_shift(codes, _ONE, out=target)
            at += len(codes)
            if piece.anomalous is not None:
                flags = piece.anomalous.reshape(-1)
                target |= flags
                marked = target[flags]
                self.anomalous.keys[done : done + len(marked)] = marked
                done += len(marked)
        self.keys.sort()
        self.anomalous.sort()

    def score_of(self, key: Any) -> float:
        """See `Ranks`."""
        return self.coding.decode(int(key) >> 1)

    def extremes(self) -> tuple[float, float]:
        """See `Ranks`."""
        return self.score_of(self.keys[0]), self.score_of(self.keys[-1])

    def blocks(self) -> Iterator[Block]:
        """See `Ranks`."""
        done = 0
        last: _Level | None = None
        for positions, before in self._positions():
            block, last = self._block(positions, before, done, last)
            done += len(positions)
            yield block

    def _positions(self) -> Iterator[tuple[NDArray[np.int64], NDArray[np.uint32]]]:
        """Where the keys of anomalous samples lie, at least BLOCK at a time but for the last.

        Beside them the key before each, read while it is in the cache.
        """
        waiting: list[NDArray[np.int64]] = []
        keys: list[NDArray[np.uint32]] = []
        count = 0
        for at in range(0, len(self.keys), CHUNK):
            chunk = self.keys[at : at + CHUNK]
            found = _odd(chunk)
            if not len(found):
                continue
            keys.append(self.padded[at : at + CHUNK].take(found))
            found += at
            waiting.append(found)
            count += len(found)
            if count >= BLOCK:
                yield np.concatenate(waiting), np.concatenate(keys)
                waiting, keys, count = [], [], 0
        if waiting:
            yield np.concatenate(waiting), np.concatenate(keys)

    def _block(
        self,
        positions: NDArray[np.int64],
        before: NDArray[np.uint32],
        done: int,
        last: _Level | None,
    ) -> tuple[Block, _Level]:
        """Ranks of the samples at these positions, of which `done` samples lie below.

        `before` are the keys before them; `last` is the last level of the block before, which may
        go on here. This block's last is returned beside it.
        """
        keys, groups = self.anomalous.read(done, done + len(positions))
        below = np.arange(done, done + len(keys))
        not_above = positions - below
        smaller = not_above.copy()
        tied = positions_of(before == keys - _ONE)
        if len(tied):
            smaller[tied] -= self._equal_normal(positions[tied], before[tied])
        self._share(keys, below, smaller, last)
        level = _Level(int(keys[-1]), int(below[-1]), int(smaller[-1]))
        at_or_above = np.subtract(self.negatives, smaller, out=smaller)
        doubled = np.subtract(self.negatives, not_above, out=not_above)
        doubled += at_or_above
        hits = np.subtract(self.positives, below, out=below)
        return Block(doubled, at_or_above, hits, keys, groups), level

    def _equal_normal(
        self, positions: NDArray[np.int64], wanted: NDArray[np.uint32]
    ) -> NDArray[np.int64]:
        """How many keys just before these positions are the wanted ones: at least one each.

        A few steps back mostly find them all.
        """
        equal = np.ones(len(positions), np.int64)
        left = positions_of(self.padded.take(positions - 1) == wanted)
        for step in range(2, 4):
            equal[left] += 1
            left = left[self.padded[np.maximum(positions[left] - step, 0)] == wanted[left]]
        equal[left] = positions[left] - np.searchsorted(self.keys, wanted[left])
        return equal

    @staticmethod
    def _share(
        keys: NDArray[np.uint32],
        below: NDArray[np.int64],
        smaller: NDArray[np.int64],
        last: _Level | None,
    ) -> None:
        """Give samples of equal score the ranks of the first of them, in place."""
        repeated = positions_of(keys[1:] == keys[:-1])
        if len(repeated):
            repeated += 1
            # Successive repeats belong to one level, whose first sample lies before them.
            begins = np.append(True, repeated[1:] != repeated[:-1] + 1)
            first = (repeated[begins] - 1)[np.cumsum(begins) - 1]
            below[repeated], smaller[repeated] = below[first], smaller[first]
        if last is not None and last.key == keys[0]:
            going_on = int(np.searchsorted(keys, keys[0], side="right"))
            below[:going_on], smaller[:going_on] = last.below, last.smaller


@dataclass(frozen=True)
class _Level:
    """One score: its key, anomalous samples below it, normal samples below it."""

    key: int
    below: int
    smaller: int


def _odd(keys: NDArray[np.uint32]) -> NDArray[np.int64]:
    """Where the odd keys are."""
    flags = keys.astype(np.uint8)
    flags &= np.uint8(1)
    return positions_of(flags.view(bool))


class _Anomalous:
    """The keys of the anomalous samples, with their groups: one keys-only sort orders both.

    Attributes:
        keys: (P,) uint32, to be written by the owner.
    """

    def __init__(self, count: int, groups: NDArray[np.int32] | None) -> None:
        """Room for the keys; the groups are those of the samples in the order of writing."""
        self.groups: NDArray[np.uint32] | None = None
        if groups is None:
            self.sorted = self.keys = np.empty(count, np.uint32)
            return
        # Two words of one number: the key above, the group below.
        self.sorted = np.empty(count, np.uint64)
        words = self.sorted.view(np.uint32).reshape(-1, 2)
        lower, upper = (0, 1) if sys.byteorder == "little" else (1, 0)
        self.keys, self.groups = words[:, upper], words[:, lower]
        self.groups[:] = groups

    def sort(self) -> None:
        """Put them in ascending order."""
        self.sorted.sort()

    def read(self, start: int, stop: int) -> tuple[NDArray[np.uint32], NDArray[np.int64] | None]:
        """Some successive keys and their groups."""
        keys = np.ascontiguousarray(self.keys[start:stop])
        groups = None if self.groups is None else self.groups[start:stop].astype(np.int64)
        return keys, groups


class SearchedRanks(Ranks):
    """Scores that no `Coding` holds, or on an accelerator: both classes sorted apart."""

    def __init__(self, pieces: Sequence[Piece], groups: NDArray[np.int32] | None) -> None:
        """See `rank`."""
        device = is_tensor(pieces[0].scores)
        normal, anomalous, order = (_split_device if device else _split)(pieces)
        self.normal, self.anomalous = normal, anomalous
        self.positives, self.negatives = len(anomalous), len(normal)
        self.groups = None
        if groups is not None:
            wide = groups.astype(np.int64)
            self.groups = _on_device_of(order, wide)[order] if device else wide[order]
        self.size = DEVICE_BLOCK if device else BLOCK

    def score_of(self, key: Any) -> float:
        """See `Ranks`."""
        return float(key)

    def extremes(self) -> tuple[float, float]:
        """See `Ranks`."""
        parts = [part for part in (self.normal, self.anomalous) if len(part)]
        highest = [float(part[-1]) for part in parts]
        # max() of Python would drop a NaN that comes second.
        return min(float(part[0]) for part in parts), float(np.max(highest))

    def blocks(self) -> Iterator[Block]:
        """See `Ranks`."""
        search = _search_device if is_tensor(self.normal) else np.searchsorted
        for start in range(0, self.positives, self.size):
            stop = min(start + self.size, self.positives)
            keys = self.anomalous[start:stop]
            at_or_above = self.negatives - search(self.normal, keys, side="left")
            yield Block(
                doubled=at_or_above + self.negatives - search(self.normal, keys, side="right"),
                at_or_above=at_or_above,
                hits=self.positives - search(self.anomalous, keys, side="left"),
                keys=keys,
                groups=None if self.groups is None else self.groups[start:stop],
            )


def _split(pieces: Sequence[Piece]) -> tuple[Array, Array, Array]:
    """Sorted normal scores, sorted anomalous scores, and the order of the latter (NumPy)."""
    empty = pieces[0].scores.reshape(-1)[:0]
    normal = np.concatenate(
        [p.scores.reshape(-1) if p.anomalous is None else p.scores[~p.anomalous] for p in pieces]
    )
    anomalous = np.concatenate(
        [empty, *(p.scores[p.anomalous] for p in pieces if p.anomalous is not None)]
    )
    normal.sort()
    order = np.argsort(anomalous)
    return normal, anomalous[order], order


def _split_device(pieces: Sequence[Piece]) -> tuple[Array, Array, Array]:
    """The same for tensors, where they are."""
    import torch

    def read(scores: torch.Tensor) -> torch.Tensor:
        # Types that sort or search everywhere, and hold all values of the narrower ones.
        if scores.dtype in (torch.float32, torch.float64, torch.int64):
            return scores
        return scores.float() if scores.is_floating_point() else scores.long()

    normal, anomalous = [], [pieces[0].scores.flatten()[:0]]
    for piece in pieces:
        if piece.anomalous is None:
            normal.append(piece.scores.flatten())
            continue
        flags = _on_device_of(piece.scores, np.ascontiguousarray(piece.anomalous))
        normal.append(piece.scores[~flags])
        anomalous.append(piece.scores[flags])
    values, order = torch.sort(read(torch.cat(anomalous)))
    return torch.sort(read(torch.cat(normal))).values, values, order


def _on_device_of(tensor: Any, values: NDArray[Any]) -> Any:
    import torch

    return torch.from_numpy(values).to(tensor.device)


def _search_device(values: Any, keys: Any, side: str) -> Any:
    import torch

    return torch.searchsorted(values, keys, side=side)
