"""The autoencoder of regional features, its size by principal components, and its training."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from bench.api import MethodError
from bench.blocks.seeded import drawn_from

if TYPE_CHECKING:
    from collections.abc import Iterable


# Variance of float32 features over their squared mean that rounding alone may leave.
_ROUNDING = 1e-12


class Autoencoder(nn.Module):
    """1x1 convolutions C -> (C + 2 d) // 2 -> 2 d -> d and back (DFR, arXiv:2012.07122, 3.2)."""

    def __init__(
        self, channels: int, latent: int, batch_norm: bool, generator: torch.Generator
    ) -> None:
        super().__init__()
        widths = [channels, (channels + 2 * latent) // 2, 2 * latent, latent]
        # The layers draw their own initial values, encoder first, as in the published code.
        with drawn_from(generator):
            self.encoder = _chain(widths, batch_norm)
            self.decoder = _chain(widths[::-1], batch_norm)

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h, w) -> the same, by way of d channels."""
        decoded: Tensor = self.decoder(self.encoder(features))
        return decoded

    def freeze_dead_biases(self) -> None:
        """Stop training the biases whose gradient is zero but for rounding.

        A bias in front of a batch norm has no influence in training, that of the latent layer
        neither, since a linear layer carries it into one. Adam scales their rounding noise up to
        steps of its rate, and through the running means these reach the maps.
        """
        if not any(isinstance(module, nn.BatchNorm2d) for module in self.modules()):
            return
        convolutions = [m for m in self.modules() if isinstance(m, nn.Conv2d)]
        for convolution in convolutions[:-1]:
            if convolution.bias is not None:
                convolution.bias.requires_grad_(False)


def _chain(widths: list[int], batch_norm: bool) -> nn.Sequential:
    layers: list[nn.Module] = []
    for number, (old, new) in enumerate(itertools.pairwise(widths), 2):
        layers.append(nn.Conv2d(old, new, 1))
        if number < len(widths):
            layers += [nn.BatchNorm2d(new), nn.ReLU()] if batch_norm else [nn.ReLU()]
    return nn.Sequential(*layers)


class Trainer:
    """Adam on the mean squared difference between features and what comes back."""

    def __init__(self, autoencoder: Autoencoder, lr: float) -> None:
        self.autoencoder = autoencoder
        self.lr = lr
        trained = [p for p in autoencoder.parameters() if p.requires_grad]
        self.optimiser = torch.optim.Adam(trained, lr=lr)

    def step(self, features: Tensor) -> Tensor:
        """One update on (B, C, h, w) features; the loss before it, without its graph."""
        loss: Tensor = (self.autoencoder(features) - features).square().mean()
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        return loss.detach()

    def epoch(self, batches: Iterable[Tensor], number: int) -> float:
        """Mean loss of the updates of one pass over the features.

        Raises:
            MethodError: a loss that is not finite; names epoch and step, counted from 1.
        """
        self.autoencoder.train()
        losses = [self.step(features) for features in batches]
        self.autoencoder.eval()
        # Once for all steps: a check at each one would wait for the device.
        values: list[float] = torch.stack(losses).tolist()
        for step, value in enumerate(values, 1):
            if not math.isfinite(value):
                raise MethodError(
                    f"dfr: the loss is {value} in epoch {number}, step {step} of {len(values)}; "
                    f"lower lr ({self.lr:g}), or check the weights and the images"
                )
        return sum(values) / len(values)


def energy(autoencoder: Autoencoder, features: Tensor) -> Tensor:
    """(B, C, h, w) -> (B, h, w) squared reconstruction errors, averaged over channels."""
    error: Tensor = autoencoder(features) - features
    return error.square_().mean(1)


def latent_dimension(features: Iterable[Tensor], share: float) -> int:
    """Fewest principal components whose variance exceeds a share of the whole.

    The covariance is summed up part by part: products in the features' own precision, about the
    mean of the first part, and sums in float64. The whole matrix of features is never held.

    Args:
        features: parts of (N_i, C) vectors.
        share: of the variance, in (0, 1).

    Raises:
        MethodError: no vectors, or vectors that do not vary.
    """
    origin: Tensor | None = None
    count = 0
    total = square = torch.zeros(())
    for part in features:
        if origin is None:
            origin = part.mean(0)
            total = torch.zeros_like(origin, dtype=torch.float64)
            square = total.new_zeros(len(total), len(total))
        delta = part - origin
        total += delta.sum(0, dtype=torch.float64)
        square += delta.T @ delta
        count += len(part)
    if origin is None:
        raise MethodError("dfr: no training images to find the latent dimension from")
    mean = total / count
    # Only shares matter, so the divisor of the covariance does not.
    spectrum = torch.linalg.eigvalsh(square / count - torch.outer(mean, mean)).flip(0).clamp(min=0)
    whole = spectrum.sum()
    if not bool(whole > _ROUNDING * (origin + mean).square().sum()):
        raise MethodError(
            f"dfr: the features do not vary over {count} positions; check the weights and the "
            "images, or set latent yourself"
        )
    shares = (spectrum / whole).cumsum(0)
    return min(int((shares <= share).sum()) + 1, len(spectrum))
