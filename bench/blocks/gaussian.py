"""One Gaussian for each position of a feature map: fitted batch by batch, scored by whitening.

With N images of d channels at P positions, the regularised covariance of a position is
S = epsilon I + X^T X / (N - 1), X the centred (N, d) features. Two forms of it are kept:

* full: L^-T with S = L L^T, so that a distance is |L^-1 delta|; P d^2 numbers.
* low rank, where N <= d: by Woodbury S^-1 = (I - A^T A) / epsilon with A = L^-1 Z, where Z is
  (N - 1, d) with Z^T Z = X^T X / (N - 1), and L L^T = epsilon I + Z Z^T; P d (N - 1) numbers.

Both are exact. All sums and factors are float64, the result is float32.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from bench.errors import MethodError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

# Numbers in one float64 working block: what a core's cache holds, or 256 MB to fill a GPU.
_BLOCK = {"cpu": 1 << 18, "cuda": 1 << 25}
# A scatter larger than this (1 GB in float64) is accumulated in float32 instead.
_DOUBLE_LIMIT = 1 << 27


def blocks(positions: int, numbers: int, device: torch.device) -> Iterator[slice]:
    """Slices of positions whose working block stays small, at `numbers` for each position."""
    step = max(1, _BLOCK.get(device.type, _BLOCK["cuda"]) // max(1, numbers))
    for start in range(0, positions, step):
        yield slice(start, min(start + step, positions))


class PositionMoments:
    """Running mean and scatter of the features at each position (Chan, Golub, LeVeque 1983).

    Memory: 8 P d^2 bytes (4 P d^2 where that would exceed 1 GB) and the batch at hand; features
    of earlier batches are not kept.

    Attributes:
        count: images seen.
        mean: (P, d), float64.
        scatter: (P, d, d), sum of (x - mean)(x - mean)^T.
    """

    def __init__(self, positions: int, channels: int, device: torch.device) -> None:
        double = positions * channels**2 <= _DOUBLE_LIMIT
        self.count = 0
        self.mean = torch.zeros(positions, channels, dtype=torch.float64, device=device)
        self.scatter = torch.zeros(
            (positions, channels, channels),
            dtype=torch.float64 if double else torch.float32,
            device=device,
        )

    def add(self, features: Tensor) -> None:
        """Take in the (P, B, d) features of a batch."""
        size = features.shape[1]
        total = self.count + size
        # The shift between the old and the new mean enters as one more row of the batch.
        weight = math.sqrt(self.count * size / total)
        channels = features.shape[2]
        for part in blocks(len(self.mean), channels * (size + channels), features.device):
            batch = features[part].double()
            mean = batch.mean(1, keepdim=True)
            shift = mean - self.mean[part, None]
            rows = torch.cat((batch - mean, weight * shift), dim=1).to(self.scatter.dtype)
            self.scatter[part].baddbmm_(rows.mT, rows)
            self.mean[part] += shift[:, 0] * (size / total)
        self.count = total

    def covariance(self, part: slice, epsilon: float) -> Tensor:
        """(p, d, d) sample covariance (divisor N - 1) plus `epsilon` on the diagonal, float64."""
        covariance = self.scatter[part].double() / (self.count - 1)
        covariance.diagonal(dim1=1, dim2=2).add_(epsilon)
        return covariance


def full_factor(moments: PositionMoments, epsilon: float) -> Tensor:
    """(P, d, d) float32 factors L^-T: the distance of delta is |delta L^-T|."""
    positions, channels = moments.mean.shape
    factor = torch.empty(positions, channels, channels, device=moments.mean.device)
    unit = torch.eye(channels, dtype=torch.float64, device=factor.device)
    for part in blocks(positions, 4 * channels**2, factor.device):
        lower = torch.linalg.cholesky(moments.covariance(part, epsilon))
        inverse = torch.linalg.solve_triangular(lower, unit.expand_as(lower), upper=False)
        factor[part] = inverse.mT.float()
    return factor


def low_rank_factor(features: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    """Mean and low-rank factor of every position.

    Args:
        features: (P, N, d) of all images, N <= d.
        epsilon: added to the diagonal of the covariance; positive.

    Returns:
        (P, d) means in float64, and (P, d, N - 1) float32 factors A^T.
    """
    positions, count, channels = features.shape
    mean = torch.empty(positions, channels, dtype=torch.float64, device=features.device)
    factor = torch.empty(positions, channels, count - 1, device=features.device)
    unit = torch.eye(count - 1, dtype=torch.float64, device=features.device)
    for part in blocks(positions, count * (3 * channels + 2 * count), factor.device):
        block = features[part].double()
        mean[part] = block.mean(1)
        block -= mean[part, None]
        # N centred rows have rank N - 1. A Householder reflection that takes the vector of ones
        # to the first axis empties the first row and leaves the products X^T X as they are.
        rows = (block[:, 1:] + block[:, :1] / (math.sqrt(count) - 1)) / math.sqrt(count - 1)
        lower = torch.linalg.cholesky(torch.baddbmm(epsilon * unit, rows, rows.mT))
        factor[part] = torch.linalg.solve_triangular(lower, rows, upper=False).mT.float()
    return mean, factor


def mahalanobis(features: Tensor, mean: Tensor, factor: Tensor, epsilon: float) -> Tensor:
    """Distance of each feature to the Gaussian of its position (arXiv:2011.08785, section 3).

    The low-rank form subtracts two squares; its relative error is about
    1e-7 |delta|^2 / (epsilon distance^2).

    Args:
        features: (P, B, d).
        mean: (P, d).
        factor: (P, d, r): full where r = d, else low rank.
        epsilon: the one that the low-rank factor was made with.

    Returns:
        (B, P) distances, >= 0, in standard deviations.

    Raises:
        MethodError: if positions or channels differ.
    """
    if features.shape[0] != len(mean) or features.shape[2] != mean.shape[1]:
        raise MethodError(
            f"features of {features.shape[0]} positions and {features.shape[2]} channels do not "
            f"fit Gaussians of {len(mean)} positions and {mean.shape[1]} channels"
        )
    delta = features - mean[:, None]
    squares = torch.bmm(delta, factor).square_().sum(2)
    if factor.shape[2] < factor.shape[1]:
        # Rounding can push a tiny difference below zero.
        squares = (delta.square_().sum(2) - squares).div_(epsilon).clamp_(min=0)
    return squares.sqrt_().T
