"""Bolt: a turned round head with a hexagonal socket, on dark felt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .defects import LIGHT, Defect, blend, debris, rust, scratch
from .geometry import Pose, around, axis, cover, draw_pose, hexagon_distance, segment_distance
from .noise import Array, noise_along, noise_at, octaves, smoothstep, value_noise
from .scene import Scene

if TYPE_CHECKING:
    from .geometry import Point

RADIUS, BEVEL, SOCKET = 0.40, 0.045, 0.155
MARKS = (30.0, 150.0, 270.0)


@dataclass(frozen=True)
class Bite:
    """A piece broken out of the outline, in part coordinates."""

    centre: Point
    radius: float

    def distance(self, u: Array, v: Array) -> Array:
        """Signed distance, with a slightly jagged border."""
        du, dv = u - self.centre[0], v - self.centre[1]
        angle = np.arctan2(dv, du)
        jag = 1.0 + 0.10 * np.cos(5.0 * angle + 40.0 * self.radius) + 0.06 * np.cos(11.0 * angle)
        return np.asarray(np.hypot(du, dv) - self.radius * jag)


def _outline(u: Array, v: Array, bite: Bite | None) -> Array:
    disc = np.hypot(u, v) - RADIUS
    return np.asarray(disc if bite is None else np.maximum(disc, -bite.distance(u, v)))


def _render(rng: np.random.Generator, size: int, defect: Defect | None) -> Array:
    x = axis(size)
    pose = draw_pose(rng, 9.0, 0.014, 0.015)
    u, v = pose.to_part(x[None, :], x[:, None])
    bite = _bite(defect) if defect and defect.kind == "nick" else None
    outline = _outline(u, v, bite)
    image = _felt(rng, size)
    below = pose.to_part(x[None, :] + 0.022 * LIGHT[0], x[:, None] + 0.022 * LIGHT[1])
    image *= (1.0 - 0.75 * smoothstep(0.022, -0.022, _outline(*below, bite)))[..., None]
    face = cover(outline, 1.0 / size)[..., None]
    head = _head(rng, pose, u, v, outline)
    if defect and defect.kind in ("scratch", "rust"):
        _mark(head, defect, pose)
    off = _offset(defect) if defect and defect.kind == "off_centre" else (0.0, 0.0)
    _cut_socket(head, rng, Pose(pose.to_image(off), pose.angle, pose.scale))
    image = image * (1.0 - face) + head * face
    if defect and defect.kind == "debris":
        debris(image, defect, defect.place(0.08), (0.58, 0.46, 0.30))
    return np.asarray(image)


def _felt(rng: np.random.Generator, size: int) -> Array:
    x = axis(size)
    fibres = 0.5 * value_noise(rng, x, x, 150, 60) + 0.5 * value_noise(rng, x, x, 60, 150)
    tone = 0.135 * (1.0 + 0.16 * fibres + 0.06 * octaves(rng, x, x, 8, 2))
    return np.asarray(tone[..., None] * np.asarray((0.92, 0.98, 1.12)))


def _head(rng: np.random.Generator, pose: Pose, u: Array, v: Array, outline: Array) -> Array:
    """Turning marks that shine in two opposite lobes, a bevel, three radial marks."""
    size = u.shape[0]
    radius = np.hypot(u, v)
    rings = rng.standard_normal(300), rng.standard_normal(100)
    wavy = radius + 0.0012 * value_noise(rng, axis(size), axis(size), 8)
    marks = noise_along(rings[0], wavy * 330) + noise_along(rings[1], wavy * 90)
    # The lobes follow the light, not the part: a turned bolt shines in the same direction.
    angle = np.arctan2(v, u) + pose.angle
    lobes = np.abs(np.cos(angle - np.arctan2(LIGHT[1], LIGHT[0]))) ** 5
    tone = (0.37 + 0.34 * lobes) * (1.0 + 0.05 * marks)
    slope = smoothstep(RADIUS - BEVEL, RADIUS - BEVEL + 0.008, radius)
    facing = (np.cos(angle) * LIGHT[0] + np.sin(angle) * LIGHT[1]) / float(np.hypot(*LIGHT))
    tone = tone * (1.0 - slope) + (0.36 + 0.30 * facing) * slope
    # Where metal broke away the bevel is gone and the raw edge is dark.
    raw = smoothstep(-0.014, -0.004, outline) * (radius < RADIUS - 0.016)
    tone = tone * (1.0 - 0.55 * raw)
    for degrees in MARKS:
        _engrave(tone, pose, float(np.radians(degrees)))
    return np.asarray(tone[..., None] * np.asarray((0.97, 1.0, 1.03)))


def _engrave(tone: Array, pose: Pose, angle: float) -> None:
    """A raised radial line: its lit side, then its shaded side."""
    size = tone.shape[0]
    c, s = float(np.cos(angle)), float(np.sin(angle))
    part = around(size, pose.to_image((0.275 * c, 0.275 * s)), 0.06)
    u, v = pose.to_part(part.x[None, :], part.y[:, None])
    ends = (0.235 * c, 0.235 * s), (0.315 * c, 0.315 * s)
    for shift, change in ((-0.0035, 0.20), (0.0035, -0.22)):
        distance = segment_distance(u + shift * s, v - shift * c, *ends)
        tone[part.index] += change * cover(distance - 0.0048, 1.5 / size)


def _cut_socket(head: Array, rng: np.random.Generator, pose: Pose) -> None:
    """The hexagonal hole: chamfer, walls lit on the far side, a conical floor."""
    size = head.shape[0]
    cast = rng.standard_normal((64, 64))
    part = around(size, pose.centre, 1.3 * SOCKET)
    x, y = part.x[None, :], part.y[:, None]
    u, v = pose.to_part(x, y)
    distance, radius = hexagon_distance(u, v, SOCKET), np.hypot(u, v)
    dx, dy = x - pose.centre[0], y - pose.centre[1]
    facing = -(dx * LIGHT[0] + dy * LIGHT[1]) / np.maximum(radius, 0.02)
    rim = np.repeat((0.40 + 0.30 * facing)[..., None], 3, axis=2)
    blend(head, part, cover(distance - 0.012, 1.0 / size), rim)
    depth = smoothstep(0.0, -0.035, distance)
    wall = (0.20 + 0.16 * facing) * (1.0 - 0.55 * depth)
    cone = 0.055 + 0.11 * np.clip(radius / SOCKET, 0.0, 1.0) * (1.0 + 0.55 * facing)
    inside = wall * (1.0 - depth) + cone * depth
    inside = inside * (1.0 + 0.08 * noise_at(cast, (u + 0.5) * 60, (v + 0.5) * 60))
    blend(head, part, cover(distance, 1.0 / size), np.repeat(inside[..., None], 3, axis=2))


def _bite(defect: Defect) -> Bite:
    angle, radius = defect.between(0.0, 6.28), 0.9 * defect.radius() + 0.012
    away = RADIUS + radius * defect.between(-0.05, 0.25)
    return Bite((away * float(np.cos(angle)), away * float(np.sin(angle))), radius)


def _offset(defect: Defect) -> Point:
    angle = defect.between(0.0, 6.28)
    amount = defect.pick(0.016, 0.03, 0.055) * defect.growth
    return amount * float(np.cos(angle)), amount * float(np.sin(angle))


def _mark(head: Array, defect: Defect, pose: Pose) -> None:
    """A mark on the flat ring between socket and bevel."""
    angle, radius = defect.between(0.0, 6.28), defect.between(0.2, 0.36)
    place = pose.to_image((radius * float(np.cos(angle)), radius * float(np.sin(angle))))
    if defect.kind == "scratch":
        # Across the turning marks rather than along them, where it would look normal.
        scratch(head, defect, place, angle + defect.between(-0.9, 0.9) + 3.14)
    else:
        rust(head, defect, place, (0.36, 0.19, 0.10))


SCENE = Scene(
    "bolt", 3, ("scratch", "rust", "debris", "nick", "off_centre"), ("off_centre",), _render
)
