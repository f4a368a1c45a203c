"""Board: a small green circuit board with chips, two-pole and round parts."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from .board_layout import (
    BLACK,
    CHIPS,
    HOLES,
    PAD_RADIUS,
    ROUND,
    TRACE_WIDTH,
    TRACES,
    TWO_POLE,
    Chip,
    Part,
)
from .defects import LIGHT, Defect, blend, blob, whole
from .geometry import (
    Pose,
    Window,
    around,
    axis,
    box_distance,
    cover,
    draw_pose,
    polyline_distance,
)
from .noise import Array, octaves, smoothstep, value_noise
from .scene import Scene

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .geometry import Point

SOLDER, SILK = (0.72, 0.73, 0.72), (0.80, 0.84, 0.80)
MASK, TRACE = (0.065, 0.28, 0.155), (0.16, 0.46, 0.25)


@dataclass(frozen=True)
class Placed:
    """A part where it lies in this image.

    Attributes:
        pose: from part coordinates to the image.
        tone: brightness factor.
        absent: only its pads are there.
    """

    part: Part
    pose: Pose
    tone: float
    absent: bool = False

    def local(self, image: Array, reach: float, shift: float = 0.0) -> tuple[Window, Array, Array]:
        """A window around the part and part coordinates in it; shifted along the light."""
        size = image.shape[0]
        at = self.pose.centre
        part = around(size, at, reach * self.pose.scale + abs(shift))
        x, y = part.x[None, :] + shift * LIGHT[0], part.y[:, None] + shift * LIGHT[1]
        return part, *self.pose.to_part(x, y)


def _render(rng: np.random.Generator, size: int, defect: Defect | None) -> Array:
    board = draw_pose(rng, 1.6, 0.009, 0.006)
    image = _substrate(rng, size)
    kind = defect.kind if defect else ""
    gap = _gap(defect) if defect and kind == "open_trace" else None
    _traces(image, board, gap)
    chips = [(c, _place(rng, board, c.part)) for c in CHIPS]
    small = [_place(rng, board, part) for part in TWO_POLE]
    rounds = [_place(rng, board, part) for part in ROUND]
    for part in small:
        _pads(image, part)
    if defect and kind in ("missing", "misplaced"):
        small = _fault(defect, small)
    for chip, placed in chips:
        _chip(image, chip, placed)
    for number, part in enumerate(small):
        if not part.absent:
            _two_pole(image, part, number in BLACK)
    for part in rounds:
        _round(image, part)
    if defect and kind == "bridge":
        _bridge(image, defect, chips)
    elif defect and kind == "burn":
        _burn(image, defect)
    x = axis(size)
    image *= (1.0 + 0.02 * octaves(rng, x, x, 60, 2))[..., None]
    return np.asarray(image)


def _place(rng: np.random.Generator, board: Pose, part: Part) -> Placed:
    """The part where the machine put it: +-0.16 % and +-0.8 degrees off, its tone +-6 %."""
    dx, dy, turn, tone = rng.uniform(-1.0, 1.0, 4)
    off = (part.centre[0] - 0.5 + 0.0016 * dx, part.centre[1] - 0.5 + 0.0016 * dy)
    angle = board.angle + float(np.radians(part.turn + 0.8 * turn))
    return Placed(part, Pose(board.to_image(off), angle, board.scale), 1.0 + 0.06 * tone)


def _substrate(rng: np.random.Generator, size: int) -> Array:
    """Solder mask over a faint glass weave."""
    x = axis(size)
    glass = value_noise(rng, x, x, 12, 120) + value_noise(rng, x, x, 120, 12)
    tone = 1.0 + 0.035 * glass + 0.03 * octaves(rng, x, x, 6, 3)
    return np.asarray(tone[..., None] * np.asarray(MASK))


def _on_board(board: Pose, points: Sequence[Point]) -> list[Point]:
    return [board.to_image((x - 0.5, y - 0.5)) for x, y in points]


def _traces(image: Array, board: Pose, gap: tuple[int, Point, float] | None) -> None:
    """Copper under the mask, with a lit edge; a tinned pad at both ends; four plated holes."""
    size, edge = image.shape[0], 1.0 / image.shape[0]
    part = whole(size)
    half = TRACE_WIDTH / 2
    for number, points in enumerate(TRACES):
        distance = polyline_distance(size, _on_board(board, points), half + 3 * edge + 0.004)
        copper = cover(distance - half, edge)
        if gap and gap[0] == number:
            at = board.to_image((gap[1][0] - 0.5, gap[1][1] - 0.5))
            away = np.hypot(part.x[None, :] - at[0], part.y[:, None] - at[1])
            copper = copper * (1.0 - cover(away - gap[2] / 2, 2 * edge))
        blend(image, part, copper, TRACE)
        flank = np.exp(-(((distance - half + 0.002) / 0.0018) ** 2)) * copper
        blend(image, part, 0.30 * flank, (0.30, 0.60, 0.38))
        for end in (points[0], points[-1]):
            _disc(image, _on_board(board, [end])[0], PAD_RADIUS, SOLDER)
    for hole in HOLES:
        at = _on_board(board, [hole])[0]
        _disc(image, at, 0.030, (0.68, 0.60, 0.34))
        _disc(image, at, 0.019, (0.06, 0.06, 0.065))


def _disc(image: Array, at: Point, radius: float, colour: Sequence[float]) -> None:
    size = image.shape[0]
    part = around(size, at, radius + 0.01)
    dx, dy = part.x[None, :] - at[0], part.y[:, None] - at[1]
    lit = 1.0 + 0.16 * (dx * LIGHT[0] + dy * LIGHT[1]) / radius
    disc = cover(np.hypot(dx, dy) - radius, 1.0 / size)
    blend(image, part, disc, np.asarray(colour) * lit[..., None])


def _box(image: Array, placed: Placed, at: Point, half: Point, colour: Sequence[float]) -> None:
    """A rounded box of one colour, a little brighter towards the light."""
    reach = float(np.hypot(*half) + np.hypot(*at)) + 0.01
    part, u, v = placed.local(image, reach)
    distance = box_distance(u - at[0], v - at[1], half, 0.25 * min(half))
    body = cover(distance, 1.0 / image.shape[0])
    middle = placed.pose.to_image(at)
    x, y = part.x[None, :] - middle[0], part.y[:, None] - middle[1]
    lit = placed.tone * (1.0 + 0.10 * (x * LIGHT[0] + y * LIGHT[1]) / max(half))
    blend(image, part, body, np.asarray(colour) * lit[..., None])


def _shadow(image: Array, placed: Placed, half: Point, throw: float, corner: float) -> None:
    part, u, v = placed.local(image, float(np.hypot(*half)) + 0.03, throw)
    dark = smoothstep(throw, -throw, box_distance(u, v, half, corner))
    blend(image, part, 0.55 * dark, (0.01, 0.03, 0.02))


def _pads(image: Array, placed: Placed) -> None:
    w, h = placed.part.half
    for sign in (-1.0, 1.0):
        _box(image, placed, (sign * (w - 0.001), 0.0), (0.0115, h + 0.003), SOLDER)


def _two_pole(image: Array, placed: Placed, black: bool) -> None:
    """A ceramic body with metal ends."""
    w, h = placed.part.half
    _shadow(image, placed, (w, h), 0.006, 0.2 * h)
    _box(image, placed, (0.0, 0.0), (w, h), (0.84, 0.84, 0.83))
    body = (0.085, 0.085, 0.095) if black else (0.60, 0.46, 0.30)
    _box(image, placed, (0.0, 0.0), (0.68 * w, h), body)
    if black:
        _box(image, placed, (0.0, 0.0), (0.3 * w, 0.14 * h), SILK)


def _chip(image: Array, chip: Chip, placed: Placed) -> None:
    (w, h), size = chip.part.half, image.shape[0]
    part, u, v = placed.local(image, float(np.hypot(w, h)) + 0.06)
    frame = np.abs(box_distance(u, v, (w + 0.036, h + 0.036))) - 0.0018
    blend(image, part, 0.75 * cover(frame, 1.0 / size), SILK)
    leg = (0.015, 0.0065) if chip.upright else (0.0065, 0.015)
    for row in chip.leg_centres():
        for at in row:
            _box(image, placed, at, leg, (0.76, 0.77, 0.78))
    _shadow(image, placed, (w, h), 0.009, 0.006)
    _box(image, placed, (0.0, 0.0), (w, h), (0.115, 0.115, 0.125))
    _box(image, placed, (0.0, 0.0), (w - 0.008, h - 0.008), (0.095, 0.095, 0.102))
    part, u, v = placed.local(image, float(np.hypot(w, h)))
    dot = np.hypot(u + w - 0.024, v + h - 0.024) - 0.0085
    blend(image, part, 0.8 * cover(dot, 1.0 / size), (0.36, 0.36, 0.37))
    for line, length in ((-0.012, 0.052), (0.010, 0.036)):
        mark = box_distance(u + 0.05 - length, v - line, (length, 0.0035))
        blend(image, part, 0.45 * cover(mark, 1.0 / size), (0.55, 0.56, 0.56))


def _round(image: Array, placed: Placed) -> None:
    """An electrolytic capacitor from above: sleeve, aluminium top with a cross, dark minus side."""
    size, radius = image.shape[0], placed.part.half[0]
    _shadow(image, placed, (radius, radius), 0.016, radius)
    part, u, v = placed.local(image, radius + 0.01)
    r = np.hypot(u, v)
    x, y = part.x[None, :] - placed.pose.centre[0], part.y[:, None] - placed.pose.centre[1]
    facing = (x * LIGHT[0] + y * LIGHT[1]) / radius
    sleeve = np.asarray((0.13, 0.14, 0.22)) * (placed.tone * (1.0 + 0.5 * facing))[..., None]
    blend(image, part, cover(r - radius, 1.0 / size), sleeve)
    top = np.asarray((0.66, 0.67, 0.69)) * (placed.tone * (1.0 + 0.14 * facing))[..., None]
    inside = cover(r - 0.84 * radius, 1.0 / size)
    blend(image, part, inside, top)
    for score in (u + v, u - v):
        groove = cover(np.abs(score) / 1.414 - 0.0022, 1.0 / size) * cover(
            r - 0.55 * radius, 1.0 / size
        )
        blend(image, part, 0.4 * groove, (0.25, 0.25, 0.26))
    minus = inside * cover(0.42 * radius - u, 1.0 / size)
    blend(image, part, 0.85 * minus, (0.10, 0.11, 0.17))


def _fault(defect: Defect, parts: list[Placed]) -> list[Placed]:
    """Take a two-pole part away, or put it where it does not belong."""
    parts = list(parts)
    first, last = defect.pick((0, 4), (4, 8), (4, 8))
    which = int(defect.rng.integers(first, last))
    placed = parts[which]
    if defect.kind == "missing":
        parts[which] = Placed(placed.part, placed.pose, placed.tone, absent=True)
        return parts
    shift = defect.pick(0.010, 0.012, 0.016) * defect.growth
    way = defect.between(0.0, 6.28)
    low, high = defect.pick((0.0, 0.0), (18.0, 18.0), (35.0, 90.0))
    turn = float(np.radians(defect.between(low, high) * float(defect.rng.choice([-1.0, 1.0]))))
    x, y = placed.pose.centre
    centre = (x + shift * float(np.cos(way)), y + shift * float(np.sin(way)))
    pose = Pose(centre, placed.pose.angle + turn, placed.pose.scale)
    parts[which] = Placed(placed.part, pose, placed.tone)
    return parts


def _gap(defect: Defect) -> tuple[int, Point, float]:
    """A trace, a point in the middle half of one of its longer pieces, and the gap's length."""
    number = int(defect.rng.integers(len(TRACES)))
    points = TRACES[number]
    lengths = [np.hypot(b[0] - a[0], b[1] - a[1]) for a, b in pairwise(points)]
    piece = int(np.argmax(np.asarray(lengths) * defect.rng.uniform(0.5, 1.0, len(lengths))))
    t, (a, b) = defect.between(0.3, 0.7), points[piece : piece + 2]
    at = (a[0] + t * (b[0] - a[0]), a[1] + t * (b[1] - a[1]))
    return number, at, defect.pick(0.009, 0.016, 0.03) * defect.growth + 0.004


