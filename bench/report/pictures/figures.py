"""How figures look: readable in print, in grey and for the colour-blind."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

from bench.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C8C8C")
"""Okabe and Ito's palette without its yellow, which is lost on white paper; then grey."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
SUFFIXES = (".png", ".pdf", ".svg")


def style(index: int) -> tuple[str, str]:
    """Colour and marker of the index-th series: both differ, so that grey print still tells."""
    turn = index // len(COLOURS)
    return COLOURS[index % len(COLOURS)], MARKERS[(index + turn) % len(MARKERS)]


def blank(width: float, height: float) -> Figure:
    """A figure without a window, `width` by `height` inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=200, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def new_figure(rows: int, columns: int, width: float, height: float) -> tuple[Figure, list[Any]]:
    """A figure of `width` by `height` inches, and its axes row by row."""
    figure = blank(width, height)
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.spines[["top", "right"]].set_visible(False)
    return figure, list(axes.flat)


def wrapped(lines: Iterable[str], width: float, size: float = 9) -> str:
    """Lines broken so that they fit.

    Args:
        width: inches.
        size: of the font, in points; a character of it is about 0.58 as wide.
    """
    most = int(width * 72 / (0.58 * size))
    return "\n".join(textwrap.fill(line, most) for line in lines)


def plain_ticks(axis: Any) -> None:
    """Ticks of a logarithmic x or y axis without exponents; the fewer decades, the more ticks."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    low, high = axis.get_view_interval()
    ratio = high / low
    subs = (1, 2, 3, 4, 5, 6, 8) if ratio < 10 else (1, 2, 5) if ratio < 2000 else (1,)
    axis.set_major_locator(LogLocator(10, subs=subs))
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_formatter(NullFormatter())


def check_suffix(file: Path) -> None:
    """Refuse what is not a figure's name.

    Raises:
        ConfigError: a suffix that is not PNG, PDF or SVG.
    """
    if file.suffix.lower() not in SUFFIXES:
        raise ConfigError(f"{file}: a figure is {', '.join(SUFFIXES)}")


def save(figure: Figure, file: Path) -> None:
    """Write the figure, with all that is drawn.

    Raises:
        ConfigError: a suffix that is not PNG, PDF or SVG; a folder that cannot be written.
    """
    check_suffix(file)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(file, bbox_inches="tight", pad_inches=0.1)
    except OSError as error:
        raise ConfigError(f"{file} cannot be written: {error}") from error
