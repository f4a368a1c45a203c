"""A picture of what a method saw: image, truth, anomaly map and its contour, row by row. No torch.

Colours: the map is in viridis; contours are blue (truth) and orange (threshold) of Okabe and Ito's
palette with a dark rim, told apart by readers with any colour vision and on any background.
"""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.lines import Line2D
from matplotlib.patheffects import Normal, Stroke
from PIL import Image

from bench.errors import DataError
from bench.rows.panels import Panel, load_panels, save_panels, select
from bench.rows.text import percent

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["Panel", "load_panels", "render", "save_panels", "select"]

THRESHOLD_NAME = "best-F1 threshold, chosen on the test set"
COLUMNS = ("image", "truth", "anomaly map", "map contour on image")
COLOURS = "viridis"
TRUTH = "#56B4E9"
FOUND = "#E69F00"
RIM = "#000000"
FRAME = "#999999"

# All lengths in inches: every box has its own place, so that nothing can overlap.
CELL = 2.15
GAP = 0.14
TEXT = 2.3
MARGIN = 0.25
BAR = 0.85
LINE = 0.165
NOTE = 0.2
DPI = 110
TEXT_CHARS = 29
FONT = 8.5


_RULER = RendererAgg(1, 1, DPI)  # type: ignore[no-untyped-call]
"""Measures texts; the figure would make a renderer of its own size for each of them."""


@dataclass(frozen=True)
class _Row:
    """One panel with its place: `top` and `height` in inches from the top of the figure."""

    panel: Panel
    name: list[str]
    facts: list[str]
    top: float
    height: float


@dataclass(frozen=True)
class _Sheet:
    """The figure and what all rows share.

    Attributes:
        colours: of the maps; None: the method gives none.
    """

    figure: Figure
    width: float
    height: float
    colours: Normalize | None
    threshold: float | None

    def axes(self, left: float, top: float, width: float, height: float) -> Any:
        """Axes without ticks at a place in inches from the top left corner."""
        box = (
            left / self.width,
            1 - (top + height) / self.height,
            width / self.width,
            height / self.height,
        )
        axes = self.figure.add_axes(box)
        axes.set(xticks=[], yticks=[])
        axes.set_anchor("N")
        for spine in axes.spines.values():
            spine.set(color=FRAME, linewidth=0.6)
        return axes

    def write(self, left: float, top: float, text: str, room: float, **style: Any) -> None:
        """One line with its top left corner (or as `ha` says) at a place in inches.

        A line wider than `room` inches is set smaller.
        """
        given: dict[str, Any] = {"va": "top", "ha": "left", "fontsize": FONT, **style}
        line = self.figure.text(
            left / self.width,
            1 - top / self.height,
            _printable(text),
            parse_math=False,  # file names may hold dollar signs
            **given,
        )
        width = line.get_window_extent(_RULER).width / DPI
        if width > room:
            line.set_fontsize(given["fontsize"] * room / width)


