"""Critical-difference diagrams: mean ranks on a line, methods that do not differ joined by bars."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bench.report import quantities as q
from bench.report.compare import marked, meanings
from bench.report.significance import ALPHA, cliques

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bench.report.compare import Table


def critical_difference(tables: Sequence[Table], file: Path) -> None:
    """One diagram below another, one for each table that has a comparison."""
    from bench.report.figures import new_figure, save

    most = max(len(table.methods) for table in tables)
    figure, axes = new_figure(len(tables), 1, width=7.0, height=1.5 + 0.3 * most)
    for axis, table in zip(axes, tables, strict=True):
        _draw(axis, table)
    save(figure, file)


def _draw(axis: object, table: Table) -> None:
    from matplotlib.axes import Axes

    assert isinstance(axis, Axes)
    comparison = table.comparison
    assert comparison is not None
    count = len(table.methods)
    order = np.argsort(comparison.ranks, kind="stable")
    runs = cliques(comparison)
    axis.set_xlim(0.9, count + 0.1)
    # Rank 1, the best, is on the left; names hang below, half on each side.
    floor = -0.6 - 0.35 * len(runs) - 0.5 * ((count + 1) // 2)
    axis.set_ylim(floor, 0.1)
    axis.spines[["left", "right", "bottom"]].set_visible(False)
    axis.spines["top"].set_visible(True)
    axis.xaxis.tick_top()
    axis.set_xticks(range(1, count + 1))
    axis.set_yticks([])
    for level, run in enumerate(runs):
        ends = [comparison.ranks[i] for i in run]
        height = -0.35 * (level + 1)
        axis.plot([min(ends) - 0.03, max(ends) + 0.03], [height] * 2, color="black", linewidth=3)
    for position, method in enumerate(order):
        left = position < (count + 1) / 2
        depth = position if left else count - 1 - position
        height = -0.6 - 0.35 * len(runs) - 0.5 * depth
        rank = comparison.ranks[method]
        name = marked(table.group, table.methods[method], table.metric)
        edge = 0.9 if left else count + 0.1
        axis.plot([rank, rank, edge], [0.1, height, height], color="0.35", linewidth=1)
        axis.text(
            edge,
            height,
            f" {name} ({rank:.2f}) ",
            ha="right" if left else "left",
            va="center",
        )
    friedman = "" if comparison.friedman is None else f", Friedman p = {comparison.friedman:.2g}"
    axis.set_title(
        f"{q.label(table.metric)}, {table.group.title}\nmean rank over {len(table.shared)} "
        f"categories (1 is best){friedman}; bars: not told apart at {ALPHA}"
        + "".join(f"\n{line}" for line in meanings(table.group, table.metric)),
        fontsize=9,
    )
