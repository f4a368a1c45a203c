"""DCGAN: generator and discriminator of any size that is a power of two, and their update."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional

from bench.api import MethodError

if TYPE_CHECKING:
    from torch import Tensor

SMALLEST = 16
"""Side of the smallest image: two halvings to 4x4."""


def halvings(size: int) -> int:
    """How often `size` is halved until 4 is left.

    Raises:
        MethodError: a size that is not a power of two, or below 16.
    """
    if size < SMALLEST or size & (size - 1):
        raise MethodError(f"anogan: size = {size}; choose 16, 32, 64, 128 or 256")
    return size.bit_length() - 3


class Generator(nn.Module):
    """(B, latent) -> (B, C, size, size) in [-1, 1] (arXiv:1511.06434; biases as in llien's code).

    A 4x4 image of `width * size / 8` channels, doubled in size by transposed convolutions that
    halve the channels to `width`; batch norm and ReLU between, no norm before the last tanh.
    """

    def __init__(self, size: int, channels: int, latent: int, width: int) -> None:
        super().__init__()
        widths = [width << k for k in reversed(range(halvings(size)))]
        layers: list[nn.Module] = [nn.ConvTranspose2d(latent, widths[0], 4)]
        for before, after in zip(widths, [*widths[1:], channels], strict=True):
            layers += [nn.BatchNorm2d(before), nn.ReLU(inplace=True)]
            layers.append(nn.ConvTranspose2d(before, after, 4, 2, 1))
        self.layers = nn.Sequential(*layers, nn.Tanh())

    def forward(self, z: Tensor) -> Tensor:
        result: Tensor = self.layers(z[:, :, None, None])
        return result


class Discriminator(nn.Module):
    """(B, C, size, size) -> (B,) logits of being real; `features` is everything before the last
    convolution.

    Strided convolutions, whose channels double from `width`, to 4x4.
    """

    def __init__(
        self, size: int, channels: int, width: int, slope: float, *, first_norm: bool
    ) -> None:
        """
        Args:
            slope: of LeakyReLU.
            first_norm: batch norm after the first layer too.
        """
        super().__init__()
        widths = [width << k for k in range(halvings(size))]
        layers: list[nn.Module] = []
        for before, after in zip([channels, *widths], widths, strict=False):
            layers.append(nn.Conv2d(before, after, 4, 2, 1))
            if layers[1:] or first_norm:
                layers.append(nn.BatchNorm2d(after))
            layers.append(nn.LeakyReLU(slope, inplace=True))
        self.features = nn.Sequential(*layers)
        self.last = nn.Conv2d(widths[-1], 1, 4)

    def forward(self, images: Tensor) -> Tensor:
        result: Tensor = self.last(self.features(images))
        return result.flatten()


@torch.no_grad()
def initialise(network: nn.Module, generator: torch.Generator) -> None:
    """Convolutions N(0, 0.02), norms N(1, 0.02), biases 0 (arXiv:1511.06434, section 4)."""
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d)):
            mean = 1.0 if isinstance(module, nn.BatchNorm2d) else 0.0
            module.weight.normal_(mean, 0.02, generator=generator)
            if module.bias is not None:
                module.bias.zero_()


class Trainer:
    """Alternating updates by binary cross-entropy on logits.

    Real and generated images are separate batches of the discriminator, so that its running
    statistics follow three batches in each step.
    """

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        lr: float,
        critic_lr: float,
        betas: tuple[float, float],
    ) -> None:
        self.generator, self.discriminator = generator, discriminator
        self.step_g = torch.optim.Adam(generator.parameters(), lr, betas)
        self.step_d = torch.optim.Adam(discriminator.parameters(), critic_lr, betas)

    def update(self, images: Tensor, z_d: Tensor, z_g: Tensor) -> Tensor:
        """One step of each network.

        Args:
            images: (B, C, H, W) in [-1, 1].
            z_d: (B, latent) that the discriminator's images are generated from.
            z_g: the generator's own.

        Returns:
            (3,) losses: of real and of generated images, and the generator's.
        """
        real = self.discriminator(images)
        loss_real = functional.binary_cross_entropy_with_logits(real, torch.ones_like(real))
        with torch.no_grad():
            generated = self.generator(z_d)
        fake = self.discriminator(generated)
        loss_fake = functional.binary_cross_entropy_with_logits(fake, torch.zeros_like(fake))
        self._step(self.step_d, loss_real + loss_fake)
        fooled = self.discriminator(self.generator(z_g))
        loss_g = functional.binary_cross_entropy_with_logits(fooled, torch.ones_like(fooled))
        self._step(self.step_g, loss_g)
        return torch.stack([loss_real, loss_fake, loss_g]).detach()

    def _step(self, optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
