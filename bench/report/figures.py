"""How figures look: readable in print, in grey and for the colour-blind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bench.errors import ConfigError

if TYPE_CHECKING:
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


def new_figure(rows: int, columns: int, width: float, height: float) -> tuple[Figure, list[Any]]:
    """A figure without a window, `width` by `height` inches for each row; and its axes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height * rows), dpi=200, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.spines[["top", "right"]].set_visible(False)
    return figure, list(axes.flat)


def save(figure: Figure, file: Path) -> None:
    """Write the figure.

    Raises:
        ConfigError: a suffix that is not PNG, PDF or SVG; a folder that cannot be written.
    """
    if file.suffix.lower() not in SUFFIXES:
        raise ConfigError(f"{file}: a figure is {', '.join(SUFFIXES)}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(file)
    except OSError as error:
        raise ConfigError(f"{file} cannot be written: {error}") from error
