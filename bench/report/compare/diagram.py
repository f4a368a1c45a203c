"""Critical-difference diagrams: mean ranks on a line, methods that do not differ joined by bars."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bench.report.choice import quantities as q
from bench.report.choice.groups import marked, meanings
from bench.report.compare.conclusions import friedman, hopeless, mean_ranks
from bench.report.compare.significance import ALPHA
from bench.report.pictures.figures import blank, wrapped
from bench.rows.text import of_categories

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure

    from bench.report.compare.compare import Table

_WIDTH = 8.0
_LINE = 0.17  # inches of a line of small text


def critical_difference(tables: Sequence[Table]) -> Figure:
    """One diagram below another, for tables that all have a comparison."""
    heads = [_title(table) for table in tables]
    foots = [_notes(table) for table in tables]
    heights = [
        1.1 + 0.24 * len(table.methods) + _LINE * (head.count("\n") + foot.count("\n") + 2)
        for table, head, foot in zip(tables, heads, foots, strict=True)
    ]
    figure = blank(_WIDTH, sum(heights))
    parts = figure.subfigures(len(tables), 1, squeeze=False, height_ratios=heights)
    for part, table, head, foot in zip(parts.flat, tables, heads, foots, strict=True):
        part.suptitle(head, fontsize=10)
        _draw(part.subplots(), table)
        part.supxlabel(foot, fontsize=8, x=0.02, ha="left")
    return figure


def _draw(axis: Any, table: Table) -> None:
    import pandas as pd
    import scikit_posthocs
    from matplotlib.ticker import MaxNLocator

    comparison = table.comparison
    assert comparison is not None
    names = [marked(table.group, name, table.metric) for name in table.methods]
    scikit_posthocs.critical_difference_diagram(
        dict(zip(names, comparison.ranks, strict=True)),
        pd.DataFrame(comparison.p_values(), names, names),
        ax=axis,
        alpha=ALPHA,
        label_fmt_left="{label} ({rank:.2f})",
        label_fmt_right="({rank:.2f}) {label}",
        marker_props={"s": 12, "color": "black", "clip_on": False},
        elbow_props={"color": "0.2", "linewidth": 0.8},
        # Marked at its members: a bar may pass over a method that differs from one of them.
        crossbar_props={"marker": "o", "markersize": 4},
    )
    axis.set_xlim(0.98, len(names) + 0.02)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))


def _title(table: Table) -> str:
    lines = [f"{q.label(table.metric)} on {table.group.place}"]
    lines.append(f"mean rank over {of_categories(table.shared)}, 1 is best")
    return wrapped(lines, _WIDTH, 10)


def _notes(table: Table) -> str:
    """What the bars mean, the tests, and the variants and marks of the names."""
    comparison = table.comparison
    assert comparison is not None
    lines = [f"bars join methods that are not told apart (Wilcoxon, Shaffer; p >= {ALPHA}); a dot"]
    lines[0] += " on a bar: the method belongs to it"
    if comparison.friedman is not None:
        lines.append(friedman(table))
    names = [marked(table.group, name, table.metric) for name in table.methods]
    lines.append(mean_ranks(table, names))
    lines += [*hopeless(table), *table.group.legend, *meanings(table.group, table.metric)]
    lines += table.remarks
    lines += [f"{name} left out: {why}" for name, why in table.coverage.left_out.items()]
    return wrapped(lines, _WIDTH, 8)
