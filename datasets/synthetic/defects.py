"""A defect's own random draws, and the marks that several materials share.

Marks change an image in place. `clip` (H, W) in 0..1 keeps a mark on its part. Light comes from the
upper left: `LIGHT` points towards it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeVar

import numpy as np

from .geometry import Point, Window, around, polyline_distance
from .noise import Array, octaves, smoothstep, value_noise

if TYPE_CHECKING:
    from collections.abc import Sequence

T = TypeVar("T")
Severity = Literal["hard", "medium", "easy"]
SEVERITIES: tuple[Severity, ...] = ("hard", "medium", "easy")
RADIUS = {"hard": (0.008, 0.016), "medium": (0.018, 0.045), "easy": (0.05, 0.11)}
CONTRAST = {"hard": (0.35, 0.55), "medium": (0.55, 0.80), "easy": (0.80, 1.0)}
LIGHT = (-0.6, -0.8)


@dataclass(frozen=True)
class Defect:
    """What goes wrong in one image.

    Attributes:
        kind: the defect type.
        severity: scales size and contrast.
        rng: the defect's own stream; the scene's stream is never touched.
        growth: 1, and a little more at each redraw of a defect that could not be seen.
    """

    kind: str
    severity: Severity
    rng: np.random.Generator
    growth: float = 1.0

    def radius(self) -> float:
        """Equivalent radius, as a fraction of the side."""
        return float(self.rng.uniform(*RADIUS[self.severity])) * self.growth

    def contrast(self) -> float:
        """Factor of the full-strength change, at most 1."""
        return min(1.0, float(self.rng.uniform(*CONTRAST[self.severity])) * self.growth)

    def pick(self, hard: T, medium: T, easy: T) -> T:
        """The value of this severity."""
        return {"hard": hard, "medium": medium, "easy": easy}[self.severity]

    def between(self, low: float, high: float) -> float:
        return float(self.rng.uniform(low, high))

    def place(self, margin: float = 0.1) -> Point:
        """A point of the image, `margin` away from its border."""
        x, y = self.rng.uniform(margin, 1.0 - margin, 2)
        return float(x), float(y)


def blend(image: Array, part: Window, alpha: Array, colour: Array | Sequence[float]) -> None:
    """Mix a colour into a window; `alpha` (h, w), `colour` (C,) or (h, w, C)."""
    # Only where there is something to mix: marks are small, and their windows are not.
    there = alpha > 0.0
    paint = np.asarray(colour)
    share = alpha[there][:, None]
    under = image[part.index]
    under[there] = (
        under[there] * (1.0 - share) + (paint if paint.ndim == 1 else paint[there]) * share
    )


def blob(
    part: Window, centre: Point, radius: float, rng: np.random.Generator, rough: float
) -> Array:
    """(h, w) distance from the centre of an irregular shape, in units of its own border."""
    stretch, turn = rng.uniform(1.0, 1.6), rng.uniform(0.0, np.pi)
    dx, dy = part.x[None, :] - centre[0], part.y[:, None] - centre[1]
    u = (np.cos(turn) * dx + np.sin(turn) * dy) / np.sqrt(stretch)
    v = (np.cos(turn) * dy - np.sin(turn) * dx) * np.sqrt(stretch)
    angle = np.arctan2(v, u)
    border = np.ones_like(angle)
    for order in (2, 3, 5):
        border += rng.normal(0.0, 0.22 / order) * np.cos(order * angle + rng.uniform(0.0, 6.3))
    cells = int(np.clip(1.2 / radius, 12, 90))
    wobble = octaves(rng, part.x, part.y, cells, 2)
    return np.asarray(np.hypot(u, v) / radius / np.maximum(border, 0.4) + rough * wobble)


def _clipped(alpha: Array, clip: Array | None, part: Window) -> Array:
    return alpha if clip is None else alpha * clip[part.index]


def stain(
    image: Array, defect: Defect, centre: Point, tint: Sequence[float], clip: Array | None = None
) -> None:
    """A translucent multiplicative tint with a soft, noisy border."""
    radius = defect.radius() * 1.25
    part = around(image.shape[0], centre, 2.6 * radius)
    shape = blob(part, centre, radius, defect.rng, 0.16)
    body = smoothstep(1.2, 0.75, shape)
    rim = np.exp(-(((shape - 0.95) / 0.16) ** 2))
    alpha = defect.contrast() * _clipped(np.minimum(0.75 * body + 0.25 * rim, 1.0), clip, part)
    blend(image, part, alpha, image[part.index] * np.asarray(tint))


def rust(
    image: Array, defect: Defect, centre: Point, colour: Sequence[float], clip: Array | None = None
) -> None:
    """An opaque, mottled blob that breaks up into spots at its border."""
    radius = defect.radius()
    part = around(image.shape[0], centre, 2.8 * radius)
    shape = blob(part, centre, radius, defect.rng, 0.34)
    grain = octaves(defect.rng, part.x, part.y, 60, 2)
    alpha = _clipped(smoothstep(1.15, 0.85, shape), clip, part) * np.clip(0.86 + 0.12 * grain, 0, 1)
    mottled = np.asarray(colour) * (1.0 + 0.22 * grain)[..., None]
    blend(image, part, (0.3 + 0.6 * defect.contrast()) * alpha, mottled)


def walk(
    rng: np.random.Generator, start: Point, angle: float, length: float, wiggle: float
) -> list[Point]:
    """A random walk; `wiggle` is about the spread of the direction of its steps, in radians."""
    steps = int(np.clip(length / 0.008, 6, 40))
    # Most of the wiggle is jitter about the direction: a pure walk of the angle would curl up.
    jitter = rng.normal(0.0, 1.4 * wiggle, steps)
    turns = angle + np.cumsum(rng.normal(0.0, 0.35 * wiggle, steps)) + jitter
    x = start[0] + np.cumsum(np.cos(turns)) * length / steps
    y = start[1] + np.cumsum(np.sin(turns)) * length / steps
    return [start, *((float(a), float(b)) for a, b in zip(x, y, strict=True))]


def line(size: int, points: Sequence[Point], width: float, soft: float = 0.0) -> Array:
    """(size, size) coverage of a line; thinner than a pixel it fades instead of vanishing."""
    edge = 1.0 / size + soft
    distance = polyline_distance(size, points, width / 2 + 2.0 * edge)
    return np.asarray(
        np.clip(0.5 + (width / 2 - distance) / edge, 0.0, 1.0) * min(1.0, width / edge)
    )


def hairline(width: float, size: int) -> float:
    """A line's width, at least 0.6 pixels: finer ones cannot be seen in a small image."""
    return max(width, 0.6 / size)


