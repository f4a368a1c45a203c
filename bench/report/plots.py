"""Figures of cost: score against speed, memory against input size, PyramidFlow's memory saving."""

from __future__ import annotations

import json
import statistics
from typing import TYPE_CHECKING, Any

from bench.report import quantities as q
from bench.report.compare import meanings
from bench.report.complexity import Cost, costs, input_side
from bench.report.figures import new_figure, save, style

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from bench.report.compare import Group
    from bench.report.complexity import Curve
    from bench.row import Row

_LARGEST = 900  # area of the largest marker, in square points
_SMALLEST = 30


def score_against_speed(group: Group, metric: str, file: Path) -> bool:
    """Mean score against images per second at batch 1, area by state size; False without data."""
    shown = [c for c in costs(group, metric) if c.score is not None and c.costs["fps_b1"]]
    if not shown:
        return False
    from matplotlib.collections import PathCollection

    figure, (axis,) = new_figure(1, 1, 6.4, 4.8)
    largest = max(c.costs["state_mb"] or 0 for c in shown) or 1
    for index, cost in enumerate(shown):
        colour, marker = style(index)
        area = max(_SMALLEST, _LARGEST * (cost.costs["state_mb"] or 0) / largest)
        x, y = cost.costs["fps_b1"], 100 * (cost.score or 0)
        label = f"{cost.label}, {q.show('state_mb', cost.costs['state_mb']) or '?'} MB"
        axis.scatter(
            [x], [y], s=area, c=colour, marker=marker, alpha=0.75, edgecolors="black", label=label
        )
    axis.set_xscale("log")
    _room(axis, shown)
    axis.set_xlabel("images per second at batch 1 (log)")
    axis.set_ylabel(f"{q.label(metric)} (%), mean over {len(group.categories)} categories")
    axis.grid(True, which="both", alpha=0.25)
    # Below the axes, so that markers of any size stay free of it.
    legend = figure.legend(loc="outside lower center", ncols=2, title="area: state size")
    for handle in legend.legend_handles:
        if isinstance(handle, PathCollection):
            handle.set_sizes([60])
    axis.set_title(_title(group), fontsize=9)
    save(figure, file)
    return True


def _room(axis: Any, shown: Sequence[Cost]) -> None:
    """Limits so that the largest marker is not cut, and readable ticks within one decade."""
    from matplotlib.ticker import NullFormatter, StrMethodFormatter

    speeds = [c.costs["fps_b1"] or 1 for c in shown]
    axis.set_xlim(min(speeds) / 1.8, max(speeds) * 1.8)
    scores = [100 * (c.score or 0) for c in shown]
    margin = max(2.0, 0.2 * (max(scores) - min(scores)))
    axis.set_ylim(min(scores) - margin, max(scores) + margin)
    axis.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    narrow = max(speeds) / min(speeds) < 3
    axis.xaxis.set_minor_formatter(StrMethodFormatter("{x:g}") if narrow else NullFormatter())


def memory_against_size(rows: Sequence[Row], file: Path) -> bool:
    """Peak memory of training and inference against the input's side, for methods measured at two
    sizes or more on one device; False without such rows."""
    sized = [row for row in rows if input_side(row) is not None and row.memory]
    by_machine = q.group_by(sized, lambda r: (r.device, r.threads, r.memory))
    machines = [(group[0], series) for group in by_machine if (series := _series(group))]
    if not machines:
        return False
    figure, axes = new_figure(len(machines), 2, 8.0, 3.8)
    for index, (row, series) in enumerate(machines):
        for axis, column, what in zip(
            axes[2 * index : 2 * index + 2],
            ("fit_mb", "infer_mb"),
            ("training", "inference, batch 1"),
            strict=True,
        ):
            for number, (method, points) in enumerate(series.items()):
                colour, marker = style(number)
                chosen = [(side, costs[column]) for side, costs in points if costs[column]]
                if chosen:
                    axis.plot(*zip(*chosen, strict=True), color=colour, marker=marker, label=method)
            axis.set_xlabel("side of the input in pixels")
            axis.set_ylabel("peak memory in MB (log)")
            axis.set_yscale("log")
            axis.grid(True, alpha=0.25)
            axis.set_title(f"{what}\n{row.device}, memory by {row.memory}", fontsize=8)
        axes[2 * index].legend(fontsize=8)
    save(figure, file)
    return True


def _series(
    group: Sequence[Row],
) -> dict[str, list[tuple[float, dict[str, float | None]]]]:
    """Points by method and settings, of those with two sizes or more."""
    found: dict[tuple[str, str], dict[float, list[Row]]] = {}
    for row in group:
        params = {k: v for k, v in json.loads(row.params).items() if k != "input_size"}
        setting = json.dumps([row.dataset, row.method_version, row.pretrained, params])
        side = input_side(row)
        assert side is not None
        found.setdefault((row.method, setting), {}).setdefault(side, []).append(row)
    several = {key: by_side for key, by_side in found.items() if len(by_side) > 1}
    methods = [method for method, _ in several]
    result = {}
    for number, ((method, setting), by_side) in enumerate(several.items()):
        name = (
            method if methods.count(method) == 1 else f"{method}, {_told_apart(setting, several)}"
        )
        name = name if name not in result else f"{name} #{number}"
        result[name] = [(side, _medians(rows)) for side, rows in sorted(by_side.items())]
    return result


def _told_apart(setting: str, several: Iterable[tuple[str, str]]) -> str:
    """The parameters of a setting in which those of the figure differ."""
    mine = json.loads(setting)
    others = [json.loads(other) for _, other in several]
    changed = [k for k in mine[3] if any(o[3].get(k) != mine[3][k] for o in others if k in o[3])]
    return ", ".join([mine[0], mine[2], *(f"{k}={mine[3][k]}" for k in changed)])


def _medians(rows: Sequence[Row]) -> dict[str, float | None]:
    result: dict[str, float | None] = {}
    for column in ("fit_mb", "infer_mb"):
        values = [v for row in rows if (v := q.quantity(row, column)) is not None]
        result[column] = statistics.median(values) if values else None
    return result


def memory_saving(curves: Sequence[Curve], file: Path) -> None:
    """Training memory of PyramidFlow against stacked blocks, published and measured."""
    figure, (axis,) = new_figure(1, 1, 6.4, 4.6)
    for index, curve in enumerate(curves):
        colour, marker = style(index)
        axis.plot(
            curve.stacks,
            curve.gigabytes,
            color=colour,
            marker=marker,
            linestyle="--" if curve.is_published else "-",
            label=curve.label,
        )
    axis.set_xscale("log", base=2)
    axis.set_yscale("log")
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    axis.yaxis.set_major_locator(LogLocator(10, subs=(1, 2, 5)))
    for side in (axis.xaxis, axis.yaxis):
        side.set_major_formatter(StrMethodFormatter("{x:g}"))
        side.set_minor_formatter(NullFormatter())
    axis.set_xticks(sorted({stack for curve in curves for stack in curve.stacks}))
    axis.set_xlabel("stacked blocks D")
    axis.set_ylabel("peak training memory in GB")
    axis.grid(True, which="both", alpha=0.25)
    figure.legend(loc="outside lower center", fontsize=8)
    axis.set_title(
        "PyramidFlow, memory of a training step. Published: Figure 5, 8 levels, 24 channels,\n"
        "256 px, GPU and batch not stated, read off the drawing",
        fontsize=9,
    )
    save(figure, file)


def _title(group: Group) -> str:
    place, _, machine = group.title.partition("; ")
    return "\n".join([place, machine, *meanings(group, "fps")])
