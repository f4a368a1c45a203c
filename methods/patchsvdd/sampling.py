"""Pairs of patches: neighbours whose direction is to be told, and near copies to be kept close.

The numbers come from NumPy's legacy generator in the order of the published loader, so that its
draws can be replayed. Only sizes are general: the published one is bound to 256 by 256 pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from bench.blocks.on_device import sent

from .network import LARGE, SMALL

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

Corner = tuple[int, int]
"""(row, column) of a patch's top left pixel."""

STEPS = tuple((y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if (y, x) != (0, 0))
"""The eight directions, row by row."""


def _corner(draw: np.random.RandomState, side: int, size: tuple[int, int]) -> Corner:
    return int(draw.randint(0, size[0] - side + 1)), int(draw.randint(0, size[1] - side + 1))


def _clipped(corner: Corner, step: Corner, side: int, size: tuple[int, int]) -> Corner:
    row, column = (min(max(c + s, 0), n - side) for c, s, n in zip(corner, step, size, strict=True))
    return row, column


def draw_neighbours(
    draw: np.random.RandomState, side: int, size: tuple[int, int]
) -> tuple[Corner, Corner, int]:
    """A patch, one beside it, and the direction from 0 to 7.

    The second is moved by 3/4 of the side and up to 1/4 more on each axis of the direction, then
    clipped into the picture; near its border the direction can thus be wrong, as published.
    """
    first = _corner(draw, side, size)
    direction = int(draw.randint(len(STEPS)))
    more = draw.randint(side // 4, size=2)
    row, column = STEPS[direction]
    step = (row * (3 * side // 4 + int(more[0])), column * (3 * side // 4 + int(more[1])))
    return first, _clipped(first, step, side, size), direction


def draw_near(
    draw: np.random.RandomState, side: int, size: tuple[int, int]
) -> tuple[Corner, Corner]:
    """A patch and one moved by up to 1/32 of the side on each axis, not by nothing."""
    first = _corner(draw, side, size)
    reach = side // 32
    row, column = 0, 0
    while (row, column) == (0, 0):
        row, column = int(draw.randint(-reach, reach + 1)), int(draw.randint(-reach, reach + 1))
    return first, _clipped(first, (row, column), side, size)


@dataclass(frozen=True)
class Pairs:
    """Patches of one side for a batch of items.

    Attributes:
        first, second: (B, 3, K, K) neighbours, with colour shift and noise.
        direction: (B,) labels from 0 to 7.
        near, near_to: (B, 3, K, K) patches a few pixels apart.
    """

    first: Tensor
    second: Tensor
    direction: Tensor
    near: Tensor
    near_to: Tensor


@dataclass(frozen=True)
class Sampler:
    """Draws the patches of a batch.

    Attributes:
        pictures: (N, 3, H, W) standardised training pictures.
        color_shift: deviation of a shift of each channel of a neighbour.
        noise: deviation of the noise of each of its pixels.
    """

    pictures: Tensor
    draw: np.random.RandomState
    color_shift: float = 0.02
    noise: float = 0.02

    def batch(self, indices: Sequence[int]) -> dict[int, Pairs]:
        """Patches of 64 and of 32 pixels; an index stands for a picture modulo their number."""
        size = (self.pictures.shape[-2], self.pictures.shape[-1])
        found: dict[int, tuple[list[Tensor], ...]] = {
            side: ([], [], [], []) for side in (LARGE, SMALL)
        }
        labels: dict[int, list[int]] = {LARGE: [], SMALL: []}
        for index in indices:
            picture = self.pictures[index % len(self.pictures)]
            # In the order of the published loader: neighbours of both sides, then near copies.
            for side in (LARGE, SMALL):
                one, two, direction = draw_neighbours(self.draw, side, size)
                first, second = self._disturbed(_cut(picture, one, side), _cut(picture, two, side))
                found[side][0].append(first)
                found[side][1].append(second)
                labels[side].append(direction)
            for side in (LARGE, SMALL):
                one, two = draw_near(self.draw, side, size)
                found[side][2].append(_cut(picture, one, side))
                found[side][3].append(_cut(picture, two, side))
        device = self.pictures.device
        return {
            side: Pairs(
                torch.stack(first),
                torch.stack(second),
                sent(torch.tensor(labels[side]), device),
                torch.stack(near),
                torch.stack(near_to),
            )
            for side, (first, second, near, near_to) in found.items()
        }

    def _disturbed(self, *patches: Tensor) -> list[Tensor]:
        """Shift of both, then noise of both; float32, as in place on the published patches."""
        shifts = [self.draw.normal(scale=self.color_shift, size=(3, 1, 1)) for _ in patches]
        changed = [_add(patch, shift) for patch, shift in zip(patches, shifts, strict=True)]
        return [
            _add(patch, self.draw.normal(scale=self.noise, size=tuple(patch.shape)))
            for patch in changed
        ]


def _cut(picture: Tensor, corner: Corner, side: int) -> Tensor:
    row, column = corner
    return picture[:, row : row + side, column : column + side]


def _add(patch: Tensor, drawn: NDArray[np.float64]) -> Tensor:
    """The sum in float64, stored as the patch is."""
    return (patch.double() + torch.from_numpy(drawn).to(patch.device)).to(patch.dtype)