def whole(size: int) -> Window:
    """The window of the whole image."""
    return around(size, (0.5, 0.5), 0.5)


def scratch(
    image: Array, defect: Defect, start: Point, angle: float, clip: Array | None = None
) -> None:
    """A nearly straight line with a lit and a shaded flank."""
    size = image.shape[0]
    length = defect.between(*defect.pick((0.04, 0.08), (0.09, 0.18), (0.2, 0.36))) * defect.growth
    width = hairline(defect.between(0.0022, 0.0042) * defect.pick(1.0, 1.15, 1.4), size)
    points = walk(defect.rng, start, angle, length, 0.025)
    side = (-np.sin(angle) * width * 0.55, np.cos(angle) * width * 0.55)
    if side[0] * LIGHT[0] + side[1] * LIGHT[1] > 0:
        side = (-side[0], -side[1])
    k, part = defect.contrast(), whole(size)
    # The groove's flank that faces the light lies on the far side from it.
    for sign, colour, strength in ((-1.0, 0.08, 0.55), (1.0, 1.0, 0.6)):
        moved = [(x + sign * side[0], y + sign * side[1]) for x, y in points]
        alpha = _clipped(line(size, moved, width), clip, part)
        blend(image, part, strength * k * alpha, [colour] * image.shape[2])


