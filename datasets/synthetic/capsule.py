"""Capsule: two tones, a gloss streak, a seam and a three-glyph print."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .defects import LIGHT, Defect, blend, crack, pit, rust, whole
from .geometry import Point, Pose, axis, box_distance, cover, draw_pose, polyline_distance
from .noise import Array, octaves, smoothstep, value_noise
from .scene import Scene

Stroke = tuple[Point, Point]

HALF, RADIUS, SEAM = 0.40, 0.165, -0.03
CAP, BODY, INK = (0.58, 0.17, 0.15), (0.86, 0.80, 0.66), (0.13, 0.13, 0.17)
# Strokes on a grid 0..1 wide and 0..1.6 high, y down.
GLYPHS: tuple[tuple[Stroke, ...], ...] = (
    (((0, 0), (0, 1.6)), ((0, 0), (1, 0)), ((0, 0.75), (0.8, 0.75))),
    (((0, 1.6), (0.5, 0)), ((0.5, 0), (1, 1.6)), ((0.22, 0.95), (0.78, 0.95))),
    (((0, 0), (1, 0)), ((1, 0), (0.35, 1.6)), ((0.3, 0.8), (0.95, 0.8))),
)
GLYPH_WIDTH, GLYPH_STEP, PRINT_AT = 0.045, 0.075, (0.075, -0.036)


@dataclass(frozen=True)
class Dent:
    """One side of the outline pushed in around a place on the length."""

    side: float
    place: float
    depth: float
    width: float

    def pushed(self, u: Array, v: Array) -> Array:
        """v, moved outwards on that side: what lay further out is now seen here."""
        bump = np.exp(-(((u - self.place) / self.width) ** 2))
        return np.where(v * self.side > 0, v / (1.0 - self.depth / RADIUS * bump), v)


def _render(rng: np.random.Generator, size: int, defect: Defect | None) -> Array:
    x = axis(size)
    pose = draw_pose(rng, 7.0, 0.016, 0.015)
    slip = rng.uniform(-0.003, 0.003, 2)
    dent = _dent(defect) if defect and defect.kind == "squeeze" else None
    image = _table(rng, size)
    u, v, outline = _shape(pose, x[None, :], x[:, None], dent)
    below = _shape(pose, x[None, :] + 0.03 * LIGHT[0], x[:, None] + 0.03 * LIGHT[1], dent)[2]
    image *= (1.0 - 0.55 * smoothstep(0.03, -0.03, below))[..., None]
    shell = _albedo(rng, size, u)
    _print(shell, pose, slip, defect)
    if defect:
        _mark_albedo(shell, defect, pose, cover(outline, 1.0 / size))
    shell = _shade(shell, pose, u, v)
    if defect and defect.kind == "poke":
        pit(shell, _spot(defect, pose), 0.7 * defect.radius(), 0.3 + 0.6 * defect.contrast())
    inside = cover(outline, 1.0 / size)[..., None]
    return np.asarray(image * (1.0 - inside) + shell * inside)


def _shape(pose: Pose, x: Array, y: Array, dent: Dent | None) -> tuple[Array, Array, Array]:
    """Part coordinates, (u, v) scaled so that the shell is round, and the signed outline."""
    u, v = pose.to_part(x, y)
    if dent:
        v = dent.pushed(u, v)
    # The cap is slipped over the body: a little wider.
    radius = RADIUS - 0.005 * smoothstep(SEAM - 0.002, SEAM + 0.002, u)
    beyond = np.maximum(np.abs(u) - (HALF - RADIUS), 0.0) * np.sign(u)
    return u, v, np.asarray(np.hypot(beyond, v) - radius)


def _table(rng: np.random.Generator, size: int) -> Array:
    x = axis(size)
    tone = 0.60 * (1.0 + 0.016 * octaves(rng, x, x, 50, 2) + 0.02 * value_noise(rng, x, x, 5))
    return np.asarray(tone[..., None] * np.asarray((0.96, 1.0, 1.04)))


def _albedo(rng: np.random.Generator, size: int, u: Array) -> Array:
    """Cap and body colour with the dark line of the seam."""
    x = axis(size)
    body = smoothstep(SEAM - 0.0025, SEAM + 0.0025, u)[..., None]
    shell = np.asarray(CAP) * (1.0 - body) + np.asarray(BODY) * body
    seam = np.exp(-(((u - SEAM - 0.004) / 0.004) ** 2))
    mottle = 0.012 * octaves(rng, x, x, 24, 3)
    return np.asarray(shell * (1.0 - 0.35 * seam + mottle)[..., None])


def _shade(shell: Array, pose: Pose, u: Array, v: Array) -> Array:
    """Round shading for light from above, a gloss streak and its faint reflection."""
    beyond = np.maximum(np.abs(u) - (HALF - RADIUS), 0.0) * np.sign(u) / RADIUS
    across = v / RADIUS
    height = np.sqrt(np.clip(1.0 - beyond**2 - across**2, 0.0, 1.0))
    turn = pose.angle
    light = (
        LIGHT[0] * float(np.cos(turn)) + LIGHT[1] * float(np.sin(turn)),
        LIGHT[1] * float(np.cos(turn)) - LIGHT[0] * float(np.sin(turn)),
    )
    diffuse = 0.34 + 0.58 * height + 0.24 * (0.5 * beyond * light[0] + across * light[1])
    ends = smoothstep(HALF - 0.02, HALF - 0.14, np.abs(u))
    gloss = 0.48 * np.exp(-(((across + 0.48) / 0.085) ** 2)) * ends
    rim = 0.10 * np.exp(-(((across - 0.78) / 0.10) ** 2)) * ends
    return np.asarray(shell * diffuse[..., None] + (gloss + rim)[..., None])


@dataclass(frozen=True)
class Print:
    """The print in part coordinates.

    Attributes:
        strokes: of all glyphs.
        smear: how far wet ink was dragged along the capsule.
        film: the glyphs, from and to, that left a faint film of ink where the print went wrong.
    """

    strokes: list[Stroke]
    smear: float = 0.0
    film: tuple[int, int] | None = None


def _imprint(defect: Defect | None) -> Print:
    """The print as it should be, or with one of four faults."""
    glyphs = [list(glyph) for glyph in GLYPHS]
    moved = [(0.0, 0.0)] * len(glyphs)
    smear, film = 0.0, None
    if defect and defect.kind == "print":
        which = int(defect.rng.integers(len(glyphs)))
        how = defect.pick(("stroke", "shift"), ("glyph", "shift"), ("glyph", "smear"))
        fault = how[int(defect.rng.integers(2))]
        film = (which, which)
        if fault == "stroke":
            glyphs[which].pop(int(defect.rng.integers(len(glyphs[which]))))
        elif fault == "glyph":
            glyphs[which] = []
        elif fault == "shift":
            amount = defect.pick(0.009, 0.018, 0.03) * defect.growth
            moved[which] = (0.3 * amount, amount * float(defect.rng.choice([-1.0, 1.0])))
        else:
            smear, film = defect.between(0.03, 0.05), (0, len(glyphs) - 1)
    strokes = [
        (_stroke_end(a, n, moved[n]), _stroke_end(b, n, moved[n]))
        for n, glyph in enumerate(glyphs)
        for a, b in glyph
    ]
    return Print(strokes, smear, film)


def _stroke_end(point: Point, number: int, moved: Point) -> Point:
    """Part coordinates of a point of the glyph's own grid."""
    return (
        PRINT_AT[0] + number * GLYPH_STEP + GLYPH_WIDTH * point[0] + moved[0],
        PRINT_AT[1] + GLYPH_WIDTH * point[1] + moved[1],
    )


