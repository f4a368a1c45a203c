"""The latent search of AnoGAN: which point of the latent space generates an image best."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor, nn


@dataclass(frozen=True)
class Found:
    """Where a search ended, for (B, C, H, W) images.

    Attributes:
        z: (B, latent).
        generated: (B, C, H, W).
        score: (B,) the sum that was minimised, at `z`.
    """

    z: Tensor
    generated: Tensor
    score: Tensor


class Search:
    """Minimises (1 - w) |x - G(z)| + w |f(x) - f(G(z))| by Adam (arXiv:1703.05921, section 2.2).

    Both norms are sums over everything. With the networks in evaluation mode images do not see
    each other: a batch's search is that of each image. f(x) is computed once, and the networks'
    parameters get no gradients.
    """

    def __init__(
        self,
        generator: nn.Module,
        features: Callable[[Tensor], Tensor],
        feature_weight: float,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
    ) -> None:
        self.generator, self.features = generator, features
        self.feature_weight = feature_weight
        self.lr, self.betas = lr, betas

    def run(self, images: Tensor, start: Tensor, steps: int) -> Found:
        """Search from (B, latent) `start` for each of (B, C, H, W) images in [-1, 1]."""
        for last in self.steps(images, start, steps):
            found = last
        return found

    def steps(self, images: Tensor, start: Tensor, steps: int) -> Iterator[Found]:
        """Where the search is after 0, 1, ..., `steps` updates."""
        with torch.no_grad():
            wanted = self.features(images)
        z = start.detach().clone().requires_grad_()
        optimizer = torch.optim.Adam([z], self.lr, self.betas)
        for step in range(steps + 1):
            generated = self.generator(z)
            distance = (images - generated).abs().flatten(1).sum(1)
            match = (wanted - self.features(generated)).abs().flatten(1).sum(1)
            score = (1 - self.feature_weight) * distance + self.feature_weight * match
            yield Found(z.detach().clone(), generated.detach(), score.detach())
            if step < steps:
                (z.grad,) = torch.autograd.grad(score.sum(), z)
                optimizer.step()
