"""The residual networks of f-AnoGAN's official code (tSchlegl/f-AnoGAN at 35b1de9)."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional

from .dcgan import halvings

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

_WIDEST = 8
"""Of the layers, in multiples of the first width."""


class Norm(nn.Module):
    """Batch norm, or layer norm over channels and positions with a scale for each channel."""

    def __init__(self, width: int, *, layer: bool) -> None:
        super().__init__()
        self.inner: nn.Module = (
            nn.GroupNorm(1, width, eps=1e-5) if layer else nn.BatchNorm2d(width, eps=1e-3)
        )

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.inner(x)
        return result


class Block(nn.Module):
    """norm, ReLU, 3x3, norm, ReLU, 3x3, beside a 1x1 shortcut; halves or doubles the size."""

    def __init__(self, before: int, after: int, *, up: bool, layer_norm: bool) -> None:
        super().__init__()
        self.up = up
        middle = after if up else before
        self.norm1 = Norm(before, layer=layer_norm)
        self.conv1 = nn.Conv2d(before, middle, 3, padding=1, bias=False)
        self.norm2 = Norm(middle, layer=layer_norm)
        self.conv2 = nn.Conv2d(middle, after, 3, padding=1)
        self.shortcut = nn.Conv2d(before, after, 1)

    def forward(self, x: Tensor) -> Tensor:
        inner = functional.relu(self.norm1(x))
        if self.up:
            inner, x = _doubled(inner), _doubled(x)
        inner = self.conv2(functional.relu(self.norm2(self.conv1(inner))))
        if not self.up:
            inner, x = functional.avg_pool2d(inner, 2), functional.avg_pool2d(x, 2)
        result: Tensor = self.shortcut(x) + inner
        return result


class Generator(nn.Module):
    """(B, latent) -> (B, C, size, size) in [-1, 1]."""

    def __init__(self, size: int, channels: int, latent: int, width: int) -> None:
        super().__init__()
        widths = _widths(size, width)[::-1]
        self.widest = widths[0]
        self.first = nn.Linear(latent, 16 * self.widest)
        self.blocks = nn.Sequential(
            *(Block(a, b, up=True, layer_norm=False) for a, b in pairwise(widths))
        )
        self.norm = Norm(widths[-1], layer=False)
        self.last = nn.Conv2d(widths[-1], channels, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        x = self.blocks(self.first(z).view(-1, self.widest, 4, 4))
        return torch.tanh(self.last(functional.relu(self.norm(x))))


class Critic(nn.Module):
    """(B, C, size, size) -> (B, outputs) by `features`, (B, 16 * widest), and a linear layer.

    One output and layer norms for the critic; the latent's and batch norms for the encoder.
    """

    def __init__(
        self,
        size: int,
        channels: int,
        width: int,
        outputs: int,
        *,
        layer_norm: bool,
        bounded: bool = False,
    ) -> None:
        """`bounded`: tanh on the outputs."""
        super().__init__()
        widths = _widths(size, width)
        self.bounded = bounded
        self.features = nn.Sequential(
            nn.Conv2d(channels, widths[0], 3, padding=1),
            *(Block(a, b, up=False, layer_norm=layer_norm) for a, b in pairwise(widths)),
            nn.Flatten(),
        )
        self.last = nn.Linear(16 * widths[-1], outputs)

    def forward(self, images: Tensor) -> Tensor:
        result: Tensor = self.last(self.features(images))
        return result.tanh() if self.bounded else result


@torch.no_grad()
def initialise(network: nn.Module, generator: torch.Generator) -> None:
    """Uniform weights: variance 4 / (fan in + fan out) for the convolutions that ReLU precedes, 2 /
    (...) for shortcuts, first convolution and linear layers; biases 0, norms 1 and 0.
    """
    for module in network.modules():
        if not isinstance(module, (nn.Conv2d, nn.Linear)):
            continue
        is_after_relu = isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3)
        _draw(module.weight, 4.0 if is_after_relu else 2.0, generator)
        if module.bias is not None:
            module.bias.zero_()
    if isinstance(network, Critic):
        first = network.features[0]
        assert isinstance(first, nn.Conv2d)
        _draw(first.weight, 2.0, generator)


def _draw(weight: Tensor, scale: float, generator: torch.Generator) -> None:
    fans = weight[0].numel() + weight[:, 0].numel()
    bound = math.sqrt(3 * scale / fans)
    weight.uniform_(-bound, bound, generator=generator)


def _widths(size: int, width: int) -> list[int]:
    """Channels of the critic before and after each block: doubled up to eight times the first."""
    return [width * min(1 << k, _WIDEST) for k in range(halvings(size) + 1)]


def _doubled(x: Tensor) -> Tensor:
    double: Callable[..., Tensor] = functional.interpolate
    return double(x, scale_factor=2, mode="nearest")
