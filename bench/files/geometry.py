"""Sizes: what a protocol's resize and crop make of an image. No pixels, no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.errors import ConfigError

if TYPE_CHECKING:
    from bench.settings.protocol import Protocol

Size = tuple[int, int]
"""(height, width)"""
Box = tuple[int, int, int, int]
"""(top, left, bottom, right)"""


@dataclass(frozen=True)
class Geometry:
    """Resize and crop of a protocol, for a method whose own input size is `method_size`."""

    protocol: Protocol
    method_size: Size | int | None = None

    @property
    def is_fixed(self) -> bool:
        """Whether every image gets one size, whatever its own."""
        resize = self.protocol.resize
        side = self.method_size if resize == "method" else resize
        return self.protocol.crop is not None or not isinstance(side, int)

    def resized(self, native: Size) -> Size:
        """Size after the resize, before the crop.

        Raises:
            ConfigError: the protocol asks for the method's own size, and it has none.
        """
        resize = self.protocol.resize
        if resize == "method":
            if self.method_size is None:
                raise ConfigError(
                    f"protocol {self.protocol.name!r} resizes to the method's own input size, and "
                    "this method has none; choose another protocol, for example 'standard'"
                )
            resize = self.method_size
        return shorter_side(native, resize) if isinstance(resize, int) else resize

    def cropped(self, native: Size) -> Size:
        """Size of the image that the method sees.

        Raises:
            ConfigError: the crop is larger than the resized image.
        """
        size = self.resized(native)
        crop = self.protocol.crop
        if crop is None:
            return size
        if crop > min(size):
            raise ConfigError(
                f"protocol {self.protocol.name!r}: a crop of {crop} is larger than the resized "
                f"image of {size[1]} x {size[0]}"
            )
        return crop, crop

    def field(self, native: Size) -> Box:
        """The part of a native image that the method sees, to the nearest pixel, never empty."""
        if self.protocol.crop is None:
            return 0, 0, *native
        size = self.resized(native)
        top, left, bottom, right = centre_box(size, self.cropped(native))
        y, x = native[0] / size[0], native[1] / size[1]
        top, left = min(round(top * y), native[0] - 1), min(round(left * x), native[1] - 1)
        return top, left, max(round(bottom * y), top + 1), max(round(right * x), left + 1)


def shorter_side(native: Size, side: int) -> Size:
    """Size with the shorter side brought to `side` and the longer cut to whole pixels."""
    height, width = native
    if height <= width:
        return side, side * width // height
    return side * height // width, side


def centre_box(size: Size, inner: Size) -> Box:
    """The centred box of size `inner`; an odd margin is split half to even, as torchvision does."""
    top, left = round((size[0] - inner[0]) / 2), round((size[1] - inner[1]) / 2)
    return top, left, top + inner[0], left + inner[1]
