"""OpenCV's conversions of 8-bit RGB pictures to other colour spaces and back.

Planes, not pixels: all arrays are (3, ...) uint8, so that each step is one pass over contiguous
numbers. Hues go from 0 to 179. How far each agrees with OpenCV stands in docs/methods/draem.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Planes = NDArray[np.uint8]
    Floats = NDArray[np.float32]

_XYZ = np.array(
    [
        [0.412453, 0.357580, 0.180423],
        [0.212671, 0.715160, 0.072169],
        [0.019334, 0.119193, 0.950227],
    ]
)
"""Linear sRGB to CIE XYZ, white D65."""
_WHITE = _XYZ.sum(1)
_RGB = np.linalg.inv(_XYZ).astype(np.float32)
_WHITE_UV = 13 * np.array([4, 9]) * _WHITE[:2] / (_WHITE @ [1, 15, 3])
_KINK = 0.008856
"""Below it, L* is a straight line."""
_FINE = 4095
"""Steps of linear light in the tables."""


def _root(light: NDArray[Any]) -> NDArray[Any]:
    """The cube root of CIE Lab, a straight line near zero."""
    return np.where(light > _KINK, np.cbrt(light), 7.787 * light + 16 / 116)


def _cube(root: Floats) -> Floats:
    """The inverse of `_root`."""
    return np.where(root > 0.206893, root**3, (root - np.float32(16 / 116)) / np.float32(7.787))


def _decoded(levels: NDArray[Any]) -> NDArray[Any]:
    """sRGB values in [0, 1] to linear light."""
    return np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)


def _encoded(light: NDArray[Any]) -> NDArray[Any]:
    """Linear light in [0, 1] to sRGB values."""
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def _whole(values: NDArray[Any]) -> Planes:
    """Rounded and cut to 0 to 255."""
    levels: Planes = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return levels


_LIGHT = _decoded(np.arange(256) / 255)
_LIGHT_STEPS = np.rint(2040 * _LIGHT).astype(np.int32)
_ENCODED = _whole(255 * _encoded(np.arange(_FINE + 1) / _FINE))
# For Lab, in whole numbers as OpenCV: light in 2040 steps, roots in 2^15.
_STEPS_XYZ = np.rint(4096 * _XYZ / _WHITE[:, None]).astype(np.int32)
_ROOTS = np.rint(32768 * _root(np.arange(3072) / 2040)).astype(np.int32)
_RECIPROCALS = {
    scale: np.concatenate([[0], np.rint(4096 * scale / np.arange(1, 256))]).astype(np.int32)
    for scale in (30, 255)
}


def to_hsv(rgb: Planes) -> Planes:
    """Hue, saturation, value, by the whole-number divisions of OpenCV."""
    value = rgb.max(0)
    spread = value - rgb.min(0)
    saturation = (spread * _RECIPROCALS[255][value] + 2048) >> 12
    red, green, blue = rgb.astype(np.int32)
    turned = red - green + 4 * spread.astype(np.int32)
    np.copyto(turned, blue - red + 2 * spread.astype(np.int32), where=value == green)
    np.copyto(turned, green - blue, where=value == red)
    hue = (turned * _RECIPROCALS[30][spread] + 2048) >> 12
    hue += 180 * (hue < 0)
    planes: Planes = np.stack([hue, saturation, value]).astype(np.uint8)
    return planes


def from_hsv(hsv: Planes) -> Planes:
    """RGB of hue, saturation and value; cut to whole levels, as OpenCV's vector code does.

    In OpenCV's order of operations: a product just below a whole number loses a level there too.
    """
    saturation, value = hsv[1:].astype(np.float32) * np.float32(1 / 255)
    unit = value * (1 - saturation * _ramps(hsv[0].astype(np.float32)))
    levels: Planes = (unit * np.float32(255)).astype(np.uint8)
    return levels


def _ramps(hue: Floats) -> Floats:
    """(3, ...) how far each of R, G, B is from the largest channel, as a share of the spread."""
    sixth = hue / np.float32(30)
    shifts = np.array([5, 3, 1], np.float32).reshape(-1, *[1] * hue.ndim)
    k = sixth + shifts
    np.subtract(k, 6, out=k, where=k >= 6)
    ramps: Floats = np.clip(np.minimum(k, 4 - k), 0, 1)
    return ramps


def to_hls(rgb: Planes) -> Planes:
    """Hue, lightness, saturation."""
    unit = rgb * np.float32(1 / 255)
    top, bottom = unit.max(0), unit.min(0)
    spread, total = top - bottom, top + bottom
    one = np.float32(1)
    is_grey = spread == 0
    saturation = spread / np.where(is_grey, one, np.minimum(total, 2 - total))
    # Degrees, in OpenCV's order of operations: halves are common, and are rounded to even.
    red, green, blue = unit
    scale = np.float32(60) / np.where(is_grey, one, spread)
    hue = (red - green) * scale + 240
    np.copyto(hue, (blue - red) * scale + 120, where=top == green)
    np.copyto(hue, (green - blue) * scale, where=top == red)
    np.copyto(hue, hue + 360, where=hue < 0)
    planes: Planes = np.rint(np.stack([hue / 2, total / 2 * 255, saturation * 255])).astype(
        np.uint8
    )
    planes[0] %= 180
    return planes


def from_hls(hls: Planes) -> Planes:
    """RGB of hue, lightness and saturation."""
    hue, lightness, saturation = hls.astype(np.float32)
    chroma = saturation / 255 * np.minimum(lightness, 255 - lightness)
    return _whole(lightness + chroma * (1 - 2 * _ramps(hue)))


def _luma_space(
    first: tuple[int, float, float], second: tuple[int, float, float], green: tuple[float, float]
) -> tuple[Callable[[Planes], Planes], Callable[[Planes], Planes]]:
    """To and from luma and two colour differences.

    Args:
        first, second: the channel whose difference it is, its factor, and the factor back.
        green: factors of both in green.
    """

    def forward(rgb: Planes) -> Planes:
        unit = rgb.astype(np.float32)
        luma = np.rint(0.299 * unit[0] + 0.587 * unit[1] + 0.114 * unit[2])
        planes = [luma] + [(unit[c] - luma) * f + 128 for c, f, _ in (first, second)]
        return _whole(np.stack(planes))

    def back(planes: Planes) -> Planes:
        luma, one, two = planes.astype(np.float32)
        one, two = one - 128, two - 128
        rgb = np.empty_like(planes, np.float32)
        rgb[first[0]] = luma + first[2] * one
        rgb[second[0]] = luma + second[2] * two
        rgb[1] = luma + green[0] * one + green[1] * two
        return _whole(rgb)

    return forward, back


def to_lab(rgb: Planes) -> Planes:
    """CIE L*a*b*: L times 2.55, a and b plus 128; in whole numbers."""
    red, green, blue = _LIGHT_STEPS[rgb]
    x, y, z = (_ROOTS[(red * r + green * g + blue * b + 2048) >> 12] for r, g, b in _STEPS_XYZ)
    half = 1 << 14
    # 296 is 116 * 2.55 and 1336934 is 16 * 2.55 * 2^15, both cut.
    lightness = (296 * y - 1336934 + half) >> 15
    a = (500 * (x - y) + (128 << 15) + half) >> 15
    b = (200 * (y - z) + (128 << 15) + half) >> 15
    planes: Planes = np.clip(np.stack([lightness, a, b]), 0, 255).astype(np.uint8)
    return planes


def from_lab(lab: Planes) -> Planes:
    """RGB of CIE L*a*b*."""
    lightness, a, b = lab.astype(np.float32)
    fy = (lightness / np.float32(2.55) + 16) / 116
    roots = np.stack([fy + (a - 128) / 500, fy, fy - (b - 128) / 200])
    return _from_xyz(_cube(roots) * _WHITE.astype(np.float32).reshape(3, *[1] * fy.ndim))


def to_luv(rgb: Planes) -> Planes:
    """CIE L*u*v*: L times 2.55, u and v brought from their ranges to 0 to 255."""
    light = _LIGHT.astype(np.float32)[rgb]
    x, y, z = np.tensordot(_XYZ.astype(np.float32), light, 1)
    lightness = 116 * np.cbrt(y) - 16
    np.copyto(lightness, np.float32(903.3) * y, where=y <= _KINK)
    scale = 13 * lightness / np.maximum(x + 15 * y + 3 * z, np.float32(1e-9))
    u = 4 * x * scale - lightness * np.float32(_WHITE_UV[0])
    v = 9 * y * scale - lightness * np.float32(_WHITE_UV[1])
    return _whole(np.stack([lightness * 2.55, (u + 134) * (255 / 354), (v + 140) * (255 / 262)]))


def from_luv(luv: Planes) -> Planes:
    """RGB of CIE L*u*v*."""
    lightness, u, v = luv.astype(np.float32)
    lightness = lightness / np.float32(2.55)
    y = ((lightness + 16) / 116) ** 3
    np.copyto(y, lightness / np.float32(903.3), where=lightness < 8)
    up = 3 * (u * np.float32(354 / 255) - 134 + lightness * np.float32(_WHITE_UV[0]))
    below = v * np.float32(262 / 255) - 140 + lightness * np.float32(_WHITE_UV[1])
    # OpenCV bounds the quotient: dark pixels have differences that no light has.
    down = 1 / (4 * np.where(np.abs(below) < 1, np.copysign(1, below), below))
    return _from_xyz(np.stack([3 * y * up * down, y, y * ((156 * lightness - up) * down - 5)]))


def _from_xyz(xyz: Floats) -> Planes:
    light = np.tensordot(_RGB, xyz, 1)
    steps = np.clip(light * _FINE + np.float32(0.5), 0, _FINE).astype(np.int32)
    levels: Planes = _ENCODED[steps]
    return levels


SPACES: dict[str, tuple[Callable[[Planes], Planes], Callable[[Planes], Planes], int]] = {
    "YCrCb": (*_luma_space((0, 0.713, 1.403), (2, 0.564, 1.773), (-0.714, -0.344)), 0),
    "HSV": (to_hsv, from_hsv, 2),
    "HLS": (to_hls, from_hls, 1),
    "Lab": (to_lab, from_lab, 0),
    "Luv": (to_luv, from_luv, 0),
    "YUV": (*_luma_space((2, 0.492, 2.032), (0, 0.877, 1.140), (-0.395, -0.581)), 0),
}
"""By name: from RGB, to RGB, and the plane of lightness."""
