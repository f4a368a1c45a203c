"""Windows, poses and signed distances. Lengths are fractions of the image side, y points down."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .noise import Array

Point = tuple[float, float]


def axis(size: int) -> Array:
    """(size,) centres of the pixels of one row or column."""
    return (np.arange(size) + 0.5) / size


@dataclass(frozen=True)
class Window:
    """A rectangle of pixels, cut at the image border; may be empty."""

    rows: slice
    columns: slice
    x: Array
    """(w,) centres of the columns."""
    y: Array
    """(h,) centres of the rows."""

    @property
    def index(self) -> tuple[slice, slice]:
        return self.rows, self.columns


def window(size: int, low: Point, high: Point) -> Window:
    """The pixels between two corners (x, y), and one pixel around them."""
    start = [min(max(int(np.floor(c * size)) - 1, 0), size) for c in low]
    stop = [min(max(int(np.ceil(c * size)) + 1, 0), size) for c in high]
    columns, rows = (slice(a, max(a, b)) for a, b in zip(start, stop, strict=True))
    centres = axis(size)
    return Window(rows, columns, centres[columns], centres[rows])


def around(size: int, centre: Point, reach: float) -> Window:
    """The square window of half-width `reach` around a point."""
    (x, y) = centre
    return window(size, (x - reach, y - reach), (x + reach, y + reach))


@dataclass(frozen=True)
class Pose:
    """Where a part lies: its own origin is brought to `centre`, turned and scaled.

    Attributes:
        centre: image position of the part's origin.
        angle: radians, clockwise on the screen.
        scale: image length of one unit of the part.
    """

    centre: Point
    angle: float
    scale: float = 1.0

    def to_part(self, x: Array, y: Array) -> tuple[Array, Array]:
        """Part coordinates of image positions."""
        c, s = np.cos(self.angle) / self.scale, np.sin(self.angle) / self.scale
        dx, dy = x - self.centre[0], y - self.centre[1]
        return np.asarray(c * dx + s * dy), np.asarray(c * dy - s * dx)

    def to_image(self, point: Point) -> Point:
        """Image position of a part position."""
        c, s = np.cos(self.angle) * self.scale, np.sin(self.angle) * self.scale
        u, v = point
        return (
            float(self.centre[0] + c * u - s * v),
            float(self.centre[1] + s * u + c * v),
        )


def draw_pose(rng: np.random.Generator, degrees: float, shift: float, scale: float) -> Pose:
    """A pose around the image centre: uniform in +-degrees, +-shift and 1 +- scale."""
    angle, dx, dy, grow = rng.uniform(-1.0, 1.0, 4)
    return Pose(
        (0.5 + shift * dx, 0.5 + shift * dy), float(np.radians(degrees * angle)), 1.0 + scale * grow
    )


def cover(distance: Array, pixel: float) -> Array:
    """Share of each pixel inside a shape, from its signed distance (negative inside)."""
    return np.clip(0.5 - distance / pixel, 0.0, 1.0)


def box_distance(u: Array, v: Array, half: Point, corner: float = 0.0) -> Array:
    """Signed distance to a rectangle with rounded corners, centred at the origin."""
    a, b = np.abs(u) - half[0] + corner, np.abs(v) - half[1] + corner
    outside = np.hypot(np.maximum(a, 0.0), np.maximum(b, 0.0))
    return np.asarray(outside + np.minimum(np.maximum(a, b), 0.0) - corner)


def hexagon_distance(u: Array, v: Array, apothem: float) -> Array:
    """Signed distance to a regular hexagon's sides (a bound near its corners)."""
    height = float(np.sqrt(0.75))
    a, b = np.abs(u), np.abs(v)
    return np.asarray(np.maximum(height * a + 0.5 * b, b) - apothem)


def segment_distance(x: Array, y: Array, a: Point, b: Point) -> Array:
    """Distance to the straight segment from `a` to `b`."""
    ux, uy = b[0] - a[0], b[1] - a[1]
    squared = max(ux * ux + uy * uy, 1e-12)
    t = np.clip(((x - a[0]) * ux + (y - a[1]) * uy) / squared, 0.0, 1.0)
    return np.asarray(np.hypot(x - a[0] - t * ux, y - a[1] - t * uy))


def polyline_distance(size: int, points: Sequence[Point], reach: float) -> Array:
    """(size, size) distance to a line through points; `reach` wherever it is further away.

    Each segment is measured only in its own window: that is what makes long lines cheap.
    """
    field = np.full((size, size), reach)
    for a, b in pairwise(points):
        low = (min(a[0], b[0]) - reach, min(a[1], b[1]) - reach)
        high = (max(a[0], b[0]) + reach, max(a[1], b[1]) + reach)
        part = window(size, low, high)
        near = segment_distance(part.x[None, :], part.y[:, None], a, b)
        field[part.index] = np.minimum(field[part.index], near)
    return field
