"""Exact ranks of samples that do not fit in memory: sorted range by range of the scores.

Counts of the samples in cells of the score axis say how it is cut into ranges that fit. Each range
is then gathered and sorted by a pass over all samples, and its ranks are moved by the number of
samples in the ranges above. Nothing is approximated, whatever the room; less room is more passes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.evaluate.cells import ordered_keys, score_of_key
from bench.evaluate.ranks import KeyedRanks, SearchedRanks
from bench.evaluate.samples import Block, Piece, Ranks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from bench.evaluate.coding import Coding

__all__ = ["Labelled", "RangedRanks"]

CELL_BITS = 16
"""Cells of one pass that counts."""

NORMAL_BYTES, ANOMALOUS_BYTES = 8, 28
"""Held of a sample while its range is sorted: its score and key; also its group and copies."""


@dataclass(frozen=True)
class Labelled:
    """The samples of one image.

    Attributes:
        scores: (S,) contiguous, of a type that `bench.evaluate.cells.score_dtype` gives, no NaN.
        anomalous: (S,); None: all are normal.
        groups: (P,) group of every anomalous sample, in their order.
    """

    scores: NDArray[Any]
    anomalous: NDArray[np.bool_] | None
    groups: NDArray[np.int32]


@dataclass(frozen=True)
class _Range:
    """Scores from one to another, in the order of their keys.

    Attributes:
        first, last: keys, both inside.
        normal, anomalous: samples.
    """

    first: int
    last: int
    normal: int
    anomalous: int

    def __add__(self, above: _Range) -> _Range:
        normal, anomalous = self.normal + above.normal, self.anomalous + above.anomalous
        return _Range(self.first, above.last, normal, anomalous)

    @property
    def bytes(self) -> int:
        return NORMAL_BYTES * self.normal + ANOMALOUS_BYTES * self.anomalous

    @property
    def is_single(self) -> bool:
        """Whether it holds one score, so that there is nothing to sort."""
        return self.first == self.last


class RangedRanks(Ranks):
    """Samples that are read anew for each range of scores."""

    def __init__(
        self,
        read: Callable[[], Iterator[Labelled]],
        extremes: tuple[float, float],
        coding: Coding | None,
        room: int,
    ) -> None:
        """
        Args:
            read: goes through all samples, the same at every call; at least one sample.
            extremes: lowest and highest score, finite or not.
            coding: of all scores; None where there is none.
            room: bytes that a range may take. One score is a range, however often it occurs.
        """
        self.read = read
        self.coding = coding
        self.room = room
        self._extremes = extremes
        self.dtype = next(read()).scores.dtype
        low, high = (int(ordered_keys(np.array([x], self.dtype))[0]) for x in extremes)
        self.ranges = self._cut(low, high)
        self.positives = sum(part.anomalous for part in self.ranges)
        self.negatives = sum(part.normal for part in self.ranges)

    def score_of(self, key: Any) -> float:
        """See `Ranks`."""
        return float(key) if self.coding is None else self.coding.decode(int(key) >> 1)

    def extremes(self) -> tuple[float, float]:
        """See `Ranks`."""
        return self._extremes

    def blocks(self) -> Iterator[Block]:
        """See `Ranks`."""
        normal, anomalous = self.negatives, self.positives
        for part in self.ranges:
            normal -= part.normal
            anomalous -= part.anomalous
            if not part.anomalous:
                continue
            for block in self._one_score(part) if part.is_single else self._sorted(part):
                yield replace(
                    block,
                    doubled=block.doubled + 2 * normal,
                    at_or_above=block.at_or_above + normal,
                    hits=block.hits + anomalous,
                )

    def _cut(self, first: int, last: int) -> list[_Range]:
        """The scores between two keys as ranges that fit, ascending; empty ones are left out."""
        ranges: list[_Range] = []
        for cell in self._cells(first, last):
            if cell.bytes > self.room and not cell.is_single:
                ranges += self._cut(cell.first, cell.last)
            elif ranges and (ranges[-1] + cell).bytes <= self.room:
                ranges[-1] += cell
            else:
                ranges.append(cell)
        return ranges

    def _cells(self, first: int, last: int) -> list[_Range]:
        """The occupied cells between two keys, by one pass."""
        shift = max((last - first).bit_length() - CELL_BITS, 0)
        count = ((last - first) >> shift) + 1
        normal, anomalous = np.zeros(count, np.int64), np.zeros(count, np.int64)
        for image in self.read():
            keys = ordered_keys(image.scores)
            kind = keys.dtype.type
            inside = (keys >= kind(first)) & (keys <= kind(last))
            cells = ((keys[inside] - kind(first)) >> kind(shift)).astype(np.intp)
            normal += np.bincount(cells, minlength=count)
            if image.anomalous is not None:
                anomalous += np.bincount(cells[image.anomalous[inside]], minlength=count)
        normal -= anomalous
        found = []
        for cell in np.flatnonzero(normal + anomalous).tolist():
            start = first + (cell << shift)
            stop = min(start + (1 << shift) - 1, last)
            found.append(_Range(start, stop, int(normal[cell]), int(anomalous[cell])))
        return found

    def _inside(self, scores: NDArray[Any], part: _Range) -> NDArray[np.bool_]:
        # By the first score above: the key below that of 0.0 belongs to no score, but reads -0.0.
        flags: NDArray[np.bool_] = scores >= self.dtype.type(score_of_key(part.first, self.dtype))
        if part.last < self.ranges[-1].last:
            flags &= scores < self.dtype.type(score_of_key(part.last + 1, self.dtype))
        return flags

    def _sorted(self, part: _Range) -> Iterator[Block]:
        """Blocks of one range, as if it were all there is."""
        pieces: list[Piece] = []
        groups = [np.zeros(0, np.int32)]
        for image in self.read():
            inside = self._inside(image.scores, part)
            scores = image.scores[inside]
            if image.anomalous is None or not len(scores):
                pieces += [Piece(scores, None)] if len(scores) else []
                continue
            pieces.append(Piece(scores, image.anomalous[inside]))
            groups.append(image.groups[inside[image.anomalous]])
        ids = np.concatenate(groups)
        ranks = (
            SearchedRanks(pieces, ids)
            if self.coding is None
            else KeyedRanks(self.coding, pieces, ids)
        )
        pieces.clear()
        yield from ranks.blocks()

    def _one_score(self, part: _Range) -> Iterator[Block]:
        """Blocks of a range with one score: its samples share their ranks, in any order."""
        score = np.array([score_of_key(part.first, self.dtype)], self.dtype)
        key = score if self.coding is None else self.coding.encode(score) << np.uint32(1)
        for image in self.read():
            if image.anomalous is None:
                continue
            ids = image.groups[image.scores[image.anomalous] == score]
            if len(ids):
                yield Block(
                    doubled=np.full(len(ids), part.normal),
                    at_or_above=np.full(len(ids), part.normal),
                    hits=np.full(len(ids), part.anomalous),
                    keys=np.repeat(key, len(ids)),
                    groups=ids.astype(np.int64),
                    ends=(len(ids),),
                )