def _bridge(image: Array, defect: Defect, chips: list[tuple[Chip, Placed]]) -> None:
    """Solder that runs from one leg to the next, or to the one after it."""
    chip, placed = chips[int(defect.rng.integers(len(chips)))]
    row = chip.leg_centres()[int(defect.rng.integers(2))]
    first = int(defect.rng.integers(len(row) - 2))
    a, b = row[first], row[first + defect.pick(1, 1, 2)]
    drift = defect.between(-0.006, 0.006)
    shift = (drift, 0.0) if chip.upright else (0.0, drift)
    ends = [placed.pose.to_image((p[0] + shift[0], p[1] + shift[1])) for p in (a, b)]
    half = defect.pick(0.0035, 0.006, 0.0105) * min(defect.growth, 1.4)
    size = image.shape[0]
    distance = polyline_distance(size, ends, half + 0.02)
    bead = cover(distance - half, 1.0 / size)
    shine = np.clip(1.0 - distance / half, 0.0, 1.0)
    colour = np.asarray(SOLDER) * (0.72 + 0.42 * shine)[..., None]
    blend(image, whole(size), bead, colour)


def _burn(image: Array, defect: Defect) -> None:
    """Brown scorching with a dark core, over whatever is there."""
    radius, centre = 1.3 * defect.radius(), defect.place(0.1)
    part = around(image.shape[0], centre, 2.8 * radius)
    shape = blob(part, centre, radius, defect.rng, 0.18)
    k = 0.35 + 0.6 * defect.contrast()
    scorched = image[part.index] * 0.35 + np.asarray((0.15, 0.085, 0.035))
    blend(image, part, k * smoothstep(1.35, 0.5, shape), scorched)
    blend(image, part, 0.7 * k * smoothstep(0.75, 0.2, shape), (0.035, 0.028, 0.022))


SCENE = Scene(
    "board",
    3,
    ("missing", "misplaced", "bridge", "open_trace", "burn"),
    ("missing", "misplaced"),
    _render,
)
