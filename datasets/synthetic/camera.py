"""The camera: illumination, gain, defocus and sensor noise, the same for good and bad images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .geometry import around, axis
from .noise import Array, Pixels, blur, smoothstep, value_noise

READ_NOISE = 1.6 / 255
SHOT_NOISE = 0.0085
MARKED_SHARE = 0.25


@dataclass(frozen=True)
class Camera:
    """One exposure.

    Attributes:
        light: (H, W, C) factor: gain, white balance, a tilted plane and a smooth field.
        sigma: defocus in pixels.
    """

    light: Array
    sigma: float

    def expose(self, scene: Array) -> Array:
        """What the sensor would see without noise; (H, W, C) in 0..1."""
        return np.clip(blur(scene * self.light, self.sigma), 0.0, 1.0)


def draw_camera(rng: np.random.Generator, size: int, channels: int) -> Camera:
    """A random exposure; grey images have no white balance."""
    x = axis(size)
    direction, slope = rng.uniform(0.0, 2.0 * np.pi), rng.uniform(0.03, 0.14)
    gain, sigma = rng.uniform(0.92, 1.08), rng.uniform(0.45, 0.85) * size / 256
    white = 1.0 + (rng.uniform(-0.012, 0.012, channels) if channels > 1 else np.zeros(1))
    plane = np.cos(direction) * (x[None, :] - 0.5) + np.sin(direction) * (x[:, None] - 0.5)
    field = gain * (1.0 + slope * plane + 0.015 * value_noise(rng, x, x, 3))
    return Camera(np.asarray(field[..., None] * white), float(sigma))


def harmless_marks(rng: np.random.Generator, size: int) -> Array:
    """(H, W) brightness of dust: in a quarter of all images one or two specks.

    Each stays below 8 grey levels and 6 pixels at 256. They lie on good and bad images alike and
    are never in a mask: an image score has to tell them from defects.
    """
    field = np.zeros((size, size))
    if rng.uniform() >= MARKED_SHARE:
        return field
    for _ in range(int(rng.integers(1, 3))):
        centre = (float(rng.uniform(0.03, 0.97)), float(rng.uniform(0.03, 0.97)))
        radius, level = rng.uniform(1.2, 3.0) / 256, rng.uniform(4.0, 7.0) / 255
        part = around(size, centre, radius)
        distance = np.hypot(part.x[None, :] - centre[0], part.y[:, None] - centre[1])
        field[part.index] += (
            float(rng.choice([-1.0, 1.0])) * level * smoothstep(radius, 0.3 * radius, distance)
        )
    return np.clip(field, -7.0 / 255, 7.0 / 255)


def develop(image: Array, noise: Array) -> Pixels:
    """Add read and shot noise and round to 8 bit.

    Args:
        image: (H, W, C) in 0..1.
        noise: (H, W, C) independent standard normal draws.

    Returns:
        (H, W, 3), or (H, W) where there is one channel.
    """
    sigma = np.sqrt(READ_NOISE**2 + SHOT_NOISE**2 * image)
    levels = np.rint(np.clip(image + sigma * noise, 0.0, 1.0) * 255.0).astype(np.uint8)
    return levels[..., 0] if levels.shape[-1] == 1 else levels