def crack(
    image: Array, defect: Defect, start: Point, angle: float, clip: Array | None = None
) -> None:
    """A dark random walk with a thin light edge; with one branch from medium on."""
    size = image.shape[0]
    length = defect.between(*defect.pick((0.05, 0.09), (0.11, 0.2), (0.24, 0.42))) * defect.growth
    width = hairline(defect.between(0.0026, 0.0045) * defect.pick(1.0, 1.15, 1.5), size)
    trunk = walk(defect.rng, start, angle, length, 0.3)
    lines = [trunk]
    if defect.severity != "hard":
        fork = trunk[len(trunk) // 2]
        turn = angle + float(defect.rng.choice([-1.0, 1.0])) * defect.between(0.5, 1.0)
        lines.append(walk(defect.rng, fork, turn, 0.45 * length, 0.3))
    k, part = defect.contrast(), whole(size)
    for points in lines:
        lit = [(x - LIGHT[0] * width, y - LIGHT[1] * width) for x, y in points]
        light = np.clip(image * 1.25 + 0.04, 0.0, 1.0)
        blend(image, part, 0.5 * k * _clipped(line(size, lit, width), clip, part), light)
        dark = _clipped(line(size, points, width), clip, part)
        blend(image, part, 0.9 * k * dark, [0.05] * image.shape[2])


def pit(
    image: Array, centre: Point, radius: float, depth: float, clip: Array | None = None
) -> None:
    """A round hole: dark inside, its rim shaded towards the light and lit away from it."""
    part = around(image.shape[0], centre, 1.8 * radius)
    dx, dy = (part.x[None, :] - centre[0]) / radius, (part.y[:, None] - centre[1]) / radius
    distance = np.hypot(dx, dy)
    facing = (dx * LIGHT[0] + dy * LIGHT[1]) / np.maximum(distance, 0.3)
    rim = np.exp(-(((distance - 1.05) / 0.22) ** 2))
    lit = _clipped(0.55 * depth * rim * np.clip(-facing, 0.0, 1.0), clip, part)
    blend(image, part, lit, [1.0] * image.shape[2])
    shaded = _clipped(0.5 * depth * rim * np.clip(facing, 0.0, 1.0), clip, part)
    blend(image, part, shaded, [0.0] * image.shape[2])
    hole = _clipped(depth * 0.85 * smoothstep(1.05, 0.7, distance), clip, part)
    blend(image, part, hole, image[part.index] * 0.15)


def fibre(image: Array, defect: Defect, start: Point, colour: Sequence[float]) -> None:
    """A pale hair that casts a faint shadow."""
    size = image.shape[0]
    width = hairline(defect.between(0.0022, 0.004), size)
    length = defect.between(*defect.pick((0.05, 0.1), (0.12, 0.22), (0.26, 0.45))) * defect.growth
    points = walk(defect.rng, start, defect.between(0.0, 6.3), length, 0.22)
    k, part = defect.contrast(), whole(size)
    shadow = [(x - LIGHT[0] * 0.004, y - LIGHT[1] * 0.004) for x, y in points]
    blend(image, part, 0.35 * k * line(size, shadow, width, 0.002), [0.0] * image.shape[2])
    blend(image, part, (0.35 + 0.6 * k) * line(size, points, width), colour)


def debris(image: Array, defect: Defect, centre: Point, colour: Sequence[float]) -> None:
    """An irregular chip lying on the surface: facets of different brightness and a shadow."""
    radius = defect.radius() * 0.8
    k = 0.45 + 0.55 * defect.contrast()
    throw = radius * 0.45
    part = around(image.shape[0], centre, 2.6 * radius + throw)
    shape = blob(part, centre, radius, defect.rng, 0.1)
    below = (centre[0] - LIGHT[0] * throw, centre[1] - LIGHT[1] * throw)
    dx, dy = part.x[None, :] - below[0], part.y[:, None] - below[1]
    blend(
        image,
        part,
        0.6 * k * smoothstep(1.5, 0.5, np.hypot(dx, dy) / radius),
        [0.02] * image.shape[2],
    )
    facets = np.sign(value_noise(defect.rng, part.x, part.y, int(np.clip(0.7 / radius, 8, 80))))
    shade = 1.0 + 0.25 * facets - 0.2 * np.clip(shape, 0.0, 1.0)
    blend(image, part, k * smoothstep(1.1, 0.9, shape), np.asarray(colour) * shade[..., None])
