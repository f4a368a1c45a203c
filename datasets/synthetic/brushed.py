"""Brushed: steel with a fine grain and a broad highlight; the one grey category."""

from __future__ import annotations

import numpy as np

from .defects import LIGHT, Defect, pit, rust, scratch, whole
from .geometry import axis
from .noise import Array, noise_at, smoothstep, value_noise
from .scene import Scene

# (cells along the grain, cells across it, strength): long fine hairs and longer broad streaks.
GRAIN = ((12, 240, 0.055), (22, 420, 0.050), (3, 70, 0.025))


def _render(rng: np.random.Generator, size: int, defect: Defect | None) -> Array:
    x = axis(size)
    angle = float(np.radians(rng.uniform(-14.0, 14.0)))
    u, v = x[None, :] - 0.5, x[:, None] - 0.5
    along = np.cos(angle) * u + np.sin(angle) * v
    across = np.cos(angle) * v - np.sin(angle) * u
    image = 0.40 + _highlight(rng, along, across)
    for cells, fine, strength in GRAIN:
        lattice = rng.standard_normal((int(1.6 * fine), int(1.6 * cells) + 4))
        grain = noise_at(lattice, (along + 0.8) * cells, (across + 0.8) * fine)
        image = image * (1.0 + strength * grain)
    image = image * (1.0 + 0.02 * value_noise(rng, x, x, 5))
    picture = np.asarray(image[..., None])
    if defect:
        _mark(picture, defect, angle)
    return picture


def _highlight(rng: np.random.Generator, along: Array, across: Array) -> Array:
    """A bright band across the grain at a random place, a little tilted."""
    centre, tilt = rng.uniform(-0.5, 0.5), rng.uniform(-0.25, 0.25)
    width = rng.uniform(0.22, 0.40)
    return np.asarray(0.26 * np.exp(-(((along - centre - tilt * across) / width) ** 2)))


def _mark(image: Array, defect: Defect, angle: float) -> None:
    place = defect.place()
    if defect.kind == "scratch":
        turn = angle + np.radians(defect.between(25.0, 155.0))
        scratch(image, defect, defect.place(0.18), float(turn))
    elif defect.kind == "dent":
        _dent(image, defect)
    elif defect.kind == "rust":
        rust(image, defect, place, [0.2])
    elif defect.kind == "pits":
        spread = defect.pick(0.02, 0.035, 0.06)
        for _ in range(defect.pick(3, 6, 12)):
            dx, dy = defect.rng.normal(0.0, spread, 2)
            radius = defect.between(0.0028, 0.0055) * defect.growth
            pit(image, (place[0] + dx, place[1] + dy), radius, 0.3 + 0.6 * defect.contrast())


def _dent(image: Array, defect: Defect) -> None:
    """The flank that faces the light is brighter, the other darker: gradient of a Gaussian bump."""
    radius, place = 0.8 * defect.radius(), defect.place()
    part = whole(image.shape[0])
    stretch, turn = defect.between(1.0, 1.5), defect.between(0.0, 3.1)
    dx, dy = part.x[None, :] - place[0], part.y[:, None] - place[1]
    u = (np.cos(turn) * dx + np.sin(turn) * dy) / radius / stretch
    v = (np.cos(turn) * dy - np.sin(turn) * dx) / radius
    bump = np.exp(-(u * u + v * v)) * smoothstep(3.0, 2.2, np.hypot(u, v))
    slope = (dx * LIGHT[0] + dy * LIGHT[1]) / radius * bump
    image *= (1.0 - 0.95 * (0.25 + 0.75 * defect.contrast()) * slope)[..., None]


SCENE = Scene("brushed", 1, ("scratch", "dent", "rust", "pits"), ("dent",), _render)
