"""What a category is: its defect types and the function that renders it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .noise import Array

if TYPE_CHECKING:
    from .defects import Defect
    from .geometry import Point

Render = Callable[[np.random.Generator, int, "Defect | None"], Array]


@dataclass(frozen=True)
class Scene:
    """One category.

    Attributes:
        name: folder name.
        channels: 1 for grey files, 3 for colour.
        types: the defect types, in table order.
        shape_types: those that move or remove a part; their mask is one filled region, the union
            of where the part was and where it is.
        render: (scene stream, size, defect or None) -> (size, size, channels) in 0..1. It draws the
            same numbers from the scene stream whether there is a defect or not.
    """

    name: str
    channels: int
    types: tuple[str, ...]
    shape_types: tuple[str, ...]
    render: Render


def nearest_pixel(point: Point, size: int) -> tuple[int, int]:
    """(row, column) of the pixel that holds a point."""
    x, y = (min(max(int(c * size), 0), size - 1) for c in point)
    return y, x
