"""The ten changes of a texture, of 8-bit pictures, and the colour spaces that they need.

What imgaug 0.4.0 does on OpenCV's conversions, written anew: imgaug does not run under NumPy 2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image, ImageEnhance, ImageOps

from .colours import SPACES, from_hsv, to_hsv
from .perlin import rotate

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    Pixels = NDArray[np.uint8]
    Draw = Callable[[float, float], float]
    """A uniform number between two bounds."""

_LEVELS = np.arange(256)


def gamma(pixels: Pixels, powers: Sequence[float]) -> Pixels:
    """Each channel to a power of its own, in [0, 1]; cut to whole levels."""
    tables = [np.floor(255 * (_LEVELS / 255) ** power) for power in powers]
    return _by_table(pixels, tables)


def brightness(pixels: Pixels, space: str, factor: float, shift: float, adds_first: bool) -> Pixels:
    """Times `factor` and plus `shift` in the lightness of a colour space, 8 bits after each."""
    forward, back, channel = SPACES[space]
    planes = forward(_planes(pixels))
    levels: NDArray[Any] = _LEVELS
    for step in ("add", "multiply") if adds_first else ("multiply", "add"):
        levels = levels + shift if step == "add" else levels * factor
        levels = np.clip(np.floor(levels), 0, 255)
    planes[channel] = levels.astype(np.uint8)[planes[channel]]
    return _pixels(back(planes))


def sharpness(pixels: Pixels, factor: float) -> Pixels:
    """Pillow's: 0 smooth, 1 unchanged, 2 sharper."""
    return np.asarray(ImageEnhance.Sharpness(Image.fromarray(pixels)).enhance(factor))


def hue_and_saturation(pixels: Pixels, hue: int, saturation: int) -> Pixels:
    """Plus `hue` / 255 of the colour circle, cut to 180 steps, and plus `saturation` of 255."""
    planes = to_hsv(_planes(pixels))
    planes[0] = (planes[0].astype(np.int16) + int(hue / 255 * 180)) % 180
    planes[1] = np.clip(planes[1].astype(np.int16) + saturation, 0, 255)
    return _pixels(from_hsv(planes))


def solarise(pixels: Pixels, threshold: float) -> Pixels:
    """Levels at or above the threshold are inverted."""
    return _by_table(pixels, [np.where(threshold <= _LEVELS, 255 - _LEVELS, _LEVELS)] * 3)


def posterise(pixels: Pixels, bits: int) -> Pixels:
    """The highest `bits` of each level stay."""
    kept: Pixels = pixels & np.uint8(256 - 2 ** (8 - bits))
    return kept


def invert(pixels: Pixels) -> Pixels:
    """255 minus each level."""
    inverted: Pixels = np.uint8(255) - pixels
    return inverted


def autocontrast(pixels: Pixels, cutoff: int) -> Pixels:
    """Pillow's: each channel stretched to 0 to 255, but for `cutoff` percent at both ends."""
    return np.asarray(ImageOps.autocontrast(Image.fromarray(pixels), cutoff=cutoff))


def equalise(pixels: Pixels) -> Pixels:
    """Pillow's: each channel with a flat histogram."""
    return np.asarray(ImageOps.equalize(Image.fromarray(pixels)))


def turn(pixels: Pixels, degrees: float) -> Pixels:
    """Clockwise about the centre, bilinear, black outside.

    OpenCV rounds positions to 1/32 pixel, so that its levels differ by up to 5.
    """
    planes = torch.from_numpy(np.array(pixels)).permute(2, 0, 1)[None].float()
    turned = rotate(planes, torch.tensor([degrees]))[0].round().to(torch.uint8)
    return turned.permute(1, 2, 0).numpy()


def _planes(pixels: Pixels) -> Pixels:
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _pixels(planes: Pixels) -> Pixels:
    return np.ascontiguousarray(planes.transpose(1, 2, 0))


def _by_table(pixels: Pixels, tables: Sequence[NDArray[Any]]) -> Pixels:
    """A new level for each level, channel by channel."""
    table = [int(level) for channel in tables for level in channel]
    return np.asarray(Image.fromarray(pixels).point(table))


def _draw_gamma(pixels: Pixels, draw: Draw) -> Pixels:
    return gamma(pixels, [draw(0.5, 2.0) for _ in range(3)])


def _draw_brightness(pixels: Pixels, draw: Draw) -> Pixels:
    space = list(SPACES)[_whole(draw, 0, len(SPACES) - 1)]
    return brightness(pixels, space, draw(0.8, 1.2), _whole(draw, -30, 30), draw(0, 1) < 0.5)


def _draw_sharpness(pixels: Pixels, draw: Draw) -> Pixels:
    return sharpness(pixels, draw(0.0, 2.0))


def _draw_hue(pixels: Pixels, draw: Draw) -> Pixels:
    return hue_and_saturation(pixels, _whole(draw, -50, 50), _whole(draw, -50, 50))


def _draw_solarise(pixels: Pixels, draw: Draw) -> Pixels:
    return solarise(pixels, draw(32, 128)) if draw(0, 1) < 0.5 else pixels


def _draw_posterise(pixels: Pixels, draw: Draw) -> Pixels:
    return posterise(pixels, _whole(draw, 1, 8))


def _draw_invert(pixels: Pixels, _: Draw) -> Pixels:
    return invert(pixels)


def _draw_autocontrast(pixels: Pixels, draw: Draw) -> Pixels:
    return autocontrast(pixels, _whole(draw, 0, 20))


def _draw_equalise(pixels: Pixels, _: Draw) -> Pixels:
    return equalise(pixels)


def _draw_turn(pixels: Pixels, draw: Draw) -> Pixels:
    return turn(pixels, draw(-45, 45))


OPERATIONS: tuple[Callable[[Pixels, Draw], Pixels], ...] = (
    _draw_gamma,
    _draw_brightness,
    _draw_sharpness,
    _draw_hue,
    _draw_solarise,
    _draw_posterise,
    _draw_invert,
    _draw_autocontrast,
    _draw_equalise,
    _draw_turn,
)
"""Each changes an (H, W, 3) picture with parameters that it draws, in the published order."""


def _whole(draw: Draw, low: int, high: int) -> int:
    """A whole number from low to high, both included."""
    return min(int(draw(low, high + 1) - low), high - low) + low