def render(
    panels: Sequence[Panel], threshold: float | None, path: Path, title: str, caption: str = ""
) -> tuple[int, int]:
    """Draw panels into a picture, one row each.

    Args:
        panels: in the order of the rows.
        threshold: where maps become contours; None: no contour.
        path: the picture; a PNG, or WebP of a third of its bytes where the suffix is .webp.
        title: above all.
        caption: below all; wrapped.

    Returns:
        (width, height) in pixels.

    Raises:
        DataError: no panel.
    """
    if not panels:
        raise DataError("nothing to draw: no panel was given")
    colours = _scale(panels)
    columns = COLUMNS if colours is not None else COLUMNS[:2]
    width = MARGIN + TEXT + len(columns) * (CELL + GAP) + BAR
    wide = (width - 2 * MARGIN) / (MARGIN + TEXT + len(COLUMNS) * (CELL + GAP) + BAR - 2 * MARGIN)
    titles = textwrap.wrap(title, int(95 * wide))
    head = MARGIN + 0.26 * len(titles) + 0.42
    rows = _rows(panels, head)
    foot = rows[-1].top + rows[-1].height + NOTE + 0.1
    notes = textwrap.wrap(caption, int(150 * wide))
    height = foot + 0.32 + LINE * len(notes) + MARGIN / 2
    sheet = _Sheet(Figure((width, height), DPI), width, height, colours, threshold)
    for i, line in enumerate(titles):
        sheet.write(
            MARGIN, MARGIN + 0.26 * i, line, width - 2 * MARGIN, fontsize=12, fontweight="bold"
        )
    for column, name in enumerate(columns):
        sheet.write(
            _left(column) + CELL / 2, head - 0.2, name, CELL, ha="center", fontweight="bold"
        )
    for row in rows:
        _draw(sheet, row)
    _colour_bar(sheet, rows)
    _legend(sheet, foot)
    for i, line in enumerate(notes):
        sheet.write(MARGIN, foot + 0.32 + LINE * i, line, width - 2 * MARGIN, color="#333333")
    canvas = FigureCanvasAgg(sheet.figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    pixels = np.asarray(canvas.buffer_rgba())  # type: ignore[no-untyped-call]
    image = Image.fromarray(pixels).convert("RGB")
    if path.suffix == ".webp":
        image.save(path, "WEBP", quality=90, method=2)
    else:
        image.save(path, "PNG", dpi=(DPI, DPI))
    return image.size


def _left(column: int) -> float:
    return MARGIN + TEXT + column * (CELL + GAP)


def _rows(panels: Sequence[Panel], head: float) -> list[_Row]:
    """Place the rows: as high as image and text need, but never a tower."""
    rows: list[_Row] = []
    top = head
    for panel in panels:
        name, facts = _fold(panel.name, 3), _facts(panel)
        shape = panel.image.shape[0] / panel.image.shape[1]
        height = max(min(CELL * shape, 1.5 * CELL), LINE * (len(name) + len(facts) + 0.5))
        rows.append(_Row(panel, name, facts, top, height))
        top += height + NOTE + GAP
    return rows


def _facts(panel: Panel) -> list[str]:
    """The text below the name: label and defect, score, reason."""
    kind = "anomalous" if panel.label else "normal"
    if panel.defect and panel.defect != "good":
        kind += f": {panel.defect}"
    return [
        *_wrap(kind, 2),
        f"score {panel.score:.4g}",
        *_wrap(panel.reason, 2),
    ]


def _wrap(text: str, most: int) -> list[str]:
    """At most so many lines; what is too long loses its end."""
    lines = textwrap.wrap(text, TEXT_CHARS)
    if len(lines) > most:
        lines = [*lines[: most - 1], f"{lines[most - 1][: TEXT_CHARS - 1]}…"]
    return lines


def _fold(name: str, most: int) -> list[str]:
    """A path in at most so many lines, broken after slashes; what is too long loses its beginning.

    A part that is longer than a line is cut wherever the line ends.
    """
    lines = [""]
    for part in re.findall(r"[^/]*/?", name):
        if len(lines[-1]) + len(part) <= TEXT_CHARS:
            lines[-1] += part
        else:
            lines += [part[k : k + TEXT_CHARS] for k in range(0, len(part), TEXT_CHARS)]
    lines = [line for line in lines if line]
    if len(lines) > most:
        lines = lines[-most:]
        lines[0] = f"…{lines[0][1:]}"
    return lines


def _scale(panels: Sequence[Panel]) -> Normalize | None:
    """One colour scale for all maps: from the 1st to the 99.9th percentile of their pixels."""
    maps = [p.map.ravel() for p in panels if p.map is not None]
    if not maps:
        return None
    values = np.concatenate(maps).astype(np.float64)
    low, high = (float(v) for v in np.percentile(values, [1, 99.9]))
    return Normalize(low, high) if high > low else Normalize(low - 0.5, low + 0.5)


def _draw(sheet: _Sheet, row: _Row) -> None:
    panel, image = row.panel, _rgb(row.panel.image)
    for i, line in enumerate([*row.name, *row.facts]):
        weight = "bold" if i < len(row.name) else "normal"
        sheet.write(MARGIN, row.top + LINE * i, line, TEXT - GAP, fontweight=weight)
    size = image.shape[:2]
    _, truth = (_image(sheet, row, column, image) for column in range(2))
    if panel.mask is not None:
        _contour(truth, panel.mask != 0, 0.5, size, TRUTH)
    _note(truth, _truth_note(panel))
    if panel.map is not None:
        _draw_map(sheet, row, image, panel.map)


def _image(sheet: _Sheet, row: _Row, column: int, image: NDArray[Any]) -> Any:
    """Axes that show the image."""
    axes = sheet.axes(_left(column), row.top, CELL, row.height)
    axes.imshow(image, extent=_extent(image.shape), interpolation="nearest")
    axes.set(xlim=(0, image.shape[1]), ylim=(image.shape[0], 0))
    return axes


def _draw_map(sheet: _Sheet, row: _Row, image: NDArray[Any], anomaly_map: NDArray[Any]) -> None:
    """The map in colour, and its contour on the image."""
    size = image.shape[:2]
    heat = sheet.axes(_left(2), row.top, CELL, row.height)
    heat.imshow(
        anomaly_map,
        extent=_extent(size),
        cmap=COLOURS,
        norm=sheet.colours,
        interpolation="nearest",
    )
    heat.set(xlim=(0, size[1]), ylim=(size[0], 0))
    found = _image(sheet, row, 3, image)
    if sheet.threshold is not None:
        _contour(found, anomaly_map, sheet.threshold, size, FOUND)
        _note(found, f"{_share(anomaly_map >= sheet.threshold)} of pixels above threshold")
    else:
        _note(found, "no threshold: no anomalous pixel")


def _rgb(image: NDArray[Any]) -> NDArray[Any]:
    return np.repeat(image[:, :, None], 3, axis=2) if image.ndim == 2 else image


def _extent(size: tuple[int, ...]) -> tuple[float, float, float, float]:
    return (0.0, float(size[1]), float(size[0]), 0.0)


def _note(axes: Any, text: str) -> None:
    axes.set_xlabel(text, fontsize=7.5, labelpad=2, color="#333333")


def _truth_note(panel: Panel) -> str:
    if panel.mask is not None and np.any(panel.mask):
        return f"{_share(panel.mask != 0)} of pixels anomalous"
    return "anomalous, no mask known" if panel.label else "normal: nothing to find"


def _share(pixels: NDArray[np.bool_]) -> str:
    share = float(np.mean(pixels))
    return "< 0.1 %" if 0 < share < 0.001 else f"{percent(share)} %"


def _contour(
    axes: Any, values: NDArray[Any], level: float, size: tuple[int, ...], colour: str
) -> None:
    """Outline where values reach a level, in the coordinates of an image of another size."""
    floor = min(float(values.min()), level) - 1.0
    # A rim of low values closes outlines at the border; it lies just outside the image.
    field = np.pad(values.astype(np.float64), 1, constant_values=floor)
    if not field.min() < level <= field.max():
        return
    height, width = values.shape
    x = np.clip((np.arange(-1, width + 1) + 0.5) / width, 0, 1) * size[1]
    y = np.clip((np.arange(-1, height + 1) + 0.5) / height, 0, 1) * size[0]
    drawn = axes.contour(x, y, field, levels=[level], colors=[colour], linewidths=1.2)
    drawn.set_path_effects([Stroke(linewidth=2.2, foreground=RIM), Normal()])


def _colour_bar(sheet: _Sheet, rows: Sequence[_Row]) -> None:
    """One bar for all rows, beside the first ones; arrows where colours are cut off."""
    from matplotlib.cm import ScalarMappable

    if sheet.colours is None:
        return
    height = min(rows[-1].top + rows[-1].height - rows[0].top, 4.0)
    axes = sheet.axes(_left(len(COLUMNS)) + 0.08, rows[0].top, 0.16, height)
    bar = sheet.figure.colorbar(
        ScalarMappable(sheet.colours, COLOURS), cax=axes, extend="both", extendfrac=0.03
    )
    bar.ax.tick_params(labelsize=7.5)
    bar.ax.set_ylabel("anomaly map, one scale for all rows", fontsize=7.5)
    low, high = sheet.colours.vmin, sheet.colours.vmax
    if sheet.threshold is not None and low is not None and low < sheet.threshold < (high or 0):
        bar.ax.axhline(sheet.threshold, color=FOUND, linewidth=2)


def _legend(sheet: _Sheet, top: float) -> None:
    """What the outlines mean, in one line below the rows."""
    rim = [Stroke(linewidth=3.2, foreground=RIM), Normal()]
    entries = [(TRUTH, "outline of the true defect")]
    if sheet.threshold is not None:
        entries.append((FOUND, f"map at {sheet.threshold:.4g}: {THRESHOLD_NAME}"))
    handles = [
        Line2D([], [], color=colour, linewidth=1.8, path_effects=rim, label=text)
        for colour, text in entries
    ]
    sheet.figure.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(MARGIN / sheet.width, 1 - top / sheet.height),
        ncols=2,
        frameon=False,
        fontsize=FONT,
        borderpad=0,
        borderaxespad=0,
    )


def _printable(text: str) -> str:
    """The text with a box in place of every character that the font lacks."""
    known = get_font(findfont(FontProperties())).get_charmap()
    return "".join(c if ord(c) in known else "□" for c in text)
