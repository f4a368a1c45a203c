"""Square patches of images: drawn at random for training, in a regular grid for testing."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import torch
from torch.nn import functional

from bench.blocks.pixels import unnormalised
from bench.errors import MethodError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor

    from bench.api import Images


class Draws(Protocol):
    """The random numbers of one augmentation."""

    def share(self) -> float:
        """Uniform in [0, 1)."""

    def angle(self, limit: float) -> float:
        """Degrees, uniform in +-`limit`."""

    def offset(self, bound: int) -> int:
        """A whole number from 0 to `bound` - 1."""


@dataclass(frozen=True)
class GeneratorDraws:
    """Draws from a generator of the CPU."""

    generator: torch.Generator

    def share(self) -> float:
        return float(torch.rand((), generator=self.generator))

    def angle(self, limit: float) -> float:
        return limit * (2 * self.share() - 1)

    def offset(self, bound: int) -> int:
        return int(torch.randint(bound, (), generator=self.generator))


@dataclass(frozen=True)
class RandomPatch:
    """A patch of an image, perhaps rotated and mirrored (the augmentation of AE-SSIM's code).

    Attributes:
        patch: side, in pixels.
        rotate_probability: of a rotation, where the largest upright square that it leaves without
            black corners is at least a patch.
        rotate_degrees: largest angle, either way.
        flip_horizontal: probability that left and right change places.
        flip_vertical: probability that top and bottom do.
    """

    patch: int
    rotate_probability: float = 0.0
    rotate_degrees: float = 0.0
    flip_horizontal: float = 0.0
    flip_vertical: float = 0.0

    def __call__(self, image: Tensor, generator: torch.Generator) -> Tensor:
        """(3, H, W), ImageNet-normalised -> (3, patch, patch) in [0, 1]."""
        return self.draw(unnormalised(image), GeneratorDraws(generator))

    def draw(self, pixels: Tensor, draws: Draws) -> Tensor:
        """(C, H, W) in [0, 1] -> (C, patch, patch)."""
        cropped = min(pixels.shape[-2:]) > self.patch or pixels.shape[-1] != pixels.shape[-2]
        if draws.share() < self.rotate_probability:
            angle = draws.angle(self.rotate_degrees)
            draws.share()  # the published code decides here for the inner square, with certainty
            turned = inner_square(rotated(pixels, angle), angle)
            if min(turned.shape[-2:]) >= self.patch:
                pixels = turned
        draws.share()  # and here for the crop
        if cropped:
            rows, columns = (size - self.patch for size in pixels.shape[-2:])
            # As published, the last offset is never drawn where there is a choice.
            top, left = draws.offset(max(rows, 1)), draws.offset(max(columns, 1))
            pixels = pixels[:, top : top + self.patch, left : left + self.patch]
        if draws.share() < self.flip_horizontal:
            pixels = pixels.flip(-1)
        if draws.share() < self.flip_vertical:
            pixels = pixels.flip(-2)
        return pixels


def rotated(pixels: Tensor, angle: float) -> Tensor:
    """(C, H, W) in [0, 1] turned anticlockwise about (W/2, H/2) by `angle` degrees.

    Bilinear, black outside, rounded to 8 bits, as OpenCV's `warpAffine` does it. Its pixels have
    whole coordinates, so the turn is half a pixel off the middle of the image.
    """
    _, height, width = pixels.shape
    cosine, sine = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    y, x = torch.meshgrid(
        torch.arange(height, dtype=torch.float64) - height / 2,
        torch.arange(width, dtype=torch.float64) - width / 2,
        indexing="ij",
    )
    from_x, from_y = cosine * x - sine * y + width / 2, sine * x + cosine * y + height / 2
    grid = torch.stack([2 * from_x / (width - 1) - 1, 2 * from_y / (height - 1) - 1], -1)
    turned = functional.grid_sample(255 * pixels[None].double(), grid[None], align_corners=True)
    return (turned[0].round() / 255).to(pixels.dtype)


def inner_square(pixels: Tensor, angle: float) -> Tensor:
    """The largest upright rectangle of the image's shape without black corners after a turn."""
    turn = math.radians(angle % 90)
    factor = 1 / (math.cos(turn) + math.sin(turn))
    height, width = (round(factor * size) for size in pixels.shape[-2:])
    top, left = (pixels.shape[-2] - height) // 2, (pixels.shape[-1] - width) // 2
    return pixels[:, top : top + height, left : left + width]


def random_patches(
    train: Images,
    augment: Callable[[Tensor, torch.Generator], Tensor],
    count: int,
    batch: int,
) -> Iterator[Tensor]:
    """`count` patches, from as many random passes over the images as that takes.

    Nothing is stored: no patch comes twice.

    Yields:
        (batch, 3, patch, patch) on the run's device; the last one is smaller where `batch` does
        not divide `count`.
    """
    waiting: list[Tensor] = []
    held = 0
    while count:
        for patches in train.batches(min(batch, len(train)), shuffle=True, augment=augment):
            waiting.append(patches)
            held += len(patches)
            while held >= (wanted := min(batch, count)) and wanted:
                joined = torch.cat(waiting)
                yield joined[:wanted]
                waiting = [joined[wanted:]]
                held, count = held - wanted, count - wanted
            if not count:
                break


@dataclass(frozen=True)
class Tiling:
    """Patches that cover an image: `stride` apart, the last flush with the edge.

    Attributes:
        size: (height, width) of the images.
        patch: side of a patch.
        stride: from one patch to the next.
    """

    size: tuple[int, int]
    patch: int
    stride: int

    def __post_init__(self) -> None:
        if min(self.size) < self.patch:
            raise MethodError(
                f"images of {self.size[0]}x{self.size[1]} pixels are smaller than a patch of "
                f"{self.patch}; use larger images or a smaller patch"
            )
        if not 0 < self.stride <= self.patch:
            raise MethodError(
                f"stride = {self.stride} leaves pixels out between patches of {self.patch}; "
                f"choose 1 to {self.patch}"
            )

    @cached_property
    def origins(self) -> list[tuple[int, int]]:
        """(top, left) of each patch, row by row."""
        rows, columns = (self._starts(length) for length in self.size)
        return [(row, column) for row in rows for column in columns]

    @cached_property
    def counts(self) -> Tensor:
        """(H, W) patches that cover each pixel."""
        found = torch.zeros(self.size)
        for window in self._windows(found):
            window += 1
        return found

    def cut(self, image: Tensor) -> Tensor:
        """(C, H, W) -> (P, C, patch, patch)."""
        return torch.stack(list(self._windows(image)))

    def join(self, patches: Tensor) -> Tensor:
        """(P, C, patch, patch) -> (C, H, W), the mean over the patches that cover a pixel."""
        total = patches.new_zeros(patches.shape[1], *self.size)
        for window, patch in zip(self._windows(total), patches, strict=True):
            window += patch
        return total / self.counts.to(patches.device, patches.dtype)

    def _windows(self, image: Tensor) -> Iterator[Tensor]:
        for top, left in self.origins:
            yield image[..., top : top + self.patch, left : left + self.patch]

    def _starts(self, length: int) -> list[int]:
        last = length - self.patch
        starts = list(range(0, last + 1, self.stride))
        return starts if starts[-1] == last else [*starts, last]
