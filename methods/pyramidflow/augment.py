"""Augmentation of training images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor


def flips_rot90(image: Tensor, generator: torch.Generator) -> Tensor:
    """Flips and quarter turns, each with probability 1/2, as for the textures of MVTec AD.

    The turn is by 0 to 3 quarters, each equally likely. An image that is not square is turned by
    half turns only, so that a batch keeps one size.
    """
    draws = torch.rand(3, generator=generator)
    quarters = int(torch.randint(4, (), generator=generator))
    if draws[0] < 0.5:
        image = image.flip(-1)
    if draws[1] < 0.5:
        image = image.flip(-2)
    if draws[2] < 0.5:
        if image.shape[-1] != image.shape[-2]:
            quarters -= quarters % 2
        image = image.rot90(quarters, (-2, -1))
    return image


AUGMENTATIONS: dict[str, Callable[[Tensor, torch.Generator], Tensor] | None] = {
    "none": None,
    "flips_rot90": flips_rot90,
}
