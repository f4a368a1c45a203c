"""How far an embedding lies from those of the training images."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from bench.api import MethodError


def ledoit_wolf(vectors: Tensor) -> tuple[Tensor, float]:
    """Covariance shrunk towards a multiple of the identity (Ledoit and Wolf, 2004).

    Args:
        vectors: (N, D), float64.

    Returns:
        (D, D) covariance with divisor N, and the share of the identity.

    Raises:
        MethodError: all vectors are equal.
    """
    count, dimensions = vectors.shape
    centred = vectors - vectors.mean(0)
    sample = centred.T @ centred / count
    level = sample.trace() / dimensions
    if not level > 0:
        raise MethodError(
            "cutpaste: the embeddings of all training images are equal; they need to differ, or "
            "the network has collapsed: lower lr"
        )
    identity = torch.eye(dimensions, dtype=vectors.dtype, device=vectors.device)
    spread = ((sample - level * identity) ** 2).sum() / dimensions
    # The sum of the entries of (X^2)'(X^2) is the sum over images of |x|^4.
    noise = ((centred**2).sum(1) ** 2).sum() / count - (sample**2).sum()
    noise = torch.minimum(noise / (count * dimensions), spread)
    share = float(noise / spread) if spread > 0 else 0.0
    return (1 - share) * sample + share * level * identity, share


def fit_gauss(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (D,) and inverse covariance (D, D) of (N, D) vectors, in float64."""
    covariance, _ = ledoit_wolf(vectors.double())
    return vectors.double().mean(0), torch.cholesky_inverse(torch.linalg.cholesky(covariance))


def gauss_score(vectors: Tensor, mean: Tensor, precision: Tensor) -> Tensor:
    """(N,) Mahalanobis distances of (N, D) vectors, float64."""
    delta = vectors.double() - mean
    # Clamped: rounding can push a tiny square below zero.
    return ((delta @ precision) * delta).sum(1).clamp(min=0).sqrt()


def kernel_score(vectors: Tensor, known: Tensor, bandwidth: float) -> Tensor:
    """(N,) minus the log density of Gaussian kernels on `known` (M, D), float64."""
    count, dimensions = known.shape
    squares = torch.cdist(vectors.double(), known.double()) ** 2
    volume = math.log(count) + dimensions * math.log(bandwidth * math.sqrt(2 * math.pi))
    return volume - torch.logsumexp(squares / (-2 * bandwidth**2), 1)


def on_sphere(vectors: Tensor) -> Tensor:
    """(N, D) vectors brought to length 1; zero stays zero."""
    return functional.normalize(vectors, dim=1)
