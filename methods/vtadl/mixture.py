"""The mixture density network on tokens, and what VT-ADL's code takes for its likelihood."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import torch
from torch import nn
from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor

Likelihood = Literal["weighted", "mixture"]

_SMALLEST = 2.2e-16
# Numbers of one (tokens, dim, K) tensor: 64 MB.
_BLOCK = 1 << 24


class Mixture(nn.Module):
    """A mixture of Gaussians with diagonal covariance for each token, and the token's score in it.

    Weights, means and log variances are linear in the token's positive part; log variances go
    through a softplus, so that no variance is below 1.
    """

    def __init__(self, dim: int, gaussians: int) -> None:
        super().__init__()
        self.gaussians = gaussians
        self.pi = nn.Linear(dim, gaussians, bias=False)
        self.mu = nn.Linear(dim, dim * gaussians, bias=False)
        self.log_variance = nn.Linear(dim, dim * gaussians, bias=False)

    def components(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(T, dim) tokens -> (T, K) log weights, (T, dim, K) means and log variances."""
        shape = (*tokens.shape, self.gaussians)
        positive = tokens.clamp(min=_SMALLEST)
        weights = self.pi(positive).log_softmax(1)
        mu = self.mu(positive).view(shape)
        return weights, mu, functional.softplus(self.log_variance(positive)).view(shape)

    def scores(self, tokens: Tensor, likelihood: Likelihood) -> Tensor:
        """(B, N, dim) -> (B, N), higher is less likely.

        Args:
            likelihood: "mixture" is the negative log-likelihood of the mixture; "weighted", as
                published, the mean of the components' ones by their weights, with ln 2 pi counted
                once instead of `dim` times.
        """
        flat = tokens.flatten(0, 1)
        step = max(1, _BLOCK // (flat.shape[1] * self.gaussians))
        parts = [self._scores(part, likelihood) for part in flat.split(step)]  # type: ignore[no-untyped-call]
        return torch.cat(parts).view(tokens.shape[:2])

    def _scores(self, tokens: Tensor, likelihood: Likelihood) -> Tensor:
        weights, mu, s = self.components(tokens)
        squares = (s + (tokens[..., None] - mu).square() * (-s).exp()).sum(1)
        constants = 1 if likelihood == "weighted" else tokens.shape[1]
        each = 0.5 * (constants * math.log(2 * math.pi) + squares)
        if likelihood == "weighted":
            return (weights.exp() * each).sum(1)
        return -(weights - each).logsumexp(1)
