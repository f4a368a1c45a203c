"""Several methods on the same test images (PyramidFlow, Figure 4): a column of maps for each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.errors import DataError
from bench.report.pictures.gallery import (
    COLOURS,
    COLUMNS,
    TRUTH,
    Words,
    kind,
    lay_out,
    note,
    save,
    scale,
    show,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bench.rows.panels import Panel

MOST = 12
"""Images in one picture."""


@dataclass(frozen=True)
class MapColumn:
    """What one method says of images.

    Attributes:
        name: heading.
        panels: any order.
    """

    name: str
    panels: Sequence[Panel]


def common(columns: Sequence[MapColumn]) -> list[str]:
    """Names of the images that every column has, in the order of the first."""
    names = [{panel.name for panel in column.panels} for column in columns[1:]]
    return [p.name for p in columns[0].panels if all(p.name in each for each in names)]


def render_side_by_side(
    columns: Sequence[MapColumn], path: Path, title: str, caption: str = ""
) -> tuple[int, int]:
    """Draw image, truth and the map of each column; images are those that all have.

    Maps of a method share one colour scale, which is its own: methods score in other units.

    Args:
        columns: one at least; images and masks are the first's.
        path: the PNG.
        title: above all.
        caption: below all; wrapped.

    Returns:
        (width, height) in pixels.

    Raises:
        DataError: no image that all columns have.
    """
    names = sorted(common(columns)[:MOST])
    if not names:
        raise DataError("nothing to draw: no image is kept of every cell")
    found = [{panel.name: panel for panel in column.panels} for column in columns]
    maps = [[by_name[name] for name in names] for by_name in found]
    words = Words(
        title,
        (*COLUMNS[:2], *(column.name for column in columns)),
        [kind(panel) for panel in maps[0]],
        [(TRUTH, "outline of the true defect; maps: dark is normal, yellow anomalous")],
        caption,
    )
    figure, axes = lay_out(maps[0], words)
    for column, panels in zip(axes.T[2:], maps, strict=True):
        colours = scale(panels)
        for axis, panel in zip(column, panels, strict=True):
            if panel.map is None:
                axis.set(xticks=[], yticks=[])
                note(axis, f"no map; score {panel.score:.4g}")
            else:
                show(axis, panel.map, panel.image.shape[:2], cmap=COLOURS, norm=colours)
                note(axis, f"score {panel.score:.4g}")
    return save(figure, path)