def _print(shell: Array, pose: Pose, slip: Array, defect: Defect | None) -> None:
    size = shell.shape[0]
    imprint = _imprint(defect)
    ink = _ink(size, pose, imprint.strokes, (float(slip[0]), float(slip[1])))
    if imprint.film:
        _film(shell, pose, imprint)
    copies = 8 if imprint.smear else 0
    for n in range(1, copies + 1):
        drag = (float(slip[0]) + imprint.smear * n / copies, float(slip[1]))
        ghost = _ink(size, pose, imprint.strokes, drag)
        ink = np.maximum(ink, 0.6 * (1.0 - 0.6 * n / copies) * ghost)
    blend(shell, whole(size), 0.88 * ink, INK)


def _film(shell: Array, pose: Pose, imprint: Print) -> None:
    """A film too faint for the mask by itself."""
    assert imprint.film
    x, part = axis(shell.shape[0]), whole(shell.shape[0])
    first, last = (PRINT_AT[0] + n * GLYPH_STEP for n in imprint.film)
    half = ((last - first + GLYPH_WIDTH + imprint.smear) / 2 + 0.03, 0.8 * GLYPH_WIDTH + 0.04)
    u, v = pose.to_part(x[None, :], x[:, None])
    middle = (first + half[0] - 0.03, PRINT_AT[1] + 0.8 * GLYPH_WIDTH)
    distance = box_distance(u - middle[0], v - middle[1], half, 0.03)
    blend(shell, part, 0.03 * smoothstep(0.01, -0.01, distance), INK)


def _ink(size: int, pose: Pose, strokes: list[Stroke], slip: Point) -> Array:
    """(size, size) coverage of the strokes."""
    ink, soft = np.zeros((size, size)), 1.0 / size + 0.0025
    for stroke in strokes:
        ends = [pose.to_image((u + slip[0], v + slip[1])) for u, v in stroke]
        distance = polyline_distance(size, ends, 0.0045 + soft)
        ink = np.maximum(ink, np.clip(0.5 + (0.0045 - distance) / soft, 0.0, 1.0))
    return ink


def _spot(defect: Defect, pose: Pose) -> Point:
    """A point well inside the outline."""
    u, v = defect.between(-0.31, 0.31), defect.between(-0.105, 0.105)
    return pose.to_image((u, v))


def _mark_albedo(shell: Array, defect: Defect, pose: Pose, clip: Array) -> None:
    if defect.kind == "crack":
        crack(shell, defect, _spot(defect, pose), defect.between(0.0, 6.28), clip)
    elif defect.kind == "spot":
        colours = ((0.30, 0.22, 0.12), (0.20, 0.30, 0.45), (0.55, 0.50, 0.20))
        rust(shell, defect, _spot(defect, pose), colours[int(defect.rng.integers(3))], clip)


def _dent(defect: Defect) -> Dent:
    depth = defect.pick(0.014, 0.028, 0.05) * defect.growth
    side = float(defect.rng.choice([-1.0, 1.0]))
    return Dent(side, defect.between(-0.24, 0.24), depth, defect.between(0.04, 0.08))


SCENE = Scene(
    "capsule", 3, ("crack", "spot", "poke", "squeeze", "print"), ("squeeze", "print"), _render
)
