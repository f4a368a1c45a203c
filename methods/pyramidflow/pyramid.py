"""The pyramid: a feature map as bands of falling resolution, and back.

The published code (gasharper/PyramidFlow at 6977d5a) decimates by max pooling after the blur,
where the paper's supplement describes plain decimation; this follows the code. Every blur pads
with zeros. Composition is linear and undoes decomposition exactly, whatever the decimation is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.nn import functional

from bench.blocks.on_device import constant

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


def _square(row: tuple[int, ...]) -> tuple[tuple[float, ...], ...]:
    """The outer product of a row, which is in sixteenths, with itself."""
    return tuple(tuple(a * b / 256 for b in row) for a in row)


_BINOMIAL = _square((1, 4, 6, 4, 1))
# The same filter run over two equal neighbours: the sum of two copies, one pixel apart.
_DOUBLED = _square((1, 5, 10, 10, 5, 1))


def _taps(square: tuple[tuple[float, ...], ...], like: Tensor) -> Tensor:
    """The same 5x5 or 6x6 filter for every channel of `like`."""
    return constant(square, like).expand(like.shape[1], 1, -1, -1)


def blur(x: Tensor) -> Tensor:
    """Binomial 5x5 filter of every channel, zeros outside; (B, C, H, W), same shape."""
    return functional.conv2d(x, _taps(_BINOMIAL, x), padding=2, groups=x.shape[1])


def down(x: Tensor) -> Tensor:
    """Half the size: blur, then the maximum of each 2x2 cell; an odd last row is dropped."""
    return functional.max_pool2d(blur(x), 2)


def up(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Brought to (height, width) by nearest neighbour, then blurred.

    To exactly twice the size, both are one transposed convolution: the blurred map of a pixel
    that became a 2x2 cell.
    """
    if size == (2 * x.shape[-2], 2 * x.shape[-1]):
        return functional.conv_transpose2d(
            x, _taps(_DOUBLED, x), stride=2, padding=2, groups=x.shape[1]
        )
    return blur(functional.interpolate(x, size=size, mode="nearest"))


def decompose(x: Tensor, levels: int) -> list[Tensor]:
    """Bands of a feature map, finest first; the last one is the low-pass rest.

    Args:
        x: (B, C, H, W).
        levels: number of tensors returned, at least 1.
    """
    bands: list[Tensor] = []
    for _ in range(levels - 1):
        coarse = down(x)
        bands.append(x - up(coarse, (x.shape[-2], x.shape[-1])))
        x = coarse
    return [*bands, x]


def compose(bands: Sequence[Tensor]) -> Tensor:
    """The (B, C, H, W) map of a pyramid; linear, so also of squared or absolute differences."""
    x = bands[-1]
    for band in reversed(bands[:-1]):
        x = up(x, (band.shape[-2], band.shape[-1])) + band
    return x


def level_sizes(size: tuple[int, int], levels: int) -> list[tuple[int, int]]:
    """(height, width) of every level of a map that 2^(levels-1) divides."""
    return [(size[0] >> level, size[1] >> level) for level in range(levels)]
