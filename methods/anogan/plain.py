"""The plain networks of A03ki/f-AnoGAN at 900f9d6, which has a script for MVTec AD."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from bench.blocks.on_device import sent

from .dcgan import halvings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

NORM_EPSILON = 0.8
"""Of all batch norms but the first: torch's momentum-like 0.8 stands in the place of epsilon."""
SLOPE = 0.2


class Generator(nn.Module):
    """(B, latent) -> (B, C, size, size) in [-1, 1]."""

    def __init__(self, size: int, channels: int, latent: int, widths: Sequence[int]) -> None:
        """`widths`: of the quarter-size image, and after each doubling."""
        super().__init__()
        halvings(size)
        first, second, third = widths
        self.shape = (first, size // 4, size // 4)
        self.l1 = nn.Sequential(nn.Linear(latent, first * (size // 4) ** 2))
        self.conv_blocks = nn.Sequential(
            nn.BatchNorm2d(first),
            nn.Upsample(scale_factor=2),
            nn.Conv2d(first, second, 3, padding=1),
            nn.BatchNorm2d(second, NORM_EPSILON),
            nn.LeakyReLU(SLOPE, inplace=True),
            nn.Upsample(scale_factor=2),
            nn.Conv2d(second, third, 3, padding=1),
            nn.BatchNorm2d(third, NORM_EPSILON),
            nn.LeakyReLU(SLOPE, inplace=True),
            nn.Conv2d(third, channels, 3, padding=1),
            nn.Tanh(),
        )

    def forward(self, z: Tensor) -> Tensor:
        result: Tensor = self.conv_blocks(self.l1(z).view(-1, *self.shape))
        return result


class ChannelDropout(nn.Module):
    """Whole channels of an image set to 0 in training, the others scaled; drawn by the run."""

    def __init__(self, share: float, generator: torch.Generator) -> None:
        """`generator`: of the CPU."""
        super().__init__()
        self.share = share
        self.drawn = generator

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not self.share:
            return x
        drawn = torch.rand(*x.shape[:2], 1, 1, generator=self.drawn)
        kept = sent((drawn >= self.share).to(x.dtype), x.device)
        return x * kept / (1 - self.share)


class Critic(nn.Module):
    """(B, C, size, size) -> (B, outputs) by `features` and a linear layer.

    Batch norm also in the critic, although a gradient penalty assumes that images do not see each
    other. One output for the critic, the latent's for the encoder.
    """

    def __init__(
        self,
        size: int,
        channels: int,
        widths: Sequence[int],
        outputs: int,
        *,
        dropout: ChannelDropout,
        bounded: bool = False,
    ) -> None:
        """
        Args:
            widths: of the four strided convolutions.
            dropout: behind each of them.
            bounded: tanh on the outputs.
        """
        super().__init__()
        halvings(size)
        layers: list[nn.Module] = []
        for before, after in zip([channels, *widths], widths, strict=False):
            layers += [
                nn.Conv2d(before, after, 3, 2, 1),
                nn.LeakyReLU(SLOPE, inplace=True),
                dropout,
            ]
            if before != channels or layers[3:]:
                layers.append(nn.BatchNorm2d(after, NORM_EPSILON))
        self.model = nn.Sequential(*layers)
        last: list[nn.Module] = [nn.Linear(widths[-1] * (size // 16) ** 2, outputs)]
        self.adv_layer = nn.Sequential(*last, *([nn.Tanh()] if bounded else []))

    def features(self, images: Tensor) -> Tensor:
        """(B, 16th of the size squared times the last width)."""
        result: Tensor = self.model(images)
        return result.flatten(1)

    def forward(self, images: Tensor) -> Tensor:
        result: Tensor = self.adv_layer(self.features(images))
        return result


@torch.no_grad()
def initialise(network: nn.Module, generator: torch.Generator) -> None:
    """torch's default: uniform in +-1 / sqrt(fan in), weights and biases; norms 1 and 0."""
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            bound = module.weight[0].numel() ** -0.5
            module.weight.uniform_(-bound, bound, generator=generator)
            if module.bias is not None:
                module.bias.uniform_(-bound, bound, generator=generator)
