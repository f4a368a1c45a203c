"""Where anomalous scores stand among normal ones: the sorted data that all metrics share.

Scores of at most 32 bits are sorted as integers that carry the label in their lowest bit, so one
keys-only sort of all pixels gives both counts of every anomalous pixel: no index is sorted, and
nothing is searched but ties. 64-bit scores and accelerators sort the two classes apart and search.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.evaluate.inputs import is_tensor

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from bench.evaluate.inputs import Array

__all__ = ["Block", "Piece", "Ranks", "rank", "to_float64"]

BLOCK = 1 << 15
"""Anomalous samples per block on the CPU: the temporaries stay in the second-level cache."""

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
    """Anomalous samples in ascending order of their scores, equal ones as one level.

    Attributes:
        above: (k,) int64, normal samples with a greater score.
        at_or_above: (k,) int64, normal samples with at least this score.
        hits: (k,) int64, anomalous samples with at least this score.
        counts: (k,) int64, samples of this block at this level; None: one each. A level may go on
            in the next block, with the same ranks.
        keys: (k,), what `Ranks.score_of` turns into the score.
        groups: (sum of counts,) int64, the group (region) of every sample, level by level; None
            where the samples have none.
    """

    above: Array
    at_or_above: Array
    hits: Array
    counts: Array | None
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
    first = pieces[0].scores
    if is_tensor(first) or first.dtype.itemsize == 8:
        return SearchedRanks(pieces, groups)
    return KeyedRanks(pieces, groups)


def to_float64(values: Array) -> Array:
    """Counts as float64, where they are."""
    return values.double() if is_tensor(values) else values.astype(np.float64)


class KeyedRanks(Ranks):
    """Scores of at most 32 bits as unsigned keys, ascending; the lowest bit marks anomalous ones.

    An ordered image of a 32-bit score leaves no bit for the label, so negative and other scores
    lie in two parts, and each part drops the bit that all its scores share.
    """

    def __init__(self, pieces: Sequence[Piece], groups: NDArray[np.int32] | None) -> None:
        """See `rank`."""
        self.dtype = np.dtype(pieces[0].scores.dtype)
        size = sum(piece.scores.size for piece in pieces)
        self.positives = sum(
            int(np.count_nonzero(p.anomalous)) for p in pieces if p.anomalous is not None
        )
        self.negatives = size - self.positives
        self.groups = None if groups is None else _in_order(pieces, groups)
        self.keys = np.empty(size, np.uint32)
        self.split = self._fill(pieces)
        self.keys[: self.split].sort()
        self.keys[self.split :].sort()

    def _fill(self, pieces: Sequence[Piece]) -> int:
        """Write the keys, negative scores from the left and others from the right.

        Returns where the parts meet.
        """
        left, right = 0, len(self.keys)
        for piece in pieces:
            codes, is_low = _codes(piece.scores.reshape(-1))
            if is_low is None:
                target = self.keys[right - len(codes) : right]
                right -= len(codes)
            else:
                target = np.empty_like(codes)
            np.left_shift(codes, _ONE, out=target)
            if piece.anomalous is not None:
                target |= piece.anomalous.reshape(-1)
            if is_low is not None:
                low, others = target[is_low], target[~is_low]
                self.keys[left : left + len(low)] = low
                self.keys[right - len(others) : right] = others
                left, right = left + len(low), right - len(others)
        return left

    def score_of(self, key: Any) -> float:
        """See `Ranks`; a key here is (bits, whether it lies in the low part)."""
        bits, is_low = key
        return float(_decode(np.uint32(bits) >> _ONE, bool(is_low), self.dtype))

    def extremes(self) -> tuple[float, float]:
        """See `Ranks`."""
        last = len(self.keys) - 1
        low, high = (self.keys[0], self.split > 0), (self.keys[last], self.split == last + 1)
        return self.score_of(low), self.score_of(high)

    def blocks(self) -> Iterator[Block]:
        """See `Ranks`."""
        done = 0
        for start, stop in ((0, self.split), (self.split, len(self.keys))):
            level: tuple[int, int, int] | None = None
            for positions in self._positions(start, stop):
                block, level = self._block(positions, done, start, stop, level)
                done += len(positions)
                yield block

    def _positions(self, start: int, stop: int) -> Iterator[NDArray[np.int64]]:
        """Where the keys of anomalous samples lie, at least BLOCK at a time but for the last."""
        waiting: list[NDArray[np.int64]] = []
        count = 0
        for at in range(start, stop, 4 * BLOCK):
            chunk = self.keys[at : min(at + 4 * BLOCK, stop)]
            found = np.flatnonzero((chunk & _ONE).astype(bool))
            if not len(found):
                continue
            found += at
            waiting.append(found)
            count += len(found)
            if count >= BLOCK:
                yield np.concatenate(waiting) if len(waiting) > 1 else found
                waiting, count = [], 0
        if waiting:
            yield np.concatenate(waiting)

    def _block(
        self,
        positions: NDArray[np.int64],
        done: int,
        start: int,
        stop: int,
        level: tuple[int, int, int] | None,
    ) -> tuple[Block, tuple[int, int, int]]:
        """Ranks of the samples at these positions, of which `done` samples lie below.

        `level` is (key, samples below, normal samples not above) of the last level before, which
        may go on here; the same of this block's last level is returned beside it.
        """
        keys = self.keys[positions]
        starts = np.flatnonzero(keys[1:] != keys[:-1]) + 1
        if len(starts) == len(keys) - 1:
            counts = None
            below = np.arange(done, done + len(keys))
            firsts = positions
        else:
            starts = np.concatenate([[0], starts])
            counts = np.diff(starts, append=len(keys))
            below = starts + done
            firsts, keys = positions[starts], keys[starts]
        # Equal normal scores have smaller keys, so they lie before the first of the level.
        not_above = firsts - below
        if level is not None and level[0] == keys[0]:
            below[0], not_above[0] = level[1], level[2]
        smaller = self._smaller(keys, below, not_above, start, stop)
        groups = None
        if self.groups is not None:
            groups = self.groups[done : done + len(positions)].astype(np.int64)
        block = Block(
            above=self.negatives - not_above,
            at_or_above=self.negatives - smaller,
            hits=self.positives - below,
            counts=counts,
            keys=_KeyView(keys, start < self.split),
            groups=groups,
        )
        return block, (int(keys[-1]), int(below[-1]), int(not_above[-1]))

    def _smaller(
        self,
        keys: NDArray[np.uint32],
        below: NDArray[np.int64],
        not_above: NDArray[np.int64],
        start: int,
        stop: int,
    ) -> NDArray[np.int64]:
        """Normal samples with a smaller score; only those equal to a normal one are searched."""
        before = below + not_above - 1
        tied = np.flatnonzero((self.keys[before] == keys - _ONE) & (before >= start))
        if not len(tied):
            return not_above
        smaller: NDArray[np.int64] = not_above.copy()
        part = self.keys[start:stop]
        smaller[tied] = np.searchsorted(part, keys[tied] - _ONE) + start - below[tied]
        return smaller


@dataclass(frozen=True)
class _KeyView:
    """Keys of one part; an item is what `KeyedRanks.score_of` takes."""

    bits: NDArray[np.uint32]
    is_low: bool

    def __getitem__(self, index: int) -> tuple[int, bool]:
        return int(self.bits[index]), self.is_low


def _codes(scores: NDArray[Any]) -> tuple[NDArray[np.uint32], NDArray[np.bool_] | None]:
    """Integers of which the 31 lower bits are in the order of the scores, within either part.

    The second array marks the lower part, negative numbers (None: there are none). The result may
    share memory with the scores where no score is negative, and is a copy otherwise.
    """
    if scores.dtype == np.uint32:
        low = scores < np.uint32(0x80000000)
        return scores.copy(), low
    if scores.dtype.kind in "bu":
        return scores.astype(np.uint32), None
    if scores.dtype.kind == "i":
        wide = scores.astype(np.int32)
        return wide.view(np.uint32), (wide < 0 if wide.min(initial=0) < 0 else None)
    # float16 is widened: float32 holds all its values, in the same order.
    wide = np.ascontiguousarray(scores, np.float32)
    signed = wide.view(np.int32)
    if signed.min(initial=0) >= 0:
        return wide.view(np.uint32), None
    # Adding zero makes -0.0 the same bits as +0.0.
    signed = (wide + np.float32(0)).view(np.int32)
    # The greater the magnitude, the lower a negative number: its bits are inverted.
    return (signed ^ (signed >> 31)).view(np.uint32), signed < 0


def _decode(code: np.uint32, is_low: bool, dtype: np.dtype[Any]) -> float:
    """The score of 31 bits of `_codes` in one of the parts."""
    high_bit = np.uint32(0x80000000)
    if dtype == np.uint32:
        return float(code if is_low else code | high_bit)
    if dtype.kind in "iu":
        return float((code | high_bit if is_low else code).view(np.int32))
    if dtype.kind == "b":
        return float(code)
    return float((~code if is_low else code).view(np.float32))


def _in_order(pieces: Sequence[Piece], groups: NDArray[np.int32]) -> NDArray[np.uint32]:
    """The groups in ascending order of their samples' scores: one keys-only sort of 64 bits."""
    tagged = np.empty(len(groups), np.uint64)
    high = np.uint32(0x80000000)
    at = 0
    for piece in pieces:
        if piece.anomalous is None:
            continue
        codes, is_low = _codes(piece.scores[piece.anomalous])
        ordered = codes | high
        if is_low is not None:
            ordered[is_low] &= ~high
        tagged[at : at + len(codes)] = ordered
        at += len(codes)
    tagged <<= np.uint64(32)
    tagged |= groups.view(np.uint32)
    tagged.sort()
    return tagged.astype(np.uint32)


class SearchedRanks(Ranks):
    """Scores of 64 bits, or on an accelerator: both classes sorted apart, and searched."""

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
            yield Block(
                above=self.negatives - search(self.normal, keys, side="right"),
                at_or_above=self.negatives - search(self.normal, keys, side="left"),
                hits=self.positives - search(self.anomalous, keys, side="left"),
                counts=None,
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
