"""Figures of costs: what is drawn, how it looks, and that no text is cut."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from bench.errors import ConfigError
from bench.report.choice.groups import groups
from bench.report.compare.compare import tabulate_metric
from bench.report.compare.diagram import critical_difference
from bench.report.cost.complexity import cost_groups, counted_groups
from bench.report.cost.memory import memory_plots
from bench.report.cost.plots import (
    OPERATIONS,
    SPEED,
    along,
    memory_against_size,
    score_against,
)
from bench.report.cost.series import measured, printed
from bench.report.paper.table_files import tables_with_figures
from bench.report.pictures.figures import COLOURS, check_suffix, style, wrapped
from tests.report.shown import timed

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.figure import Figure

    from bench.report.cost.series import Series
    from bench.report.paper.published import PublishedNumbers
    from bench.report.paper.table_spec import FigureSpec
    from bench.rows.row import Row
    from bench.settings.config import Settings

    MakeRow = Callable[..., Row]
    Drawn = Callable[..., tuple[FigureSpec, list[Series], list[Series]]]


@pytest.fixture
def drawn(published: PublishedNumbers, settings: Settings) -> Drawn:
    """`drawn(rows)`: PyramidFlow's Figure 5, its printed curves and those of the rows."""
    ((spec, figure),) = tables_with_figures(settings, published)
    return lambda rows: (
        figure,
        list(printed(spec, figure, published)),
        list(measured(spec, figure, rows)),
    )


def test_the_printed_curves_of_a_figure_are_those_of_its_table(drawn: Drawn) -> None:
    _, (saving, autograd), _ = drawn([])
    for curve in (saving, autograd):
        assert [x for x, _ in curve.points] == [2, 4, 8, 16, 32, 64]
    assert (saving.points[-1][1], autograd.points[-1][1]) == (3.73, 11.71)
    assert saving.label == "memory-saving, published figure (digitised)"
    assert saving.is_published


def test_a_measured_curve_needs_two_values_of_one_setting(drawn: Drawn, make_row: MakeRow) -> None:
    def flow(stacks: int, save: bool) -> Row:
        params = {"stacks": stacks, "save_memory": save, "levels": 8, "channels": 24}
        return timed(make_row, method="pyramidflow", params=params, fit_mb=100.0 * stacks)

    without = make_row(method="pyramidflow", fit_mb=1.0)
    rows = [flow(2, True), flow(4, True), flow(2, False), without]
    (curve,) = drawn(rows)[2]
    assert curve.points == ((2, 0.2), (4, 0.4))
    assert "memory-saving, measured: 8 levels" in curve.label


def test_figures_without_data_are_not_drawn(make_row: MakeRow) -> None:
    (group,) = cost_groups([timed(make_row)])
    assert score_against(SPEED, group, "image_auroc") is None
    assert memory_against_size([timed(make_row)]) is None


def sized(make_row: MakeRow, side: int, **changes: object) -> Row:
    params = {"input_size": side, **changes}
    return timed(
        make_row,
        method=str(params.pop("method", "pyramidflow")),
        threads=params.pop("threads", 1),
        protocol="costs",
        protocol_fields={"resize": "method"},
        params=params,
        fit_mb=3.0 * side,
        infer_mb=1.0 * side,
    )


def test_memory_is_drawn_for_settings_that_were_measured_at_two_sizes(make_row: MakeRow) -> None:
    rows = [
        *(sized(make_row, side, stacks=4, levels=4) for side in (128, 256)),
        *(sized(make_row, 256, stacks=stacks, levels=8) for stacks in (2, 8)),
        *(sized(make_row, side, method="padim", dimensions=100) for side in (128, 256)),
        sized(make_row, 256, method="padim", dimensions=550),
    ]
    (panel,) = memory_plots(rows)
    assert list(panel.series) == ["padim", "pyramidflow"]
    assert panel.place == "synthetic, protocol costs"
    assert panel.machine == "CPU test, 1 thread, memory by sampled"
    assert [(p.side, p.fit_mb, p.infer_mb) for p in panel.series["padim"]] == [
        (128, 384, 128),
        (256, 768, 256),
    ]


