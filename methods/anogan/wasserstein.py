"""f-AnoGAN's training: a critic with gradient penalty, then an encoder for the fixed generator."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn


def gradient_penalty(critic: nn.Module, real: Tensor, fake: Tensor, alpha: Tensor) -> Tensor:
    """Mean of (|gradient of the critic| - 1)^2 between real and generated images.

    Args:
        real, fake: (B, C, H, W).
        alpha: share of `real`, of a shape that broadcasts: one for each image, or for each channel
            of it as A03ki's code has it.
    """
    between = (alpha * real + (1 - alpha) * fake).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    excess: Tensor = gradient.flatten(1).norm(dim=1) - 1
    return excess.square().mean()


class Trainer:
    """Updates of a critic and a generator by the Wasserstein loss (arXiv:1704.00028)."""

    def __init__(
        self,
        generator: nn.Module,
        critic: nn.Module,
        lr: float,
        critic_lr: float,
        betas: tuple[float, float],
        penalty: float,
    ) -> None:
        self.generator, self.critic, self.penalty = generator, critic, penalty
        self.step_g = torch.optim.Adam(generator.parameters(), lr, betas)
        self.step_d = torch.optim.Adam(critic.parameters(), critic_lr, betas)

    def update_critic(self, images: Tensor, z: Tensor, alpha: Tensor) -> Tensor:
        """One step of the critic; returns its loss."""
        with torch.no_grad():
            fake = self.generator(z)
        # Real, generated and mixed images are three batches, in this order.
        loss: Tensor = -self.critic(images).mean() + self.critic(fake).mean()
        loss = loss + self.penalty * gradient_penalty(self.critic, images, fake, alpha)
        self._step(self.step_d, loss)
        return loss.detach()

    def update_generator(self, z: Tensor) -> Tensor:
        """One step of the generator; returns its loss."""
        loss: Tensor = -self.critic(self.generator(z)).mean()
        self._step(self.step_g, loss)
        return loss.detach()

    def _step(self, optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def distances(
    images: Tensor, found: Tensor, features: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """(B,) mean squared differences of images and of the critic's features of them (f-AnoGAN)."""
    pixels = (images - found).square().flatten(1).mean(1)
    match = (features(images) - features(found)).square().flatten(1).mean(1)
    return pixels, match


def update_encoder(
    encoder: nn.Module,
    generator: nn.Module,
    features: Callable[[Tensor], Tensor],
    optimizer: torch.optim.Optimizer,
    images: Tensor,
    kappa: float,
) -> Tensor:
    """One step of the encoder on image and feature differences ("izi_f"); generator and critic,
    whose `features` these are, are in evaluation mode and stay as they are.

    Returns:
        (2,) mean squared differences of images and of features.
    """
    found = generator(encoder(images))
    with torch.no_grad():
        wanted = features(images)
    pixels = functional.mse_loss(found, images)
    match = functional.mse_loss(features(found), wanted)
    optimizer.zero_grad()
    (pixels + kappa * match).backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return torch.stack([pixels, match]).detach()
