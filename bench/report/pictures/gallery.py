"""A picture of what a method saw: image, truth, anomaly map and its contour, row by row. No torch.

Colours: the map is in viridis; contours are blue (truth) and orange (threshold) of Okabe and Ito's
palette with a dark rim, told apart by readers with any colour vision and on any background.
"""

from __future__ import annotations

import re
import textwrap
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patheffects import Normal, Stroke
from PIL import Image

from bench.errors import DataError
from bench.report.pictures.figures import wrapped
from bench.rows.text import percent

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from bench.rows.panels import Panel

THRESHOLD_NAME = "best-F1 threshold, chosen on the test set"
COLUMNS = ("image", "truth", "anomaly map", "map contour on image")
COLOURS = "viridis"
TRUTH = "#56B4E9"
FOUND = "#E69F00"
RIM = "#000000"
FRAME = "#999999"
GREY = "#333333"

# Lengths in inches; the layout keeps texts and images apart.
CELL = 2.3
TEXT = 2.3
BAR = 0.85
BAR_HEIGHT = 4.0
PAD = 0.07
LINE = 0.165
TITLE_LINE = 0.26
NOTE = 0.34
DPI = 110
TEXT_CHARS = 29
FONT = 8.5
SMALL = 7.5


def render(
    panels: Sequence[Panel],
    threshold: float | None,
    path: Path,
    title: str,
    caption: str = "",
    digest: str = "",
) -> tuple[int, int]:
    """Draw panels into a picture, one row each.

    Args:
        panels: in the order of the rows.
        threshold: where maps become contours; None: no contour.
        path: the picture; a PNG, or WebP of a third of its bytes where the suffix is .webp.
        title: above all.
        caption: below all; wrapped.
        digest: of what it shows, kept in a WebP for `drawn_before`.

    Returns:
        (width, height) in pixels.

    Raises:
        DataError: no panel.
    """
    if not panels:
        raise DataError("nothing to draw: no panel was given")
    colours = _scale(panels)
    heads = COLUMNS if colours is not None else COLUMNS[:2]
    width = TEXT + CELL * len(heads) + BAR
    title, caption = wrapped([title], width, 14), wrapped([caption], width, FONT)
    heights = [_height(panel) for panel in panels]
    around = TITLE_LINE * (title.count("\n") + 2) + LINE * (caption.count("\n") + 3)
    layout = ConstrainedLayoutEngine(h_pad=PAD, w_pad=PAD, hspace=0, wspace=0)
    figure = Figure((width, sum(heights) + around), DPI, layout=layout)
    axes = figure.subplots(
        len(panels),
        1 + len(heads),
        squeeze=False,
        width_ratios=[TEXT, *[CELL] * len(heads)],
        height_ratios=heights,
    )
    head = figure.suptitle(_printable(title), x=PAD / width, ha="left", fontsize=12, weight="bold")
    head.set_parse_math(False)
    for axis, text in zip(axes[0, 1:], heads, strict=True):
        axis.set_title(text, fontsize=FONT, fontweight="bold")
    for line, panel in zip(axes, panels, strict=True):
        _draw(line, panel, colours, threshold)
    if colours is not None:
        first = 1 + int(np.searchsorted(np.cumsum(heights)[:-1], BAR_HEIGHT))
        part = min(1.0, BAR_HEIGHT / sum(heights[:first]))
        bar = figure.colorbar(
            ScalarMappable(colours, COLOURS),
            ax=axes[:first, 1:],
            shrink=part,
            anchor=(0.0, 1.0),
            panchor=False,
            extend="both",
            extendfrac=0.03,
            aspect=25 * part,
            pad=0.01,
        )
        _label_bar(bar.ax, colours, threshold)
    _legend(figure, threshold, caption)
    return _save(figure, path, digest)


def _save(figure: Figure, path: Path, digest: str) -> tuple[int, int]:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    pixels = np.asarray(canvas.buffer_rgba())  # type: ignore[no-untyped-call]
    image = Image.fromarray(pixels).convert("RGB")
    if path.suffix == ".webp":
        image.save(path, "WEBP", quality=90, method=2, xmp=digest.encode())
    else:
        image.save(path, "PNG", dpi=(DPI, DPI))
    return image.size


def _height(panel: Panel) -> float:
    """As high as image and text need, but never a tower."""
    shape: float = panel.image.shape[0] / panel.image.shape[1]
    lines = len(_fold(panel.name, 3)) + len(_facts(panel)) + 0.5
    return max(min(CELL * shape, 1.5 * CELL), LINE * lines) + NOTE


def _facts(panel: Panel) -> list[str]:
    """The text below the name: label and defect, score, reason."""
    kind = "anomalous" if panel.label else "normal"
    if panel.defect and panel.defect != "good":
        kind += f": {panel.defect}"
    return [*_wrap(kind, 2), f"score {panel.score:.4g}", *_wrap(panel.reason, 2)]