def test_parameters_are_told_apart_within_a_method(make_row: MakeRow) -> None:
    rows = [
        *(sized(make_row, s, stacks=n, save_memory=True) for s in (128, 256) for n in (2, 8)),
        *(sized(make_row, side, method="padim", stacks=1) for side in (128, 256)),
    ]
    (panel,) = memory_plots(rows)
    assert list(panel.series) == ["padim", "pyramidflow, stacks=2", "pyramidflow, stacks=8"]


def test_memory_on_several_machines_is_in_panels_of_their_own(make_row: MakeRow) -> None:
    rows = [sized(make_row, s, stacks=4, threads=t) for s in (128, 256) for t in (1, 16)]
    assert [panel.machine for panel in memory_plots(rows)] == [
        "CPU test, 1 thread, memory by sampled",
        "CPU test, 16 threads, memory by sampled",
    ]


def test_small_print_names_what_memory_was_measured_on(make_row: MakeRow) -> None:
    rows = [
        replace(sized(make_row, side, method="padim", dimensions=50), pretrained="random")
        for side in (128, 256)
    ]
    (panel,) = memory_plots(rows)
    assert list(panel.series) == ["padim§"]
    first, settings, mark = panel.notes
    assert first == "category weave, seed 0, speed protocol speed-1; median over rows"
    assert settings == "padim§: dimensions 50"
    assert mark.startswith("§  random encoder weights")
    figure = memory_against_size(rows)
    assert figure is not None
    assert first in figure.subfigs[0].get_supxlabel()


def test_one_colour_for_each_way_of_training_published_lines_hollow(
    drawn: Drawn, make_row: MakeRow
) -> None:
    rows = [
        timed(
            make_row,
            method="pyramidflow",
            params={"stacks": stacks, "save_memory": saves, "levels": 8, "batch": b},
            fit_mb=10.0 * stacks,
            memory="resident high-water mark",
            threads=1,
        )
        for stacks in (2, 4)
        for saves, b in ((True, 2), (False, 2), (False, 8))
    ]
    spec, paper, found = drawn(rows)
    for curve in found:
        assert "synthetic, category weave, seed 0" in curve.label
        assert "1 thread, memory by resident high-water mark" in curve.label
    curves = [*paper, *found]
    (axis,) = along(spec, curves).axes
    looks: dict[int, list[tuple[str, str]]] = {0: [], 1: []}
    for curve, line in zip(curves, axis.lines, strict=True):
        assert (line.get_markerfacecolor() == "white") == curve.is_published
        assert (line.get_linestyle() == "--") == curve.is_published
        looks[curve.kind].append((str(line.get_color()), str(line.get_marker())))
    assert [len({colour for colour, _ in found}) for found in looks.values()] == [1, 1]
    assert len({marker for _, marker in looks[1][1:]}) == 2
    assert not {m for _, m in looks[0]} & {m for _, m in looks[1]}


def test_curves_name_every_parameter_that_differs(drawn: Drawn, make_row: MakeRow) -> None:
    def flow(stacks: int, batch: int) -> Row:
        params = {"stacks": stacks, "levels": 8, "channels": 24, "batch": batch}
        return timed(make_row, method="pyramidflow", params=params, fit_mb=10.0 * stacks)

    rows = [flow(stacks, batch) for stacks in (2, 4) for batch in (2, 16)]
    labels = [curve.label for curve in drawn(rows)[2]]
    assert sorted("batch=16" in label for label in labels) == [False, True]


def is_whole(figure: Figure) -> bool:
    """Whether all that is drawn lies within the figure, to a point."""
    figure.canvas.draw()
    box, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    edge = 1 / 72
    return bool(min(box.x0, box.y0) >= -edge and box.x1 <= width + edge and box.y1 <= height + edge)


