"""Random streams and smooth noise, the same at every resolution.

Lengths are fractions of the image side. Noise lives on a lattice with a fixed number of cells per
side, so that 256 and 1024 pixels show the same scene. Only elementwise arithmetic is used (no
matrix product, no Fourier transform): the pixels do not depend on the number of threads.
"""

from __future__ import annotations

import zlib
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Array: TypeAlias = NDArray[np.float64]
Mask: TypeAlias = NDArray[np.bool_]
Pixels: TypeAlias = NDArray[np.uint8]

# Lattice cells kept outside the image: tilted and displaced coordinates reach a little beyond it.
MARGIN = 0.3
# Mean of the sum of squared cubic B-spline weights over a cell: the variance left on one axis.
SPLINE_VARIANCE = 151 / 315


def stream(seed: int, *words: str | int) -> np.random.Generator:
    """An independent generator for one purpose, named by words and numbers.

    Adding a draw to one stream leaves every other stream as it is.
    """
    key = [zlib.crc32(word.encode()) if isinstance(word, str) else word for word in words]
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, *key])))


def smoothstep(low: float, high: float, x: Array) -> Array:
    """0 below `low`, 1 above `high`, a cubic in between; `low` > `high` runs downwards."""
    t = np.clip((x - low) / (high - low), 0.0, 1.0)
    return np.asarray(t * t * (3.0 - 2.0 * t))


def _spline(x: Array, cells: int) -> tuple[NDArray[np.intp], tuple[Array, Array, Array, Array]]:
    """First lattice index and the four weights at each position."""
    u = (x + MARGIN) * cells
    first = np.floor(u).astype(np.intp)
    return first, _weights(u - first)


def _weights(t: Array) -> tuple[Array, Array, Array, Array]:
    """The four cubic B-spline weights at a fraction of a cell."""
    s = 1.0 - t
    return (
        s * s * s / 6.0,
        (3.0 * t * t * t - 6.0 * t * t + 4.0) / 6.0,
        (3.0 * s * s * s - 6.0 * s * s + 4.0) / 6.0,
        t * t * t / 6.0,
    )


def value_noise(
    rng: np.random.Generator, x: Array, y: Array, cells: int, cells_y: int | None = None
) -> Array:
    """Smooth noise, zero mean, unit variance, at the crossings of columns and rows.

    Args:
        x: (W,) columns within [-0.25, 1.25]; the same draw whatever the columns.
        y: (H,) rows.
        cells: lattice cells per image side along x, and along y unless `cells_y` is given.

    Returns:
        (H, W).
    """
    cells_y = cells_y or cells
    reach = 1.0 + 2.0 * MARGIN
    lattice = rng.standard_normal((int(cells_y * reach) + 5, int(cells * reach) + 5))
    row, row_weights = _spline(y, cells_y)
    column, column_weights = _spline(x, cells)
    rows = sum(w[:, None] * lattice[row + k] for k, w in enumerate(row_weights))
    rows = np.asarray(rows)
    field = sum(w * rows[:, column + k] for k, w in enumerate(column_weights))
    return np.asarray(field) / SPLINE_VARIANCE


def octaves(rng: np.random.Generator, x: Array, y: Array, cells: int, count: int) -> Array:
    """(H, W) sum of `count` noises, each twice as fine and half as strong; about unit variance."""
    parts = [0.5**k * value_noise(rng, x, y, cells * 2**k) for k in range(count)]
    power = sum(0.25**k for k in range(count))
    return np.asarray(sum(parts)) / float(np.sqrt(power))


def noise_along(values: Array, u: Array) -> Array:
    """Smooth noise of one coordinate: cubic B-spline through given independent normal draws.

    Args:
        values: (n,) draws.
        u: (H, W) positions in cells, within [0, n - 4]; clipped.
    """
    u = np.clip(u, 0.0, len(values) - 4.0)
    first = np.minimum(u.astype(np.intp), len(values) - 4)
    parts = (w * values[first + k] for k, w in enumerate(_weights(u - first)))
    return np.asarray(sum(parts)) / float(np.sqrt(SPLINE_VARIANCE))


def noise_at(lattice: Array, u: Array, v: Array) -> Array:
    """Cubic B-spline noise of a given lattice at any positions, in cells; mirrored at its ends.

    Args:
        lattice: (rows, columns) independent normal draws.
        u: (H, W) column positions.
        v: (H, W) row positions.
    """
    shape = np.broadcast_shapes(u.shape, v.shape)
    where = np.stack([np.broadcast_to(v, shape), np.broadcast_to(u, shape)])
    field = ndimage.map_coordinates(lattice, where, order=3, mode="mirror", prefilter=False)
    return np.asarray(field, dtype=np.float64) / SPLINE_VARIANCE


def blur(image: Array, sigma: float) -> Array:
    """Gaussian blur over the first two axes; sigma in pixels, cut at four of them."""
    sigmas = (sigma, sigma) + (0.0,) * (image.ndim - 2)
    return np.asarray(ndimage.gaussian_filter(image, sigmas, mode="nearest", truncate=4.0))