def _wrap(text: str, most: int) -> list[str]:
    """At most so many lines; what is too long loses its end."""
    return textwrap.wrap(text, TEXT_CHARS, max_lines=most, placeholder="…")


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
    """One colour scale for all maps, from the 1st to the 99.9th percentile of their pixels; None:
    the method gives no maps."""
    maps = [p.map.ravel() for p in panels if p.map is not None]
    if not maps:
        return None
    values = np.concatenate(maps).astype(np.float64)
    low, high = (float(v) for v in np.percentile(values, [1, 99.9]))
    return Normalize(low, high) if high > low else Normalize(low - 0.5, low + 0.5)


def _draw(
    axes: NDArray[Any], panel: Panel, colours: Normalize | None, threshold: float | None
) -> None:
    """A row: the text, the image, its truth, and of a map its colours and its contour."""
    text, plain, truth, *_ = axes
    text.axis("off")
    name = _fold(panel.name, 3)
    for line, weight in (("\n".join(name), "bold"), ("\n" * len(name), "normal")):
        body = line if weight == "bold" else line + "\n".join(_facts(panel))
        text.text(0, 1, _printable(body), va="top", fontsize=FONT, weight=weight, parse_math=False)
    size = panel.image.shape[:2]
    for axis in (plain, truth):
        _show(axis, _rgb(panel.image), size)
    if panel.mask is not None:
        _contour(truth, panel.mask != 0, 0.5, size, TRUTH)
    _note(truth, _truth_note(panel))
    if len(axes) == 3:
        return
    heat, found = axes[3:]
    if panel.map is None:
        heat.axis("off")
        found.axis("off")
        return
    _show(heat, panel.map, size, cmap=COLOURS, norm=colours)
    _show(found, _rgb(panel.image), size)
    if threshold is None:
        _note(found, "no threshold: no anomalous pixel")
    else:
        _contour(found, panel.map, threshold, size, FOUND)
        _note(found, f"{_share(panel.map >= threshold)} of pixels above threshold")


def _show(axis: Any, pixels: NDArray[Any], size: tuple[int, ...], **style: Any) -> None:
    """Pixels, stretched to the size of the image, without ticks."""
    extent = (0.0, float(size[1]), float(size[0]), 0.0)
    axis.imshow(pixels, extent=extent, interpolation="nearest", **style)
    axis.set(xlim=(0, size[1]), ylim=(size[0], 0), xticks=[], yticks=[], anchor="N")
    axis.spines[:].set(color=FRAME, linewidth=0.6)


def _rgb(image: NDArray[Any]) -> NDArray[Any]:
    return np.repeat(image[:, :, None], 3, axis=2) if image.ndim == 2 else image


def _note(axis: Any, text: str) -> None:
    axis.set_xlabel(text, fontsize=SMALL, labelpad=2, color=GREY)


def _truth_note(panel: Panel) -> str:
    if panel.mask is not None and np.any(panel.mask):
        return f"{_share(panel.mask != 0)} of pixels anomalous"
    return "anomalous, no mask known" if panel.label else "normal: nothing to find"


def _share(pixels: NDArray[np.bool_]) -> str:
    share = float(np.mean(pixels))
    return "< 0.1 %" if 0 < share < 0.001 else f"{percent(share)} %"


def _contour(
    axis: Any, values: NDArray[Any], level: float, size: tuple[int, ...], colour: str
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
    drawn = axis.contour(x, y, field, levels=[level], colors=[colour], linewidths=1.2)
    drawn.set_path_effects([Stroke(linewidth=2.2, foreground=RIM), Normal()])


def _label_bar(axis: Any, colours: Normalize, threshold: float | None) -> None:
    """What the colours mean, and where the threshold lies."""
    axis.tick_params(labelsize=SMALL)
    axis.set_ylabel("anomaly map, one scale for all rows", fontsize=SMALL)
    low, high = colours.vmin, colours.vmax
    if threshold is not None and low is not None and low < threshold < (high or 0):
        axis.axhline(threshold, color=FOUND, linewidth=2)


def _legend(figure: Figure, threshold: float | None, caption: str) -> None:
    """What the outlines mean, in one line below the rows, and the caption."""
    rim = [Stroke(linewidth=3.2, foreground=RIM), Normal()]
    entries = [(TRUTH, "outline of the true defect")]
    if threshold is not None:
        entries.append((FOUND, f"map at {threshold:.4g}: {THRESHOLD_NAME}"))
    handles = [
        Line2D([], [], color=colour, linewidth=1.8, path_effects=rim, label=text)
        for colour, text in entries
    ]
    legend = figure.legend(
        handles=handles,
        loc="outside lower left",
        ncols=2,
        frameon=False,
        fontsize=FONT,
        title=_printable(caption),
        title_fontproperties={"size": FONT},
        alignment="left",
    )
    legend.get_title().set(color=GREY, parse_math=False)


def _printable(text: str) -> str:
    """The text with a box in place of every character that the font lacks."""
    known = get_font(findfont(FontProperties())).get_charmap()
    return "".join(c if ord(c) in known or c == "\n" else "□" for c in text)