def test_no_text_of_a_figure_is_cut(drawn: Drawn, make_row: MakeRow) -> None:
    long = {
        "device": "CPU Intel(R) Xeon(R) Platinum 8480C Processor with a long name",
        "speed": "once (warmup_steps_cpu=1, min_steps_cpu=1, min_s_cpu=0, max_batch=1)",
    }
    rows = [
        timed(
            make_row,
            method="pyramidflow",
            category=f"c{i}",
            protocol_fields={"resize": [side, side]},
            params={"stacks": stacks, "a_parameter_with_a_long_name": "x" * 30},
            image_auroc=0.99 - 0.01 * stacks,
            fps_b1=10.0 * stacks,
            state_mb=5.0,
            noisy=True,
            fit_mb=1.0 * stacks * side,
            infer_mb=1.0 * side,
            **long,
        )
        for i in range(6)
        for side in (128, 256)
        for stacks in (2, 4)
    ]
    group = cost_groups(rows)[0]
    figures = [score_against(SPEED, group, "image_auroc"), memory_against_size(rows)]
    spec, paper, found = drawn(rows)
    figures.append(along(spec, [*paper, *found]))
    table = tabulate_metric(groups(rows)[0], "image_auroc")
    figures.append(critical_difference([table, table]))
    for figure in figures:
        assert figure is not None
        assert is_whole(figure)


def test_scores_are_drawn_up_to_a_hundred_and_noise_is_marked(make_row: MakeRow) -> None:
    rows = [timed(make_row, image_auroc=1.0, fps_b1=3.0, noisy=True)]
    figure = score_against(SPEED, cost_groups(rows)[0], "image_auroc")
    assert figure is not None
    (axis,) = figure.axes
    assert axis.get_ylim()[1] == 100
    assert axis.get_legend_handles_labels()[1] == ["padim*, ? MB"]
    assert sum(3 / 1.8 <= tick <= 3 * 1.8 for tick in axis.get_xticks()) >= 3


def test_methods_of_several_machines_stand_in_one_figure_of_operations(make_row: MakeRow) -> None:
    rows = [
        timed(make_row, method=method, device=device, gflops=gflops, image_auroc=0.9, noisy=True)
        for method, device, gflops in (("padim", "CPU a", 2.0), ("cflow", "CPU b", 8.0))
    ]
    assert len(cost_groups(rows)) == 2
    (group,) = counted_groups(rows)
    figure = score_against(OPERATIONS, group, "image_auroc")
    assert figure is not None
    assert is_whole(figure)
    (axis,) = figure.axes
    assert axis.get_xlabel() == "GFLOPs of one image (log)"
    points = [np.asarray(marks.get_offsets()).tolist() for marks in axis.collections]
    assert points == [[[2.0, 90.0]], [[8.0, 90.0]]]
    assert axis.get_legend_handles_labels()[1] == ["padim, ? MB", "cflow, ? MB"]


def test_rows_without_operations_are_not_drawn_against_them(make_row: MakeRow) -> None:
    assert counted_groups([timed(make_row, gflops=None)]) == []


@pytest.mark.parametrize("count", [2, 3, 8, 16])
def test_the_diagram_names_every_method_and_joins_those_that_do_not_differ(
    count: int, make_row: MakeRow
) -> None:
    rows = [
        make_row(method=f"m{i:02d}", category=f"c{c}", image_auroc=0.5 + 0.01 * (i // 2))
        for i in range(count)
        for c in range(6)
    ]
    figure = critical_difference([tabulate_metric(groups(rows)[0], "image_auroc")])
    assert is_whole(figure)
    (axis,) = figure.axes
    texts = " ".join(text.get_text() for text in axis.texts)
    assert all(f"m{i:02d}" in texts for i in range(count))
    assert any(line.get_linewidth() == 2 for line in axis.lines)
    notes = figure.subfigs[0].get_supxlabel()
    assert ("Friedman over 6 categories" in notes) == (count > 2)
    assert ("no pair can reach p < 0.05" in notes) == (count > 3)
    assert "ranks depend on" in notes


def test_long_lines_are_broken_at_the_width_of_the_figure() -> None:
    assert max(map(len, wrapped(["word " * 60], 6.4).splitlines())) < 90


def test_a_file_that_is_no_figure_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"\.png, \.pdf, \.svg"):
        check_suffix(Path("ranks.jpg"))


def test_sixty_four_series_have_different_styles() -> None:
    assert len({style(i) for i in range(64)}) == 64
    assert len({style(i)[0] for i in range(len(COLOURS))}) == len(COLOURS)
