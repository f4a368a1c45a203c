"""CutPaste, Scar and colour jitter of 8-bit pictures (arXiv:2104.04015, section 2.1).

Draws and rounding are those of Runinho/pytorch-cutpaste at 10d8bf7.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageEnhance

from bench.api import MethodError

if TYPE_CHECKING:
    from collections.abc import Sequence


class Jitter(NamedTuple):
    """One change of colours: the order of its four steps, and their parameters.

    Attributes:
        order: a permutation of 0 (brightness), 1 (contrast), 2 (saturation), 3 (hue).
        factors: of brightness, contrast and saturation, around 1.
        hue: turns of the colour circle, around 0.
    """

    order: Sequence[int]
    factors: Sequence[float]
    hue: float


class Draws:
    """Random numbers for one picture, from a generator of its own."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def uniform(self, low: float, high: float) -> float:
        """A number from [low, high)."""
        unit = torch.rand((), generator=self.generator, dtype=torch.float64).item()
        return low + (high - low) * unit

    def jitter(self, strength: float) -> Jitter | None:
        """Order and parameters of a change of colours; None for a strength of 0."""
        if strength == 0:
            return None
        order = torch.randperm(4, generator=self.generator).tolist()
        factors = [self.uniform(max(0.0, 1 - strength), 1 + strength) for _ in range(3)]
        return Jitter(order, factors, self.uniform(-strength, strength))


@dataclass(frozen=True)
class Shapes:
    """Sizes of what is cut out.

    Attributes:
        area: of a CutPaste patch, least and largest share of the picture.
        aspect: least width over height of a patch; the largest is its inverse, and the draw is
            uniform in the logarithm.
        scar_width, scar_height: in pixels.
        scar_degrees: largest rotation of a scar.
        jitter: strength of the change of a patch's colours; 0: none.
    """

    area: tuple[float, float]
    aspect: float
    scar_width: tuple[float, float]
    scar_height: tuple[float, float]
    scar_degrees: float
    jitter: float

    def require_room(self, height: int, width: int) -> None:
        """Refuse pictures that a patch or a scar may not fit into.

        Raises:
            MethodError: names both sizes.
        """
        longest = math.sqrt(self.area[1] * height * width / self.aspect)
        diagonal = math.hypot(math.ceil(self.scar_width[1]), math.ceil(self.scar_height[1])) + 2
        needed = math.ceil(max(longest, diagonal))
        if min(height, width) < needed:
            raise MethodError(
                f"cutpaste: images of {height} x {width} pixels have no room for a patch of "
                f"{needed}; raise the image size, or lower area or the scar's sizes"
            )


def cut_paste(picture: Image.Image, shapes: Shapes, draws: Draws) -> Image.Image:
    """A rectangle of the picture, its colours changed, pasted elsewhere in it."""
    ratio = draws.uniform(*shapes.area)
    bound = math.log(1 / shapes.aspect)
    aspect = math.exp(draws.uniform(-bound, bound))
    area = ratio * picture.width * picture.height
    width, height = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
    top = int(draws.uniform(0, picture.height - height))
    left = int(draws.uniform(0, picture.width - width))
    patch = picture.crop((left, top, left + width, top + height))
    patch = change_colours(patch, draws.jitter(shapes.jitter))
    top = int(draws.uniform(0, picture.height - height))
    left = int(draws.uniform(0, picture.width - width))
    result = picture.copy()
    result.paste(patch, (left, top))
    return result


def scar(picture: Image.Image, shapes: Shapes, draws: Draws) -> Image.Image:
    """A thin rectangle of the picture, its colours changed, turned, pasted elsewhere in it."""
    width, height = draws.uniform(*shapes.scar_width), draws.uniform(*shapes.scar_height)
    top = int(draws.uniform(0, picture.height - height))
    left = int(draws.uniform(0, picture.width - width))
    # Sizes are not whole numbers: Pillow rounds right and lower edge, half to even.
    patch = picture.crop((left, top, left + width, top + height))
    patch = change_colours(patch, draws.jitter(shapes.jitter))
    degrees = draws.uniform(-shapes.scar_degrees, shapes.scar_degrees)
    patch = patch.convert("RGBA").rotate(degrees, expand=True)
    # As published: the row is bounded by the width, so that a corner may hang over the border.
    top = int(draws.uniform(0, picture.height - patch.width))
    left = int(draws.uniform(0, picture.width - patch.height))
    result = picture.copy()
    result.paste(patch, (left, top), mask=patch.getchannel("A"))
    return result


def change_colours(picture: Image.Image, jitter: Jitter | None) -> Image.Image:
    """Brightness, contrast, saturation and hue in the order drawn; 8 bits after each step."""
    if jitter is None:
        return picture
    for step in jitter.order:
        picture = _turn_hue(picture, jitter.hue) if step == 3 else _enhance(picture, step, jitter)
    return picture


def _enhance(picture: Image.Image, step: int, jitter: Jitter) -> Image.Image:
    kind = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)[int(step)]
    return kind(picture).enhance(jitter.factors[int(step)])


def _turn_hue(picture: Image.Image, turns: float) -> Image.Image:
    hue, saturation, value = picture.convert("HSV").split()
    shifted = (np.asarray(hue).astype(np.int16) + int(turns * 255)) % 256
    hue = Image.fromarray(shifted.astype(np.uint8))
    return Image.merge("HSV", (hue, saturation, value)).convert("RGB")
