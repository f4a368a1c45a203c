"""Exact nearest neighbours in blocks: bounded memory, right for near-duplicates, CPU and CUDA.

|q - g|^2 = |q|^2 + |g|^2 - 2 q.g turns a search into one matrix product, but subtracts numbers that
may be far larger than the distance: in float32 a near-duplicate at 1e-3 among squared norms of 341
comes out up to a fifth wrong, and may lose to another. So products only rank here:

1. Each block of the gallery gives products, and a bound on what rounding may have moved. Queries
   for which it cannot hold a nearer one than those known are done with it.
2. Of the others the best `neighbours` are taken; where the next one lies within that bound, the row
   is ranked once more, in float64.
3. The squared distances of the winners are sums of squared differences.

So a result depends neither on the size of a block nor on which other queries are searched for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from bench.errors import MethodError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

LIMIT_MB = 64.0
"""Temporary memory of a search, whatever the size of queries and gallery."""

# Relative rounding of one product's factors: float32's own, TensorFloat32's and bfloat16's, which
# torch takes for products where a program allows it.
_ROUNDING = {"highest": 0.0, "high": 2.0**-11, "medium": 2.0**-8}
_FLOAT32 = 2.0**-24
# Standard deviations of a sum's rounding error that are allowed for (Higham and Mary, 2019).
_DEVIATIONS = 8.0
# Gallery vectors in a block: more would not make a product faster.
_LONGEST = 8192


@dataclass(frozen=True)
class Neighbours:
    """The nearest neighbours of some queries, nearest first.

    Attributes:
        squares: (Q, k) squared Euclidean distances.
        index: (Q, k) rows of the gallery; of equally near ones any.
    """

    squares: Tensor
    index: Tensor


def nearest(
    queries: Tensor, gallery: Tensor, neighbours: int = 1, *, limit_mb: float = LIMIT_MB
) -> Neighbours:
    """The nearest vectors of a gallery.

    Args:
        queries: (Q, C) float32.
        gallery: (N, C), on any device and of any floating-point type; moved and converted by block.
        neighbours: how many of each query, nearest first.
        limit_mb: temporary memory; the (Q, neighbours) results come on top.

    Raises:
        MethodError: fewer vectors than neighbours, or vectors of another width.
    """
    search = Search(queries, neighbours, limit_mb=limit_mb)
    search.add(gallery)
    return search.result()


class Search:
    """A search whose gallery comes in parts, counted through in the order added.

    Attributes:
        seen: gallery vectors so far.
    """

    def __init__(self, queries: Tensor, neighbours: int = 1, *, limit_mb: float = LIMIT_MB) -> None:
        if neighbours < 1:
            raise MethodError(f"neighbours = {neighbours}; a search needs at least 1")
        self.queries = queries
        self.neighbours = neighbours
        self.seen = 0
        self._limit = int(limit_mb * 1e6)
        self._squares = queries.new_full((len(queries), neighbours), math.inf)
        self._index = torch.full_like(self._squares, -1, dtype=torch.int64)
        self._lengths = queries.square().sum(1)
        self._tolerance = tolerance(queries.shape[1])

    def add(self, gallery: Tensor) -> None:
        """Look through some more of the gallery.

        Args:
            gallery: (N, C), on any device.
        """
        if gallery.shape[1] != self.queries.shape[1]:
            raise MethodError(
                f"queries have {self.queries.shape[1]} dimensions, the gallery "
                f"{gallery.shape[1]}; they must come from the same features"
            )
        width = gallery.shape[1]
        # A quarter of the memory for the block in float64, another for the products of its rows.
        step = max(1, min(len(gallery), _LONGEST, self._limit // (4 * 8 * width)))
        rows = self._limit // (4 * 5 * step)
        for start in range(0, len(gallery), step):
            block = gallery[start : start + step].to(self.queries.device, torch.float32)
            lengths = block.square().sum(1)
            for part in _slices(len(self.queries), rows):
                self._look(part, block, lengths, self.seen + start)
        self.seen += len(gallery)

    def result(self) -> Neighbours:
        """The neighbours among all vectors added so far."""
        if self.seen < self.neighbours:
            raise MethodError(
                f"{self.neighbours} neighbours were asked for among {self.seen} vectors; ask for "
                "fewer, or give a larger gallery"
            )
        return Neighbours(self._squares, self._index)

    def _look(self, part: slice, block: Tensor, lengths: Tensor, offset: int) -> None:
        """Take the nearest of one block for some of the queries."""
        queries, known = self.queries[part], self._squares[part]
        wanted = min(self.neighbours, len(block))
        # |g|^2 - 2 q.g: the query's own length does not change the order.
        products = torch.addmm(lengths, queries, block.T, alpha=-2)
        slack = self._tolerance * (self._lengths[part] + lengths.max())
        hopeful = products.amin(1) + self._lengths[part] - slack < known[:, -1]
        found = hopeful.nonzero()[:, 0]
        if not len(found):
            return
        if len(found) < len(queries):
            products, queries, slack = products[found], queries[found], slack[found]
        # One more than wanted, to see whether the last is apart from it.
        best, index = products.topk(min(wanted + 1, len(block)), largest=False)
        index = index[:, :wanted]
        if len(block) > wanted:
            unclear = (best[:, wanted] <= best[:, wanted - 1] + 2 * slack).nonzero()[:, 0]
            if len(unclear):
                index[unclear] = self._in_double(queries[unclear], block, wanted)
        squares = torch.cat((known[found], self._distances(queries, block, index)), 1)
        index = torch.cat((self._index[part][found], index + offset), 1)
        squares, order = squares.sort(dim=1, stable=True)
        self._squares[part][found] = squares[:, : self.neighbours]
        self._index[part][found] = index.gather(1, order)[:, : self.neighbours]

    def _in_double(self, queries: Tensor, block: Tensor, wanted: int) -> Tensor:
        """(Q, wanted) rows of the block, ranked by products in float64."""
        double = block.double()
        lengths = double.square().sum(1)
        found = []
        for part in _slices(len(queries), self._limit // (4 * 8 * (len(block) + queries.shape[1]))):
            products = torch.addmm(lengths, queries[part].double(), double.T, alpha=-2)
            found.append(products.topk(wanted, largest=False).indices)
        return torch.cat(found)

    def _distances(self, queries: Tensor, block: Tensor, index: Tensor) -> Tensor:
        """(Q, k) sums of squared differences to some rows of the block."""
        squares = queries.new_empty(index.shape)
        step = self._limit // (4 * 4 * queries.shape[1] * index.shape[1])
        for part in _slices(len(queries), step):
            difference = block[index[part]].sub_(queries[part, None])
            squares[part] = difference.square_().sum(2)
        return squares


def tolerance(width: int) -> float:
    """Bound on what rounding adds to a squared distance by products, over |q|^2 + |g|^2.

    Lengths and product are rounded alike, so each counts once.
    """
    factors = 2 * _ROUNDING[torch.get_float32_matmul_precision()]
    return factors + 2 * _DEVIATIONS * math.sqrt(width) * _FLOAT32


def _slices(count: int, step: int) -> Iterator[slice]:
    step = max(1, step)
    for start in range(0, count, step):
        yield slice(start, min(start + step, count))
