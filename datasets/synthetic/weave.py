"""Weave: a twill of blue-grey warp and sand-coloured weft, every yarn a little different."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .defects import Defect, blend, blob, fibre, stain
from .geometry import around, axis
from .noise import Array, octaves, smoothstep, value_noise
from .scene import Scene, nearest_pixel

YARNS = 34
# Yarns are numbered from well outside the image, so that a turned image has them everywhere.
FIRST = 28
WARP = (0.34, 0.42, 0.54)
WEFT = (0.74, 0.66, 0.52)
GAP = (0.09, 0.09, 0.10)


@dataclass(frozen=True)
class Yarn:
    """One yarn of a system at every pixel.

    Attributes:
        across: distance from the yarn's axis, in units of its half width; |across| < 1 inside.
        along: position along the yarn, in yarn spacings.
        height: of the yarn's axis, -1 below to 1 on top.
        tone: brightness factor.
    """

    across: Array
    along: Array
    height: Array
    tone: Array

    def profile(self) -> Array:
        """Height of the round surface above the axis, 0..1."""
        return np.asarray(np.sqrt(np.clip(1.0 - self.across**2, 0.0, 1.0)))

    def colour(self, base: tuple[float, float, float]) -> Array:
        """(H, W, 3): round shading, light from above left, twisted fibres."""
        twist = np.sin(2.0 * np.pi * (1.6 * self.along + 0.45 * self.across))
        shade = 0.42 + 0.5 * self.profile() - 0.1 * self.across + 0.05 * twist
        shade = shade * (0.82 + 0.18 * self.height) * self.tone
        return np.asarray(shade[..., None] * np.asarray(base))


def _positions(rng: np.random.Generator, size: int) -> tuple[Array, Array]:
    """(H, W) position across the warp and across the weft, in yarn spacings."""
    x = axis(size)
    angle = np.radians(rng.uniform(-2.5, 2.5))
    phase = rng.uniform(0.0, 4.0, 2)
    sway = [0.0025 * value_noise(rng, x, x, 6) for _ in range(2)]
    u, v = x[None, :] - 0.5, x[:, None] - 0.5
    p = np.cos(angle) * u + np.sin(angle) * v + sway[0]
    q = np.cos(angle) * v - np.sin(angle) * u + sway[1]
    return p * YARNS + phase[0] + FIRST, q * YARNS + phase[1] + FIRST


def _render(rng: np.random.Generator, size: int, defect: Defect | None) -> Array:
    p, q = _positions(rng, size)
    count = 2 * FIRST + 8
    width = 0.47 * (1.0 + 0.10 * rng.uniform(-1.0, 1.0, (2, count)))
    tone = 1.0 + 0.05 * rng.uniform(-1.0, 1.0, (2, count))
    i, j = np.floor(p).astype(np.intp), np.floor(q).astype(np.intp)
    half, bright = width[1][j], tone[1][j]
    if defect and defect.kind in ("broken_yarn", "slub"):
        j, half, bright = _spoil(defect, p, q, j, half, bright)
    # Two over, two under, moved on by one yarn per row: heights of the two systems are opposite.
    warp = Yarn((p - i - 0.5) / width[0][i], q, np.cos(np.pi / 2 * (i + q - 1.0)), tone[0][i])
    weft = Yarn((q - j - 0.5) / half, p, -np.cos(np.pi / 2 * (j + p - 1.0)), bright)
    image = _compose(warp, weft, YARNS / size)
    x = axis(size)
    image *= (1.0 + 0.035 * octaves(rng, x, x, 90, 2))[..., None]
    if defect:
        _mark(image, defect)
    return image


def _compose(warp: Yarn, weft: Yarn, pixel: float) -> Array:
    """The higher yarn on top, the gap where there is none; `pixel` in yarn spacings."""
    gap = np.asarray(GAP)
    inside = [
        np.clip(0.5 + 0.45 * (1.0 - np.abs(y.across)) / pixel, 0.0, 1.0) for y in (warp, weft)
    ]
    a, b = (part[..., None] for part in inside)
    colours = warp.colour(WARP), weft.colour(WEFT)
    warp_on_top = a * colours[0] + (1.0 - a) * (b * colours[1] + (1.0 - b) * gap)
    weft_on_top = b * colours[1] + (1.0 - b) * (a * colours[0] + (1.0 - a) * gap)
    lead = warp.height + 0.7 * warp.profile() - weft.height - 0.7 * weft.profile()
    share = np.clip(0.5 + lead / 0.3, 0.0, 1.0)[..., None]
    return np.asarray(share * warp_on_top + (1.0 - share) * weft_on_top)


def _spoil(
    defect: Defect, p: Array, q: Array, j: np.ndarray, half: Array, bright: Array
) -> tuple[np.ndarray, Array, Array]:
    """Thin out or thicken one weft yarn around a random place."""
    row, column = nearest_pixel(defect.place(0.12), p.shape[0])
    yarn, centre = int(j[row, column]), float(p[row, column])
    own_half, own_bright = float(half[row, column]), float(bright[row, column])
    if defect.kind == "broken_yarn":
        length = defect.pick(0.025, 0.07, 0.16) * defect.growth * YARNS
        gone = smoothstep(1.0, 0.55, np.abs(p - centre) / length)
        thin = np.maximum(half * (1.0 - gone), 1e-3)
        return j, np.where(j == yarn, thin, half), bright
    length = defect.pick(0.03, 0.045, 0.07) * YARNS
    bump = smoothstep(1.0, 0.1, np.abs(p - centre) / length)
    thick = own_half * (1.0 + defect.pick(0.35, 0.6, 0.95) * defect.growth * bump)
    # A thick yarn covers parts of its neighbours.
    taken = (np.abs(q - yarn - 0.5) < thick) & (bump > 0)
    lighter = own_bright * (1.0 + 0.12 * bump)
    return (
        np.where(taken, yarn, j),
        np.where(taken, thick, half),
        np.where(taken, lighter, bright),
    )


def _mark(image: Array, defect: Defect) -> None:
    if defect.kind == "hole":
        _hole(image, defect)
    elif defect.kind == "stain":
        stain(image, defect, defect.place(), (0.72, 0.56, 0.36))
    elif defect.kind == "foreign_fibre":
        fibre(image, defect, defect.place(0.15), (0.93, 0.92, 0.88))


def _hole(image: Array, defect: Defect) -> None:
    """Darkness with a frayed border, and pushed-up yarns around it."""
    radius, centre = 0.8 * defect.radius(), defect.place()
    part = around(image.shape[0], centre, 2.6 * radius + 0.01)
    shape = blob(part, centre, radius, defect.rng, 0.2)
    # Torn along the two yarn directions.
    frayed = shape + 0.14 * value_noise(defect.rng, part.x, part.y, 20, 70)
    frayed += 0.14 * value_noise(defect.rng, part.x, part.y, 70, 20)
    rim = np.exp(-(((shape - 1.25) / 0.22) ** 2))
    pushed_up = np.minimum(image[part.index] * 1.3 + 0.06, 1.0)
    blend(image, part, (0.4 + 0.6 * defect.contrast()) * rim, pushed_up)
    blend(image, part, smoothstep(1.15, 0.85, frayed), (0.04, 0.04, 0.045))


SCENE = Scene("weave", 3, ("broken_yarn", "slub", "hole", "stain", "foreign_fibre"), (), _render)
