"""Greedy selection of vectors that lie near all others, without looking at all of them each time.

Both selections take, again and again, the vector farthest from those taken so far. Its distance to
the set only shrinks as the set grows, so an old distance is an upper bound. Vectors lie in chunks,
and a chunk is brought up to date only when its bound is the largest: by one matrix product with all
the vectors that it has not seen yet. The picks are those of the plain loop.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

# Vectors of a chunk: on a CPU few, so that the cache holds them; on a GPU as many as fill it.
_CHUNK = {"cpu": 512, "cuda": 1 << 16}
# Vectors taken that a chunk sees in one product.
_TAKEN = 256


def approximate_greedy(vectors: Tensor, count: int, start: Tensor) -> Tensor:
    """The published selection (`approx_greedy_coreset` of the authors' code).

    A vector's distance begins as the mean of its distances to the start points. These are not
    members of the set, and the mean never leaves the minimum: not quite a k-centre.

    Args:
        vectors: (N, D) float32.
        count: how many to select.
        start: (S,) rows of the start points.

    Returns:
        (count,) rows in the order selected.
    """
    lengths = vectors.square().sum(1)
    total = torch.zeros_like(lengths)
    for row in start.tolist():
        squares = torch.addmv(lengths + lengths[row], vectors, vectors[row], alpha=-2)
        total += squares.clamp_(min=0).sqrt_()
    return _farthest(vectors, lengths, count, (total / len(start)).square_())


def greedy(vectors: Tensor, count: int) -> Tensor:
    """The exact k-centre selection (`greedy_coreset` of the authors' code).

    It begins with the vector whose distances to all others have the largest norm, which the
    authors find in a matrix of all distances. The squares of such a row add up to
    N |x - mean|^2 and a constant, so it is the vector farthest from the mean.

    Args:
        vectors: (N, D) float32.
        count: how many to select.

    Returns:
        (count,) rows in the order selected.
    """
    mean = vectors.mean(0, dtype=torch.float64)
    size = _chunk(vectors)
    apart = [(part - mean).square().sum(1) for part in torch.split(vectors, size)]
    first = int(torch.cat(apart).argmax())
    lengths = vectors.square().sum(1)
    squares = torch.full_like(lengths, torch.inf)
    squares[first] = torch.finfo(squares.dtype).max
    _Chunk(vectors, lengths, squares).see(vectors[first : first + 1], lengths[first : first + 1])
    rest = _farthest(vectors, lengths, count - 1, squares)
    return torch.cat((torch.tensor([first]), rest))


@dataclass
class _Chunk:
    """Some of the vectors, how far each is from the set, and how much of the set it has seen.

    Attributes:
        vectors: (n, D).
        lengths: (n,) squared lengths.
        squares: (n,) smallest squared distances to what was seen.
        seen: how many members of the set those are.
    """

    vectors: Tensor
    lengths: Tensor
    squares: Tensor
    seen: int = 0

    def see(self, taken: Tensor, lengths: Tensor) -> None:
        """Bring the distances up to date with further members of the set."""
        for new, its in zip(torch.split(taken, _TAKEN), torch.split(lengths, _TAKEN), strict=True):
            # |x|^2 + |t|^2 - 2 x.t; |x|^2 does not change which member is the nearest.
            nearest = torch.addmm(its, self.vectors, new.T, alpha=-2).amin(1)
            # Rounding can push a tiny square below zero.
            nearest.add_(self.lengths).clamp_(min=0)
            torch.minimum(self.squares, nearest, out=self.squares)
        self.seen += len(taken)


def _farthest(vectors: Tensor, lengths: Tensor, count: int, squares: Tensor) -> Tensor:
    """Rows taken one after the other, each the farthest from the set; of equals the first.

    Args:
        vectors: (N, D).
        lengths: (N,) squared lengths.
        count: how many to take.
        squares: (N,) squared distances to begin with; overwritten.

    Returns:
        (count,) rows in the order taken.
    """
    size = _chunk(vectors)
    parts = zip(*(torch.split(t, size) for t in (vectors, lengths, squares)), strict=True)
    chunks = [_Chunk(*part) for part in parts]
    bounds = torch.stack([chunk.squares.max() for chunk in chunks]).cpu()
    taken, its = vectors.new_empty(count, vectors.shape[1]), lengths.new_empty(count)
    rows = torch.empty(count, dtype=torch.int64)
    for number in range(count):
        # An old bound that is not the largest need not be known better; the first of equals wins.
        while (chunk := chunks[place := int(bounds.argmax())]).seen < number:
            chunk.see(taken[chunk.seen : number], its[chunk.seen : number])
            bounds[place] = chunk.squares.max()
        row = int(chunk.squares.argmax())
        rows[number] = place * size + row
        taken[number], its[number] = chunk.vectors[row], chunk.lengths[row]
    return rows


def _chunk(vectors: Tensor) -> int:
    return _CHUNK.get(vectors.device.type, _CHUNK["cuda"])
