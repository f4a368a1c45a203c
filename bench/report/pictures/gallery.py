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


@dataclass(frozen=True)
class Words:
    """What a picture says.

    Attributes:
        title: above all.
        heads: of the columns; the first two are image and truth.
        facts: for each panel the lines below its name.
        outlines: (colour, meaning).
        caption: below all; wrapped.
    """

    title: str
    heads: Sequence[str]
    facts: Sequence[Sequence[str]]
    outlines: Sequence[tuple[str, str]]
    caption: str


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
    colours = scale(panels)
    heads = COLUMNS if colours is not None else COLUMNS[:2]
    facts = [[*kind(p), f"score {p.score:.4g}", *_wrap(p.reason)] for p in panels]
    outlines = [(TRUTH, "outline of the true defect")]
    if threshold is not None:
        outlines.append((FOUND, f"map at {threshold:.4g}: {THRESHOLD_NAME}"))
    figure, axes = lay_out(panels, Words(title, heads, facts, outlines, caption))
    if colours is not None:
        for line, panel in zip(axes, panels, strict=True):
            _draw_found(line[2:], panel, colours, threshold)
        _colour_bar(figure, axes, colours, threshold)
    return save(figure, path, digest)


def lay_out(panels: Sequence[Panel], words: Words) -> tuple[Figure, NDArray[Any]]:
    """A figure with a row for each panel: its name and facts, its image, its truth.

    Returns:
        the figure, and its axes (panels, heads): those after image and truth are still empty.
    """
    width = TEXT + CELL * len(words.heads) + BAR
    title, caption = wrapped([words.title], width, 14), wrapped([words.caption], width, FONT)
    heights = [_height(panel, facts) for panel, facts in zip(panels, words.facts, strict=True)]
    around = TITLE_LINE * (title.count("\n") + 2) + LINE * (caption.count("\n") + 3)
    layout = ConstrainedLayoutEngine(h_pad=PAD, w_pad=PAD, hspace=0, wspace=0)
    figure = Figure((width, sum(heights) + around), DPI, layout=layout)
    axes = figure.subplots(
        len(panels),
        1 + len(words.heads),
        squeeze=False,
        width_ratios=[TEXT, *[CELL] * len(words.heads)],
        height_ratios=heights,
    )
    head = figure.suptitle(_printable(title), x=PAD / width, ha="left", fontsize=12, weight="bold")
    head.set_parse_math(False)
    for axis, text in zip(axes[0, 1:], words.heads, strict=True):
        axis.set_title(_printable(text), fontsize=FONT, fontweight="bold", parse_math=False)
    for line, panel, facts in zip(axes, panels, words.facts, strict=True):
        _write(line[0], panel.name, facts)
        _draw_truth(line[1], line[2], panel)
    _legend(figure, words.outlines, caption)
    return figure, axes[:, 1:]


