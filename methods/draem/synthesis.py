"""Synthetic anomalies: textures pasted through thresholded noise, for a whole batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch import Tensor

from .operations import OPERATIONS
from .perlin import perlin, rotate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


class Textures(Protocol):
    """Where textures come from."""

    def __len__(self) -> int: ...

    def pictures(self, index: list[int]) -> NDArray[np.uint8]:
        """(B, height, width, 3) RGB pixels."""


@dataclass(frozen=True)
class Settings:
    """What is drawn, and from which ranges.

    Attributes:
        anomaly_share: of the samples that get an anomaly; the mask of a few is empty all the same.
        rotate_share: of the samples whose picture is turned, by up to `rotate_degrees`.
        rotate_degrees: of the pictures and of the noise.
        operations: how many of the ten a texture goes through, without repetition.
        max_cells: the noise has up to 2^max_cells cells on a side.
        threshold: noise above it is the mask.
        beta_max: largest share of the picture inside the mask.
    """

    anomaly_share: float = 0.5
    rotate_share: float = 0.3
    rotate_degrees: float = 90.0
    operations: int = 3
    max_cells: int = 5
    threshold: float = 0.5
    beta_max: float = 0.8


@dataclass(frozen=True)
class Samples:
    """A batch for training, on the CPU.

    Attributes:
        pictures: (B, 3, H, W) in [0, 1]; some of them turned.
        altered: the same with anomalies.
        mask: (B, 1, H, W) of 0 and 1, where they are.
    """

    pictures: Tensor
    altered: Tensor
    mask: Tensor


class Synthesis:
    """Draws anomalies as the published reader does (section 3.2 of the paper), but whole batches.

    A sample without anomaly needs no texture and no noise: whether it has one is drawn first, and
    the published reader draws it last. The draws are independent, so the distribution is the same.
    """

    def __init__(self, textures: Textures, settings: Settings, generator: torch.Generator) -> None:
        self.textures = textures
        self.settings = settings
        self.generator = generator

    def __call__(self, pictures: Tensor) -> Samples:
        """Samples of (B, 3, H, W) uint8 pictures."""
        count, _, height, width = pictures.shape
        unit = self._turned(pictures.float()) / 255
        chosen = self._chosen(count, self.settings.anomaly_share)
        altered, mask = unit.clone(), torch.zeros(count, 1, height, width)
        if len(chosen):
            mask[chosen] = self._masks(len(chosen), (height, width))
            beta = self.settings.beta_max * self._uniform(len(chosen)).view(-1, 1, 1, 1)
            textures = self._textures(len(chosen)) / 255
            altered[chosen] = paste(unit[chosen], textures, mask[chosen], beta)
        return Samples(unit, altered, mask)

    def _uniform(self, *shape: int) -> Tensor:
        return torch.rand(shape, generator=self.generator)

    def _between(self, low: float, high: float) -> float:
        return low + (high - low) * float(self._uniform(1))

    def _chosen(self, count: int, share: float) -> Tensor:
        """Indices of the samples to which something of this probability happens."""
        return (self._uniform(count) < share).nonzero()[:, 0]

    def _angles(self, count: int) -> Tensor:
        return (2 * self._uniform(count) - 1) * self.settings.rotate_degrees

    def _turned(self, pictures: Tensor) -> Tensor:
        """(B, 3, H, W) levels 0 to 255, some pictures turned, rounded as 8-bit pictures are."""
        chosen = self._chosen(len(pictures), self.settings.rotate_share)
        if len(chosen):
            pictures[chosen] = rotate(pictures[chosen], self._angles(len(chosen))).round()
        return pictures

    def _masks(self, count: int, size: tuple[int, int]) -> Tensor:
        """(count, 1, height, width) of 0 and 1."""
        powers = torch.randint(
            self.settings.max_cells + 1, (count, 2), generator=self.generator
        ).tolist()
        noise = torch.stack(
            [perlin(self._uniform(2**y + 1, 2**x + 1), size)[None] for y, x in powers]
        )
        return (rotate(noise, self._angles(count)) > self.settings.threshold).float()

    def _textures(self, count: int) -> Tensor:
        """(count, 3, height, width) levels 0 to 255."""
        index = torch.randint(len(self.textures), (count,), generator=self.generator).tolist()
        changed = [self._change(pixels) for pixels in self.textures.pictures(index)]
        return torch.from_numpy(np.stack(changed)).permute(0, 3, 1, 2).float()

    def _change(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """An (H, W, 3) texture after some operations, which take its channels in reverse order.

        The published reader hands BGR pictures to a library that expects RGB.
        """
        order = torch.randperm(len(OPERATIONS), generator=self.generator).tolist()
        pixels = pixels[..., ::-1]
        for number in order[: self.settings.operations]:
            pixels = OPERATIONS[number](np.ascontiguousarray(pixels), self._between)
        return pixels[..., ::-1]


def paste(pictures: Tensor, textures: Tensor, mask: Tensor, beta: Tensor) -> Tensor:
    """Pictures outside the mask; inside, (1 - beta) of the texture and beta of the picture.

    Args:
        pictures, textures: (B, 3, H, W) in [0, 1].
        mask: (B, 1, H, W) of 0 and 1.
        beta: (B, 1, 1, 1).
    """
    return pictures + mask * (1 - beta) * (textures - pictures)


def as_bytes(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """(B, 3, H, W) uint8 pixels on the CPU of normalised images."""
    unit = images.cpu() * torch.tensor(std).view(3, 1, 1) + torch.tensor(mean).view(3, 1, 1)
    return (unit * 255).round().clamp(0, 255).to(torch.uint8)
