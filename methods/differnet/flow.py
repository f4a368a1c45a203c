"""A flow of affine couplings over feature vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from bench.blocks.reversible import (
    AffineCoupling,
    Block,
    Rearrangement,
    log_determinants,
    run_inverse,
    run_tracked,
)
from bench.blocks.soft_clamp import soft_clamp

if TYPE_CHECKING:
    from collections.abc import Sequence

LIMIT = 1e6
"""Values of a block are clamped to this, as in the published code."""


class VectorCoupling(AffineCoupling):
    """One part of a vector, by three hidden layers from the other part."""

    def __init__(
        self, target: int, source: int, lengths: tuple[int, int], hidden: int, clamp: float
    ) -> None:
        """`lengths`: of the target and of the source."""
        super().__init__((target,), (source,), LIMIT)
        self.clamp = clamp
        self.network = nn.Sequential(
            nn.Linear(lengths[1], hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, 2 * lengths[0]),
        )

    def scales_and_shifts(self, *sources: Tensor) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
        raw, shift = self.network(sources[0]).chunk(2, 1)
        return [soft_clamp(raw, self.clamp)], [shift]


class VectorFlow(nn.Module):
    """Blocks of a rearrangement and a coupling of each part (DifferNet, arXiv:2008.12577, 3.2).

    Args:
        length: of the vectors, at least 2.
        blocks: number of them.
        hidden: width of the hidden layers.
        clamp: bound of a coupling's log-scales.
    """

    def __init__(self, length: int, blocks: int, hidden: int, clamp: float) -> None:
        super().__init__()
        self.length = length
        self.first = length // 2
        first, second = self.first, length - self.first
        steps: list[Block] = []
        for number in range(blocks):
            steps += [
                Rearrangement(0, 1, permutation(number, length)),
                VectorCoupling(0, 1, (first, second), hidden, clamp),
                VectorCoupling(1, 0, (second, first), hidden, clamp),
            ]
        self.blocks = nn.ModuleList(steps)

    def forward(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """(N, d) vectors -> (N, d) latents, and log |det J| of each, (N,)."""
        values, scales = run_tracked(self._steps(), self._parts(vectors))
        return torch.cat(values, 1), log_determinants(scales)

    def inverse(self, latents: Tensor) -> Tensor:
        """The vectors of given latents."""
        return torch.cat(run_inverse(self._steps(), self._parts(latents)), 1)

    def _steps(self) -> list[Block]:
        return [block for block in self.blocks if isinstance(block, Block)]

    def _parts(self, vectors: Tensor) -> list[Tensor]:
        return [vectors[:, : self.first], vectors[:, self.first :]]


def permutation(block: int, length: int) -> Tensor:
    """The order of the entries in a block: that of NumPy's legacy generator of that seed."""
    return torch.from_numpy(np.random.RandomState(block).permutation(length))


def negative_log_likelihoods(latents: Tensor, log_dets: Tensor) -> Tensor:
    """(N,) per dimension, without their constant; their mean is the loss."""
    return (latents.square().sum(1) / 2 - log_dets) / latents.shape[1]
