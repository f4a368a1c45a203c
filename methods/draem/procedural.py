"""Textures without files: the defined fall-back "procedural-1".

A change of anything here gives other scores: it is a new name and a new version of the method.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PERSISTENCE = 0.5
"""Amplitude of each octave as a share of the one before."""


class ProceduralTextures:
    """A bank of textures of one size, drawn once from a generator."""

    def __init__(self, count: int, size: tuple[int, int], generator: torch.Generator) -> None:
        """Draw `count` textures of (height, width); the four kinds take turns."""
        draw = _Draw(size, generator)
        kinds = (coloured_noise, gratings, cells, blots)
        drawn = [kinds[n % len(kinds)](draw) for n in range(count)]
        self.pixels = torch.stack([(255 * t).round().to(torch.uint8) for t in drawn]).numpy()

    def __len__(self) -> int:
        return len(self.pixels)

    def pictures(self, index: list[int]) -> NDArray[np.uint8]:
        """(B, height, width, 3) pixels of these textures."""
        chosen: NDArray[np.uint8] = self.pixels[index]
        return chosen


class _Draw:
    """Random numbers and grids of one size."""

    def __init__(self, size: tuple[int, int], generator: torch.Generator) -> None:
        self.size = size
        self.generator = generator
        self.y, self.x = torch.meshgrid(
            torch.arange(float(size[0])), torch.arange(float(size[1])), indexing="ij"
        )

    def uniform(self, low: float, high: float) -> float:
        return low + (high - low) * torch.rand((), generator=self.generator).item()

    def whole(self, low: int, high: int) -> int:
        """From low to high, both included."""
        return int(torch.randint(low, high + 1, (), generator=self.generator))

    def palette(self) -> Tensor:
        """(2 to 4, 3) colours from the whole cube."""
        return torch.rand(self.whole(2, 4), 3, generator=self.generator)

    def smooth(self, cells: int) -> Tensor:
        """(height, width) values at the corners of `cells` x `cells`, joined by cubics."""
        grid = torch.rand(1, 1, cells + 1, cells + 1, generator=self.generator)
        return functional.interpolate(grid, self.size, mode="bicubic", align_corners=True)[0, 0]

    def octaves(self) -> Tensor:
        """(height, width) in [0, 1]: 2 to 5 octaves of smooth noise from 2 to 16 cells on."""
        count, first = self.whole(2, 5), self.whole(2, 16)
        total = sum(PERSISTENCE**o * self.smooth(first * 2**o) for o in range(count))
        return _full_range(torch.as_tensor(total))


def coloured_noise(draw: _Draw) -> Tensor:
    """(height, width, 3): three noises, mixed by a random matrix of colours."""
    noises = torch.stack([draw.octaves() for _ in range(3)], -1)
    mixed = noises @ (2 * torch.rand(3, 3, generator=draw.generator) - 1)
    return torch.stack([_full_range(mixed[..., c]) for c in range(3)], -1)


def gratings(draw: _Draw) -> Tensor:
    """(height, width, 3): 1 to 3 waves or checks of periods 4 to 64 pixels, warped by noise."""
    reach = draw.uniform(0, 8)
    shift = reach * (2 * torch.stack([draw.octaves(), draw.octaves()]) - 1)
    y, x = draw.y + shift[0], draw.x + shift[1]
    total = torch.zeros(draw.size)
    for _ in range(draw.whole(1, 3)):
        # Uniform in the logarithm: as many fine ones as coarse ones.
        period = 4 * 16 ** draw.uniform(0, 1)
        angle, phase = draw.uniform(0, math.pi), draw.uniform(0, 2 * math.pi)
        along = (x * math.cos(angle) + y * math.sin(angle)) * (2 * math.pi / period) + phase
        wave = along.sin()
        if draw.whole(0, 1):
            across = (y * math.cos(angle) - x * math.sin(angle)) * (2 * math.pi / period)
            wave = (wave * across.sin()).sign()
        total += wave
    return _coloured(_full_range(total), draw.palette())


def cells(draw: _Draw) -> Tensor:
    """(height, width, 3): regions around 16 to 400 points, perhaps darker towards their borders."""
    count = draw.whole(16, 400)
    height, width = draw.size
    points = torch.rand(count, 2, generator=draw.generator) * torch.tensor([height, width])
    pixels = torch.stack([draw.y.flatten(), draw.x.flatten()], 1)
    distance, nearest = torch.cdist(pixels, points).min(1)
    palette = draw.palette()
    chosen = torch.randint(len(palette), (count,), generator=draw.generator)
    colours = palette[chosen][nearest]
    if draw.whole(0, 1):
        # The mean distance to the nearest of `count` points is half a spacing.
        spacing = math.sqrt(height * width / count)
        colours = colours * (1 - distance / spacing).clamp(0, 1)[:, None]
    return colours.view(height, width, 3)


def blots(draw: _Draw) -> Tensor:
    """(height, width, 3): blurred noise cut at random levels, a colour between two cuts."""
    sigma = draw.uniform(1, 8)
    noise = _blurred(torch.rand(draw.size, generator=draw.generator), sigma)
    palette = draw.palette()
    levels = torch.rand(len(palette) - 1, generator=draw.generator).sort().values
    # Levels are shares of the pixels, so that no colour is always empty.
    cuts = torch.quantile(noise.flatten()[:: max(1, noise.numel() // 4096)], levels)
    return palette[torch.bucketize(noise, cuts)]


def _full_range(values: Tensor) -> Tensor:
    """Stretched to [0, 1]; constant values become 0."""
    low, high = values.min(), values.max()
    return (values - low) / (high - low).clamp(min=1e-12)


def _coloured(values: Tensor, palette: Tensor) -> Tensor:
    """(height, width, 3): colours of values in [0, 1], linear between those of the palette."""
    position = values * (len(palette) - 1)
    below = position.floor().clamp(max=len(palette) - 2).long()
    share = (position - below)[..., None]
    return palette[below] * (1 - share) + palette[below + 1] * share


def _blurred(values: Tensor, sigma: float) -> Tensor:
    """Smoothed by a Gaussian cut at three sigma; borders continue round the other side."""
    radius = math.ceil(3 * sigma)
    taps = (-0.5 * (torch.arange(-radius, radius + 1) / sigma) ** 2).exp()
    taps = taps / taps.sum()
    for axis in (0, 1):
        shape = [1, 1, 1, 1]
        shape[2 + axis] = len(taps)
        length = values.shape[axis]
        index = torch.arange(-radius, length + radius) % length
        padded = values.index_select(axis, index)[None, None]
        values = functional.conv2d(padded, taps.view(shape))[0, 0]
    return values
