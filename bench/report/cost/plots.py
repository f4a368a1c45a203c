"""Figures of cost: score against cost, memory against input size, those of papers' tables."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.report.choice import quantities as q
from bench.report.choice.settings_text import settings_notes
from bench.report.cost.complexity import costs
from bench.report.cost.memory import memory_plots
from bench.report.pictures.figures import blank, new_figure, plain_ticks, style, wrapped
from bench.rows.text import of_categories

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure

    from bench.report.choice.groups import Group
    from bench.report.cost.memory import MemoryPlot
    from bench.report.cost.series import Series
    from bench.report.paper.table_spec import FigureSpec
    from bench.rows.row import Row

_LARGEST = 900  # area of the largest marker, in square points
_SMALLEST = 30
_LINE = 0.2  # inches of a line of text
_SMALL = 0.13  # of a line of small print
_COLUMN = 42  # characters of a legend's label where two fit beside each other


@dataclass(frozen=True)
class Against:
    """A cost that a score is set against.

    Attributes:
        heading, column: as in the table of costs.
        label: of the axis.
    """

    heading: str
    column: str
    label: str


SPEED = Against("FPS b1", "fps_b1", "images per second at batch 1 (log)")
OPERATIONS = Against("GFLOPs", "gflops", "GFLOPs of one image (log)")


def score_against(cost: Against, group: Group, metric: str) -> Figure | None:
    """Mean score against a cost, area by state size; None without data."""
    columns = ((cost.heading, cost.column), ("state MB", "state_mb"))
    found = costs(group, metric, columns)
    shown = [c for c in found.lines if c.score is not None and c.costs[cost.heading]]
    if not shown:
        return None
    labels = [f"{c.legend}, {q.show('state_mb', c.costs['state MB']) or '?'} MB" for c in shown]
    numbered = {
        name: group.settings[name]
        for name, line in zip(group.variants, found.lines, strict=True)
        if name in group.settings and line.legend == line.label
    }
    settings = settings_notes(group.variants, numbered)
    lines = [group.place, group.machine, *found.notes(columns), *settings]
    title = wrapped(filter(None, lines), 7.2)
    beside = 2 if max(map(len, labels)) <= _COLUMN else 1
    extra = _LINE * (-(-len(shown) // beside) + title.count("\n") + 3)
    figure, (axis,) = new_figure(1, 1, 7.2, 4.0 + extra)
    largest = max(c.costs["state MB"] or 0 for c in shown) or 1
    for index, (line, label) in enumerate(zip(shown, labels, strict=True)):
        colour, marker = style(index)
        area = max(_SMALLEST, _LARGEST * (line.costs["state MB"] or 0) / largest)
        axis.scatter(
            [line.costs[cost.heading]],
            [100 * (line.score or 0)],
            s=area,
            c=colour,
            marker=marker,
            alpha=0.75,
            edgecolors="black",
            label=label,
            clip_on=False,
            zorder=3,
        )
    _room(axis, [c.costs[cost.heading] or 1 for c in shown], [100 * (c.score or 0) for c in shown])
    axis.set_xlabel(cost.label)
    shared = of_categories(found.coverage.shared)
    axis.set_ylabel(f"{q.label(metric)} (%), mean over {shared}")
    axis.grid(True, which="both", alpha=0.25)
    _legend(figure, beside, "area: state size")
    figure.suptitle(title, fontsize=9)
    return figure


def _legend(figure: Figure, columns: int, title: str | None = None) -> None:
    """Below the axes, each label once, with markers of one size."""
    from matplotlib.collections import PathCollection

    found: dict[str, Any] = {}
    for axis in figure.axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    legend = figure.legend(
        list(found.values()),
        list(found),
        loc="outside lower center",
        ncols=columns,
        title=title,
        fontsize=8,
        title_fontsize=8,
    )
    for shown in legend.legend_handles:
        if isinstance(shown, PathCollection):
            shown.set_sizes([60])


def _room(axis: Any, costs: Sequence[float], scores: Sequence[float]) -> None:
    """Limits with space for the largest marker, and enough ticks to read a cost."""
    axis.set_xscale("log")
    axis.set_xlim(min(costs) / 1.8, max(costs) * 1.8)
    margin = max(2.0, 0.2 * (max(scores) - min(scores)))
    axis.set_ylim(max(0.0, min(scores) - margin), min(100.0, max(scores) + margin))
    plain_ticks(axis.xaxis)


def memory_against_size(rows: Sequence[Row]) -> Figure | None:
    """Peak memory of training and inference against the input's side; None without such rows.

    Only settings that were measured at two sizes or more are drawn; one line of axes for each data
    set and machine.
    """
    panels = memory_plots(rows)
    if not panels:
        return None
    names = list(dict.fromkeys(name for panel in panels for name in panel.series))
    styles = {name: style(index) for index, name in enumerate(names)}
    columns = 2 if max(map(len, names)) <= _COLUMN else 1
    heads = [wrapped([panel.place, panel.machine], 8.5) for panel in panels]
    feet = [wrapped(panel.notes, 8.5, 7) for panel in panels]
    heights = [
        3.2 + _LINE * (head.count("\n") + 1) + _SMALL * (foot.count("\n") + 1)
        for head, foot in zip(heads, feet, strict=True)
    ]
    legend = _LINE * (-(-len(names) // columns) + 1)
    figure = blank(8.5, sum(heights) + legend)
    parts = figure.subfigures(len(panels), 1, squeeze=False, height_ratios=heights)
    for part, panel, head, foot in zip(parts.flat, panels, heads, feet, strict=True):
        part.suptitle(head, fontsize=9)
        part.supxlabel(foot, fontsize=7)
        left, right = part.subplots(1, 2)
        _draw_memory(left, panel, "fit_mb", styles)
        _draw_memory(right, panel, "infer_mb", styles)
        left.set_title("training", fontsize=9)
        right.set_title("inference, batch 1", fontsize=9)
    _legend(figure, columns)
    return figure


def _draw_memory(
    axis: Any, panel: MemoryPlot, column: str, styles: dict[str, tuple[str, str]]
) -> None:
    sides: set[float] = set()
    for name, points in panel.series.items():
        colour, marker = styles[name]
        chosen = [(p.side, value) for p in points if (value := getattr(p, column))]
        if chosen:
            axis.plot(
                *zip(*chosen, strict=True), color=colour, marker=marker, markersize=5, label=name
            )
            sides |= {side for side, _ in chosen}
    axis.set_yscale("log")
    plain_ticks(axis.yaxis)
    axis.set_xticks(sorted(sides))
    axis.spines[["top", "right"]].set_visible(False)
    axis.set_xlabel("side of the input in pixels")
    axis.set_ylabel("peak memory in MB (log)")
    axis.grid(True, which="both", alpha=0.25)


def along(figure: FigureSpec, curves: Sequence[Series]) -> Figure:
    """The figure of a paper's table.

    Colour and shape tell its curves apart, published lines are dashed and hollow.
    """
    labels = [wrapped([curve.label], 7.0, 8) for curve in curves]
    lines = sum(label.count("\n") + 1 for label in labels)
    drawn, (axis,) = new_figure(1, 1, 7.2, 4.0 + _LINE * lines)
    turns: Counter[int] = Counter()
    for curve, label in zip(curves, labels, strict=True):
        colour, marker = style(curve.kind)
        if not curve.is_published:
            # Lines of one kind that differ otherwise keep its colour.
            _, marker = style(len(figure.curves) * turns[curve.kind] + curve.kind)
            turns[curve.kind] += 1
        axis.plot(
            *zip(*curve.points, strict=True),
            color=colour,
            marker=marker,
            markerfacecolor="white" if curve.is_published else colour,
            linestyle="--" if curve.is_published else "-",
            label=label,
        )
    axis.set_xscale("log", base=2)
    axis.set_yscale("log")
    plain_ticks(axis.yaxis)
    plain_ticks(axis.xaxis)
    axis.set_xticks(sorted({x for curve in curves for x, _ in curve.points}))
    axis.set_xlabel(figure.x_label)
    axis.set_ylabel(figure.y_label)
    axis.grid(True, which="both", alpha=0.25)
    _legend(drawn, 1)
    drawn.suptitle(wrapped([figure.title, figure.origin], 7.2), fontsize=9)
    return drawn
