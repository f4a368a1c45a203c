"""Stone: a granular terrazzo of four minerals with dark joints."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from .defects import (
    LIGHT,
    Defect,
    blend,
    blob,
    crack,
    line,
    pit,
    walk,
    whole,
)
from .geometry import around, axis
from .noise import Array, octaves, value_noise
from .scene import Scene

GRAINS = 1500
MINERALS = np.array(
    [(0.59, 0.55, 0.50), (0.51, 0.48, 0.45), (0.65, 0.61, 0.55), (0.45, 0.39, 0.36)]
)
SHARES = (0.38, 0.34, 0.16, 0.12)
REACH = 0.06


def _render(rng: np.random.Generator, size: int, defect: Defect | None) -> Array:
    points = _seeds(rng)
    count = len(points)
    mineral = rng.choice(4, count, p=SHARES)
    tone = 1.0 + 0.08 * rng.uniform(-1.0, 1.0, count)
    x = axis(size)
    warp = [0.0035 * octaves(rng, x, x, 30, 2) for _ in range(2)]
    if defect and defect.kind == "patch":
        points, mineral, tone = _finer(defect, points, mineral, tone)
    where = np.stack([x[None, :] + warp[0], x[:, None] + warp[1]], axis=-1).reshape(-1, 2)
    found = cKDTree(points).query(where, k=2)
    distance, index = np.asarray(found[0]), np.asarray(found[1])
    own = index[:, 0].reshape(size, size)
    joint = (distance[:, 1] - distance[:, 0]).reshape(size, size)
    crystals = 1.0 + 0.05 * octaves(rng, x, x, 70, 2) + 0.02 * value_noise(rng, x, x, 6)
    image = MINERALS[mineral[own]] * (tone[own] * crystals)[..., None]
    image *= (1.0 - 0.30 * np.clip(1.0 - joint / 0.0065, 0.0, 1.0))[..., None]
    if defect:
        _mark(image, defect)
    return np.asarray(image)


def _seeds(rng: np.random.Generator) -> Array:
    """(n, 2) middles of the grains, a little beyond the image: a grid, thoroughly shaken."""
    cells = round(np.sqrt(GRAINS) * (1.0 + 2.0 * REACH))
    place = np.stack(np.meshgrid(np.arange(cells), np.arange(cells)), axis=-1).reshape(-1, 2)
    shaken = place + 0.5 + rng.uniform(-0.5, 0.5, place.shape)
    return np.asarray(shaken / cells * (1.0 + 2.0 * REACH) - REACH)


def _finer(
    defect: Defect, points: Array, mineral: np.ndarray, tone: Array
) -> tuple[Array, np.ndarray, Array]:
    """Grains of half the size, and the same colours, in one region.

    The grains of the region are moved out of the way, not deleted: the others keep their numbers.
    """
    radius, (cx, cy) = 1.5 * defect.radius() + 0.012, defect.place(0.12)
    points = points.copy()
    points[np.hypot(points[:, 0] - cx, points[:, 1] - cy) < radius] = 9.0
    # Smaller grains have more joints: made lighter, so that brightness does not give them away.
    light = 1.085
    count = int(4 * GRAINS * np.pi * radius**2) + 3
    r, turn = radius * np.sqrt(defect.rng.uniform(0, 1, count)), defect.rng.uniform(0, 6.284, count)
    fresh = np.stack([cx + r * np.cos(turn), cy + r * np.sin(turn)], axis=1)
    return (
        np.concatenate([points, fresh]),
        np.concatenate([mineral, defect.rng.choice(4, count, p=SHARES)]),
        np.concatenate([tone, light + 0.08 * defect.rng.uniform(-1.0, 1.0, count)]),
    )


def _mark(image: Array, defect: Defect) -> None:
    if defect.kind == "crack":
        crack(image, defect, defect.place(0.2), defect.between(0.0, 6.28))
    elif defect.kind == "blowhole":
        pit(image, defect.place(), 0.9 * defect.radius(), 0.45 + 0.55 * defect.contrast())
    elif defect.kind == "glue":
        _glue(image, defect)
    elif defect.kind == "metal_flake":
        _flakes(image, defect)


def _glue(image: Array, defect: Defect) -> None:
    """A translucent strip: hazy inside, its lit edge bright, the other one dark."""
    size, part = image.shape[0], whole(image.shape[0])
    width = 0.011 + 0.5 * defect.radius()
    length = defect.between(*defect.pick((0.06, 0.1), (0.14, 0.24), (0.3, 0.5)))
    points = walk(defect.rng, defect.place(0.2), defect.between(0.0, 6.28), length, 0.07)
    k, body = defect.contrast(), line(size, points, width, 0.004)
    blend(image, part, 0.42 * k * body, (0.80, 0.77, 0.66))
    shift = 0.0035
    for sign, colour, strength in ((1.0, 1.0, 0.55), (-1.0, 0.1, 0.3)):
        moved = [(x + sign * shift * LIGHT[0], y + sign * shift * LIGHT[1]) for x, y in points]
        edge = np.clip(
            body
            - line(
                size,
                [(2 * x - a, 2 * y - b) for (x, y), (a, b) in zip(points, moved, strict=True)],
                width,
                0.004,
            ),
            0.0,
            1.0,
        )
        blend(image, part, strength * k * edge, [colour] * 3)


def _flakes(image: Array, defect: Defect) -> None:
    """Small bright splinters, each turned another way."""
    cx, cy = defect.place(0.12)
    spread = defect.pick(0.0, 0.02, 0.045)
    for _ in range(defect.pick(1, 3, 6)):
        dx, dy = defect.rng.normal(0.0, 1.0, 2) * spread
        radius = defect.between(0.005, 0.0085) * defect.growth
        centre = (float(cx + dx), float(cy + dy))
        part = around(image.shape[0], centre, 3.0 * radius)
        shape = blob(part, centre, radius, defect.rng, 0.0)
        glint = 0.82 + 0.18 * np.clip(shape, 0.0, 1.0)
        alpha = np.where(shape < 1.0, 0.5 + 0.5 * defect.contrast(), 0.0)
        blend(image, part, alpha, np.asarray((0.98, 0.99, 1.0)) * glint[..., None])


SCENE = Scene("stone", 3, ("crack", "blowhole", "patch", "glue", "metal_flake"), (), _render)
