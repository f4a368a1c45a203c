"""The ranks of tensors, computed where they lie: the same blocks as those of arrays.

Counts are integers, and floats are divided in double precision, so that all numbers are those of
the host, bit for bit.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.evaluate.samples import Block, Piece, Ranks, step_ends

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import torch
    from numpy.typing import NDArray

__all__ = ["DeviceRanks"]

DEVICE_BLOCK = 1 << 22
"""Anomalous samples per block, at least: large enough to fill a device, small beside its memory."""


class DeviceRanks(Ranks):
    """Tensors of any type: both classes sorted apart, where they are."""

    def __init__(
        self, pieces: Sequence[Piece], groups: NDArray[np.int32] | None, *, chunk: int, least: int
    ) -> None:
        """See `rank`.

        Args:
            chunk: sorted samples in a chunk.
            least: anomalous samples in a step; see `step_ends`.
        """
        import torch

        self.chunk, self.least = chunk, least
        scores = _sortable(torch.cat([piece.scores.flatten() for piece in pieces]))
        flags = torch.from_numpy(_flags(pieces)).to(scores.device)
        self.normal = scores[~flags].sort().values
        self.anomalous = scores[flags]
        self.positives, self.negatives = len(self.anomalous), len(self.normal)
        self.groups: torch.Tensor | None = None
        if groups is None:
            self.anomalous = self.anomalous.sort().values
            return
        # Two stable sorts: of equal scores that of the lower group comes first.
        by_group, order = torch.from_numpy(groups).to(scores.device).long().sort(stable=True)
        self.anomalous, order = self.anomalous[order].sort(stable=True)
        self.groups = by_group[order]

    def score_of(self, key: Any) -> float:
        """See `Ranks`; of the two zeros the positive one."""
        return float(key) + 0.0

    def extremes(self) -> tuple[float, float]:
        """See `Ranks`."""
        parts = [part for part in (self.normal, self.anomalous) if len(part)]
        lowest, highest = zip(*(part[[0, -1]].tolist() for part in parts), strict=True)
        # max() of Python would drop a NaN that comes second.
        return float(min(lowest)), float(np.max(highest))

    def blocks(self) -> Iterator[Block]:
        """See `Ranks`."""
        import torch

        not_above = torch.searchsorted(self.normal, self.anomalous, side="right")
        places = torch.arange(self.positives, device=not_above.device) + not_above
        chunks = torch.bincount(places.div_(self.chunk, rounding_mode="floor")).cpu().numpy()
        start, ends = 0, []
        for end in step_ends(chunks, self.least):
            ends.append(end - start)
            if ends[-1] >= DEVICE_BLOCK or end == self.positives:
                yield self._block(start, end, ends, not_above[start:end])
                start, ends = end, []

    def _block(self, start: int, stop: int, ends: list[int], not_above: torch.Tensor) -> Block:
        import torch

        keys = self.anomalous[start:stop]
        at_or_above = self.negatives - torch.searchsorted(self.normal, keys)
        return Block(
            doubled=at_or_above + self.negatives - not_above,
            at_or_above=at_or_above,
            hits=self.positives - torch.searchsorted(self.anomalous, keys),
            keys=keys,
            groups=None if self.groups is None else self.groups[start:stop],
            ends=ends,
        )


def _sortable(scores: torch.Tensor) -> torch.Tensor:
    """In a type that sorts and searches everywhere, and holds all values of the narrower ones."""
    import torch

    if scores.dtype in (torch.float32, torch.float64, torch.int64):
        return scores
    return scores.float() if scores.is_floating_point() else scores.long()


def _flags(pieces: Sequence[Piece]) -> NDArray[np.bool_]:
    """Of all samples one after another, whether they are anomalous."""
    flags = np.zeros(sum(math.prod(piece.scores.shape) for piece in pieces), bool)
    at = 0
    for piece in pieces:
        size = math.prod(piece.scores.shape)
        if piece.anomalous is not None:
            flags[at : at + size] = piece.anomalous.reshape(-1)
        at += size
    return flags