def save(figure: Figure, path: Path, digest: str = "") -> tuple[int, int]:
    """Write a PNG or WebP; (width, height) in pixels."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    pixels = np.asarray(canvas.buffer_rgba())  # type: ignore[no-untyped-call]
    image = Image.fromarray(pixels).convert("RGB")
    if path.suffix == ".webp":
        image.save(path, "WEBP", quality=90, method=2, xmp=digest.encode())
    else:
        image.save(path, "PNG", dpi=(DPI, DPI))
    return image.size


def _height(panel: Panel, facts: Sequence[str]) -> float:
    """As high as image and text need, but never a tower."""
    shape: float = panel.image.shape[0] / panel.image.shape[1]
    lines = len(_fold(panel.name, 3)) + len(facts) + 0.5
    return max(min(CELL * shape, 1.5 * CELL), LINE * lines) + NOTE


def kind(panel: Panel) -> list[str]:
    """Label and defect, in lines."""
    known = panel.defect and panel.defect != "good"
    text = "anomalous" if panel.label else "normal"
    return _wrap(f"{text}: {panel.defect}" if known else text)


def _wrap(text: str, most: int = 2) -> list[str]:
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


def scale(panels: Sequence[Panel]) -> Normalize | None:
    """One colour scale for all maps, from the 1st to the 99.9th percentile of their pixels; None:
    the method gives no maps."""
    maps = [p.map.ravel() for p in panels if p.map is not None]
    if not maps:
        return None
    values = np.concatenate(maps).astype(np.float64)
    low, high = (float(v) for v in np.percentile(values, [1, 99.9]))
    return Normalize(low, high) if high > low else Normalize(low - 0.5, low + 0.5)


def _write(axis: Any, name: str, facts: Sequence[str]) -> None:
    """The name of an image in bold, and what is known of it below."""
    axis.axis("off")
    lines = _fold(name, 3)
    body = "\n" * len(lines) + "\n".join(facts)
    for text, weight in (("\n".join(lines), "bold"), (body, "normal")):
        axis.text(0, 1, _printable(text), va="top", fontsize=FONT, weight=weight, parse_math=False)


def _draw_truth(plain: Any, truth: Any, panel: Panel) -> None:
    """The image, and again with the outline of its defect."""
    size = panel.image.shape[:2]
    for axis in (plain, truth):
        show(axis, _rgb(panel.image), size)
    if panel.mask is not None:
        _contour(truth, panel.mask != 0, 0.5, size, TRUTH)
    note(truth, _truth_note(panel))


def _draw_found(
    axes: NDArray[Any], panel: Panel, colours: Normalize, threshold: float | None
) -> None:
    """A map in colours, and its contour on the image."""
    heat, found = axes
    if panel.map is None:
        heat.axis("off")
        found.axis("off")
        return
    size = panel.image.shape[:2]
    show(heat, panel.map, size, cmap=COLOURS, norm=colours)
    show(found, _rgb(panel.image), size)
    if threshold is None:
        note(found, "no threshold: no anomalous pixel")
    else:
        _contour(found, panel.map, threshold, size, FOUND)
        note(found, f"{_share(panel.map >= threshold)} of pixels above threshold")


def show(axis: Any, pixels: NDArray[Any], size: tuple[int, ...], **style: Any) -> None:
    """Pixels, stretched to the size of the image, without ticks."""
    extent = (0.0, float(size[1]), float(size[0]), 0.0)
    axis.imshow(pixels, extent=extent, interpolation="nearest", **style)
    axis.set(xlim=(0, size[1]), ylim=(size[0], 0), xticks=[], yticks=[], anchor="N")
    axis.spines[:].set(color=FRAME, linewidth=0.6)


def _rgb(image: NDArray[Any]) -> NDArray[Any]:
    return np.repeat(image[:, :, None], 3, axis=2) if image.ndim == 2 else image


def note(axis: Any, text: str) -> None:
    """A line in grey below a picture."""
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


def _colour_bar(
    figure: Figure, axes: NDArray[Any], colours: Normalize, threshold: float | None
) -> None:
    """What the colours mean, and where the threshold lies; beside the first rows."""
    heights = np.cumsum(axes[0, 0].get_gridspec().get_height_ratios())
    first = 1 + int(np.searchsorted(heights[:-1], BAR_HEIGHT))
    part = min(1.0, BAR_HEIGHT / heights[first - 1])
    axis = figure.colorbar(
        ScalarMappable(colours, COLOURS),
        ax=axes[:first],
        shrink=part,
        anchor=(0.0, 1.0),
        panchor=False,
        extend="both",
        extendfrac=0.03,
        aspect=25 * part,
        pad=0.01,
    ).ax
    axis.tick_params(labelsize=SMALL)
    axis.set_ylabel("anomaly map, one scale for all rows", fontsize=SMALL)
    low, high = colours.vmin, colours.vmax
    if threshold is not None and low is not None and low < threshold < (high or 0):
        axis.axhline(threshold, color=FOUND, linewidth=2)


def _legend(figure: Figure, outlines: Sequence[tuple[str, str]], caption: str) -> None:
    """What the outlines mean, in one line below the rows, and the caption."""
    rim = [Stroke(linewidth=3.2, foreground=RIM), Normal()]
    handles = [
        Line2D([], [], color=colour, linewidth=1.8, path_effects=rim, label=text)
        for colour, text in outlines
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
