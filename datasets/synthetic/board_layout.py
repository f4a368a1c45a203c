"""The fixed layout of the board: traces, chips and parts, in fractions of its side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .geometry import Point

TRACES: tuple[tuple[Point, ...], ...] = (
    ((0.216, 0.19), (0.216, 0.14), (0.176, 0.10), (0.10, 0.10)),
    ((0.272, 0.19), (0.272, 0.11), (0.312, 0.07), (0.44, 0.07), (0.51, 0.14)),
    ((0.384, 0.19), (0.434, 0.24), (0.51, 0.24)),
    ((0.57, 0.14), (0.66, 0.14), (0.73, 0.21)),
    ((0.57, 0.24), (0.62, 0.29), (0.62, 0.40), (0.50, 0.52), (0.545, 0.565)),
    ((0.57, 0.34), (0.66, 0.43), (0.76, 0.43)),
    ((0.216, 0.37), (0.216, 0.44), (0.08, 0.576), (0.08, 0.87), (0.14, 0.93), (0.37, 0.93)),
    ((0.30, 0.37), (0.30, 0.59), (0.33, 0.62)),
    ((0.39, 0.62), (0.43, 0.62), (0.465, 0.655), (0.545, 0.655)),
    ((0.775, 0.595), (0.83, 0.595), (0.89, 0.655), (0.89, 0.81)),
)
TRACE_WIDTH, PAD_RADIUS = 0.011, 0.014
HOLES: tuple[Point, ...] = ((0.05, 0.05), (0.95, 0.05), (0.05, 0.95), (0.95, 0.95))


@dataclass(frozen=True)
class Part:
    """A component: `half` is half its width and height before it is turned by `turn` degrees."""

    centre: Point
    half: Point
    turn: float = 0.0


@dataclass(frozen=True)
class Chip:
    """A package with `legs` per long side; legs above and below, or left and right if `upright`."""

    part: Part
    legs: int
    pitch: float
    upright: bool = False

    def leg_centres(self) -> list[tuple[Point, ...]]:
        """Two rows of leg centres, relative to the chip."""
        (w, h), n = self.part.half, self.legs
        offsets = [(k - (n - 1) / 2) * self.pitch for k in range(n)]
        if self.upright:
            return [tuple((s * (w + 0.017), o) for o in offsets) for s in (-1, 1)]
        return [tuple((o, s * (h + 0.017)) for o in offsets) for s in (-1, 1)]


CHIPS = (
    Chip(Part((0.30, 0.28), (0.11, 0.065)), 7, 0.028),
    Chip(Part((0.66, 0.64), (0.095, 0.105)), 6, 0.03, upright=True),
)
# The first four two-pole parts are small, the others larger; black resistors and tan capacitors.
SMALL, LARGE = (0.026, 0.013), (0.034, 0.018)
TWO_POLE = (
    Part((0.54, 0.14), SMALL),
    Part((0.54, 0.24), SMALL),
    Part((0.54, 0.34), SMALL),
    Part((0.76, 0.40), SMALL, 90.0),
    Part((0.36, 0.62), LARGE),
    Part((0.38, 0.76), LARGE),
    Part((0.40, 0.92), LARGE),
    Part((0.89, 0.84), LARGE, 90.0),
)
BLACK = (0, 1, 2, 7)
ROUND = (Part((0.81, 0.22), (0.075, 0.075)), Part((0.21, 0.75), (0.085, 0.085)))
