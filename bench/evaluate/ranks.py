"""Where anomalous scores stand among normal ones: the sorted data that all metrics share.

Scores of at most 32 bits are sorted as integers that carry the label in their lowest bit, so one
keys-only sort of all pixels gives both counts of every anomalous pixel: no index is sorted, and
nothing is searched. 64-bit scores are sorted by class and searched, and so are tensors on an
accelerator, there (`bench.evaluate.device`). All three give the same blocks.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.evaluate.coding import Coding
from bench.evaluate.device import DeviceRanks
from bench.evaluate.inputs import is_tensor
from bench.evaluate.positions import positions_of
from bench.evaluate.samples import Block, Piece, Ranks, step_ends

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from bench.evaluate.inputs import Array

__all__ = ["rank"]

BLOCK = 1 << 14
"""Anomalous samples in a step, at least: the temporaries stay in the second-level cache."""

CHUNK = 1 << 17
"""Sorted samples among which anomalous ones are looked for at a time."""

_ONE = np.uint32(1)


def rank(pieces: Sequence[Piece], groups: NDArray[np.int32] | None = None) -> Ranks:
    """Sort the samples.

    Args:
        pieces: samples, all of one type; at least one sample.
        groups: (P,) group of every anomalous sample, in the order of the pieces.
    """
    if is_tensor(pieces[0].scores):
        return DeviceRanks(pieces, groups, chunk=CHUNK, least=BLOCK)
    coding = Coding.of([piece.scores for piece in pieces])
    return SearchedRanks(pieces, groups) if coding is None else KeyedRanks(coding, pieces, groups)


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
        return Block(doubled, at_or_above, hits, keys, groups, (len(keys),)), level

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
    """Scores that no `Coding` holds: both classes sorted apart."""

    def __init__(self, pieces: Sequence[Piece], groups: NDArray[np.int32] | None) -> None:
        """See `rank`."""
        self.normal, anomalous = _split(pieces)
        self.positives, self.negatives = len(anomalous), len(self.normal)
        self.groups: NDArray[np.int64] | None = None
        if groups is None:
            self.anomalous = np.sort(anomalous)
        else:
            order = np.lexsort((groups, anomalous))
            self.anomalous, self.groups = anomalous[order], groups[order].astype(np.int64)

    def score_of(self, key: Any) -> float:
        """See `Ranks`; of the two zeros the positive one."""
        return float(key) + 0.0

    def extremes(self) -> tuple[float, float]:
        """See `Ranks`."""
        parts = [part for part in (self.normal, self.anomalous) if len(part)]
        highest = [float(part[-1]) for part in parts]
        # max() of Python would drop a NaN that comes second.
        return min(float(part[0]) for part in parts), float(np.max(highest))

    def blocks(self) -> Iterator[Block]:
        """See `Ranks`."""
        not_above = np.searchsorted(self.normal, self.anomalous, side="right")
        chunks = np.bincount((np.arange(self.positives) + not_above) // CHUNK)
        start = 0
        for stop in step_ends(chunks, BLOCK):
            keys = self.anomalous[start:stop]
            at_or_above = self.negatives - np.searchsorted(self.normal, keys, side="left")
            yield Block(
                doubled=at_or_above + self.negatives - not_above[start:stop],
                at_or_above=at_or_above,
                hits=self.positives - np.searchsorted(self.anomalous, keys, side="left"),
                keys=keys,
                groups=None if self.groups is None else self.groups[start:stop],
                ends=(stop - start,),
            )
            start = stop


def _split(pieces: Sequence[Piece]) -> tuple[Array, Array]:
    """Sorted normal scores, and anomalous scores in the order of the pieces."""
    empty = pieces[0].scores.reshape(-1)[:0]
    normal = np.concatenate(
        [p.scores.reshape(-1) if p.anomalous is None else p.scores[~p.anomalous] for p in pieces]
    )
    anomalous = np.concatenate(
        [empty, *(p.scores[p.anomalous] for p in pieces if p.anomalous is not None)]
    )
    normal.sort()
    return normal, anomalous
