"""Counts of pixels per cell of the score axis: a state of fixed size that adds up in any order."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bench.evaluate.cells import MIXED, UNSEEN, Cells, ordered_keys, score_of_key
from bench.evaluate.certificate import WEIGHT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.evaluate.certificate import Certificate

Array = npt.NDArray[Any]
Index = npt.NDArray[np.intp]

CHUNK = 1 << 16
"""Pixels or cells handled at a time: the temporary arrays stay in the cache."""


def region_weights(
    ids: npt.NDArray[np.int32], sizes: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Share 2^44 units out over the pixels of every region, whole units each.

    Args:
        ids: (P,) region of every anomalous pixel, from 0.
        sizes: (R,) pixels of the regions.

    Returns:
        (P,) units; the first pixels of a region take one more until its sum is 2^44 exactly.
    """
    # A stable sort of 16-bit numbers is a radix sort.
    short = ids.astype(np.uint16) if len(sizes) <= 1 << 16 else ids
    rank = np.empty(len(ids), np.int64)
    starts = np.cumsum(sizes) - sizes
    rank[np.argsort(short, kind="stable")] = np.arange(len(ids)) - np.repeat(starts, sizes)
    weights: npt.NDArray[np.int64] = (WEIGHT // sizes)[ids] + (rank < (WEIGHT % sizes)[ids])
    return weights


class Tally:
    """Per cell: all pixels, anomalous pixels, their weight, and the one score seen there if any.

    Every array is a sum of integers, or a set that only grows, so the order of images, batches and
    merges leaves no trace.
    """

    def __init__(self, cells: Cells) -> None:
        self.cells = cells
        self.total = np.zeros(cells.count, np.int64)
        self.anomalous = np.zeros(cells.count, np.int64)
        self.weight = np.zeros(cells.count, np.int64)
        # Keys; not needed where a cell cannot hold two scores.
        held = 0 if cells.single else cells.count
        self.seen: Array = np.zeros(held, f"u{cells.dtype.itemsize}")

    def add(
        self, scores: Array, mask: npt.NDArray[np.bool_] | None, weights: npt.NDArray[np.int64]
    ) -> None:
        """Count the pixels of one image.

        Args:
            scores: (S,) of the cells' type, contiguous, no NaN.
            mask: S anomalous pixels or none, of any shape; None: no anomalous pixel.
            weights: (P,) units of the anomalous pixels, in their order.
        """
        used = 0
        flat = np.zeros(0, bool) if mask is None else mask.ravel()
        for start in range(0, len(scores), CHUNK):
            keys = ordered_keys(scores[start : start + CHUNK])
            index = self.cells.index(keys)
            np.add.at(self.total, index, 1)
            if len(self.seen):
                self._look(index, keys)
            hit = np.flatnonzero(flat[start : start + CHUNK])
            if len(hit):
                index = index[hit]
                np.add.at(self.anomalous, index, 1)
                np.add.at(self.weight, index, weights[used : used + len(hit)])
                used += len(hit)

    def _look(self, index: Index, keys: Array) -> None:
        known = self.seen.take(index, mode="clip")
        news = known != keys
        news &= known != MIXED
        at = np.flatnonzero(news)
        if len(at):
            _note(self.seen, index[at], keys[at])

    def merge(self, other: Tally) -> None:
        """Add the pixels of another tally with the same cells."""
        self.total += other.total
        self.anomalous += other.anomalous
        self.weight += other.weight
        for part in _blocks(len(self.seen)):
            theirs = other.seen[part]
            at = np.flatnonzero(theirs != UNSEEN)
            _note(self.seen[part], at, theirs[at])

    def certify(self, certificate: Certificate) -> int:
        """Hand all occupied cells over, by descending score; return how many there are."""
        occupied = 0
        for part in reversed(list(_blocks(self.cells.count))):
            cell = np.flatnonzero(self.total[part])[::-1]
            occupied += len(cell)
            if len(cell):
                cell += part.start
                anomalous = self.anomalous[cell]
                certificate.add(
                    cell,
                    self.total[cell] - anomalous,
                    anomalous,
                    self.weight[cell],
                    self.seen[cell] != MIXED if len(self.seen) else np.ones(len(cell), bool),
                )
        return occupied

    @property
    def mixed(self) -> int:
        """Number of cells with several distinct scores."""
        return int(np.count_nonzero(self.seen == MIXED))

    def lower_edge(self, cell: int) -> float:
        """A score t such that score >= t holds in this cell and above, and nowhere else."""
        if len(self.seen) and self.seen[cell] not in (UNSEEN, MIXED):
            key = int(self.seen[cell])
        else:
            key = self.cells.lowest_key(cell)
        edge = score_of_key(key, self.cells.dtype)
        # Keys below that of -inf belong to NaNs, which no pixel has.
        return -math.inf if math.isnan(edge) else edge


def _note(seen: Array, at: Index, keys: Array) -> None:
    """Enter keys into cells: a second distinct key makes a cell MIXED."""
    fresh = seen[at] == UNSEEN
    seen[at[fresh]] = keys[fresh]  # of several, one stays, and the others differ from it
    seen[at[seen[at] != keys]] = MIXED


def _blocks(count: int) -> Iterator[slice]:
    return (slice(start, start + CHUNK) for start in range(0, count, CHUNK))
