"""The table of costs and the curves behind the figures."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bench.errors import ConfigError
from bench.report.choice import quantities as q
from bench.report.choice.groups import groups
from bench.report.compare.compare import tabulate_metric
from bench.report.compare.diagram import critical_difference
from bench.report.cost.complexity import cost_groups, costs, input_side
from bench.report.cost.memory import memory_plots, memory_saving_curves
from bench.report.cost.plots import memory_against_size, memory_saving, score_against_speed
from bench.report.pictures.figures import COLOURS, check_suffix, style, wrapped
from bench.rows.column import COMPLEXITY
from bench.rows.row import columns
from tests.report.shown import complexity

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.figure import Figure

    from bench.report.paper.published import PublishedNumbers
    from bench.rows.row import Row

    MakeRow = Callable[..., Row]


def timed(make_row: MakeRow, **changes: object) -> Row:
    values = {"speed": "speed-1", "device": "CPU test", "threads": 2, "memory": "sampled"}
    return make_row(**{**values, **changes})


def test_a_cost_that_only_some_rows_have_says_from_how_many_it_comes(make_row: MakeRow) -> None:
    rows = [
        timed(make_row, category=c, fps_b1=2.0, fps_b8=fps, fps=fps)
        for c, fps in (("a", 5.0), ("b", None), ("c", 7.0))
    ]
    (group,) = cost_groups(rows)
    assert "- FPS b8, FPS: from 2 of 3 rows of padim" in complexity(group, None).splitlines()


def test_costs_are_medians_and_the_score_a_mean(make_row: MakeRow) -> None:
    rows = [
        timed(make_row, category=c, fps_b1=fps, image_auroc=score)
        for c, fps, score in (("a", 1.0, 0.6), ("b", 2.0, 0.7), ("c", 90.0, 0.8))
    ]
    (cost,) = costs(cost_groups(rows)[0], "image_auroc").lines
    assert cost.costs["FPS b1"] == 2.0
    assert cost.score == pytest.approx(0.7)


def test_devices_threads_and_speed_protocols_are_apart_and_named(make_row: MakeRow) -> None:
    rows = [
        timed(make_row),
        timed(make_row, device="GPU test"),
        timed(make_row, threads=4),
        timed(make_row, speed="brief"),
        make_row(),  # not timed
    ]
    titles = [group.title for group in cost_groups(rows)]
    assert len(titles) == 4
    assert all("threads" in title for title in titles)
    text = complexity(cost_groups(rows)[0], "image_auroc")
    assert "CPU test, 2 threads" in text
    assert "memory by sampled" in text.splitlines()[0]


def test_memory_read_in_two_ways_splits_its_columns_and_no_score(make_row: MakeRow) -> None:
    rows = [
        timed(make_row, seed=seed, memory=memory, image_auroc=score, fps_b1=9.0, infer_mb=mb)
        for seed, (memory, score, mb) in enumerate(
            (("anonymous", 0.6, 130.0), ("resident", 0.8, 170.0), ("resident", 0.7, 172.0))
        )
    ]
    (group,) = cost_groups(rows)
    (cost,) = costs(group, "image_auroc").lines
    assert cost.score == pytest.approx(0.7)
    assert (cost.costs["infer MB (1)"], cost.costs["infer MB (2)"]) == (130, 171)
    text = complexity(group, "image_auroc")
    assert "memory (1) by anonymous, (2) by resident" in text.splitlines()[0]
    assert len([line for line in text.splitlines() if line.strip().startswith("|")]) == 3


def test_costs_come_from_quiet_rows_where_there_are_any(make_row: MakeRow) -> None:
    def row(category: str, noisy: bool, ms: float, fit: float) -> Row:
        values = {"fps_b1": 1000 / ms, "latency_p95_ms": ms, "fit_s": fit, "fit_cpu_s": 100.0}
        return timed(
            make_row, category=category, noisy=noisy, threads=1, device="CPU test", **values
        )

    rows = [
        row("a", noisy=False, ms=70.0, fit=101.0),
        row("b", noisy=True, ms=90.0, fit=103.0),
        row("c", noisy=True, ms=300.0, fit=190.0),
    ]
    (cost,) = costs(cost_groups(rows)[0], None).lines
    assert (cost.costs["p95 ms"], cost.costs["fit s"]) == (70, 102)
    text = complexity(cost_groups(rows)[0], None)
    assert "FPS b1, p95 ms: from 1 of 3 rows of padim, the others are noisy" in text
    assert "fit s: from 2 of 3 rows of padim, the others are noisy" in text
    noisy = complexity(cost_groups(rows[2:])[0], None)
    assert " 300* |" in noisy
    assert " 190* |" in noisy
    assert "padim*" in noisy


def test_noisy_and_rough_timings_are_marked(make_row: MakeRow) -> None:
    (group,) = cost_groups([timed(make_row, speed="brief", noisy=True, fps_b1=3.0)])
    text = complexity(group, "image_auroc")
    assert "padim¶*" in text
    assert "speed is uncertain" in text


def test_encoder_alone_and_whole_are_both_shown(make_row: MakeRow) -> None:
    (group,) = cost_groups([timed(make_row, encoder_ms=4.0, decoder_ms=5.0, fps_b1=100.0)])
    (cost,) = costs(group, "image_auroc").lines
    assert (cost.costs["encoder FPS"], cost.costs["enc+dec FPS"]) == (250, 200)


@pytest.mark.parametrize(
    ("protocol", "params", "side"),
    [
        ({"resize": [256, 256]}, {}, 256),
        ({"resize": 256, "crop": 224}, {}, 224),
        ({"resize": "method"}, {"input_size": 1024}, 1024),
        ({"resize": [128, 512]}, {}, 256),
        ({"resize": "method"}, {}, None),
        ({}, {}, None),
    ],
)
def test_the_side_of_the_input_comes_from_protocol_or_method(
    protocol: dict[str, object], params: dict[str, object], side: float | None, make_row: MakeRow
) -> None:
    row = make_row(protocol_fields=protocol, params=params)
    assert input_side(row) == side


def test_the_published_memory_saving_curves_are_those_of_figure_5(
    published: PublishedNumbers,
) -> None:
    saving, autograd = memory_saving_curves(published, [])
    assert saving.stacks == autograd.stacks == (2, 4, 8, 16, 32, 64)
    assert (saving.gigabytes[-1], autograd.gigabytes[-1]) == (3.73, 11.71)
    assert saving.is_published


def test_measured_memory_saving_needs_two_stacks_of_one_setting(
    published: PublishedNumbers, make_row: MakeRow
) -> None:
    def flow(stacks: int, save: bool) -> Row:
        params = {"stacks": stacks, "save_memory": save, "levels": 8, "channels": 24}
        return timed(make_row, method="pyramidflow", params=params, fit_mb=100.0 * stacks)

    without = make_row(method="pyramidflow", fit_mb=1.0)
    rows = [flow(2, True), flow(4, True), flow(2, False), without]
    (measured,) = memory_saving_curves(published, rows)[2:]
    assert (measured.stacks, measured.gigabytes) == ((2, 4), (0.2, 0.4))
    assert "memory-saving, measured: 8 levels" in measured.label


def test_figures_without_data_are_not_drawn(make_row: MakeRow) -> None:
    (group,) = cost_groups([timed(make_row)])
    assert score_against_speed(group, "image_auroc") is None
    assert memory_against_size([timed(make_row)]) is None


def test_scores_and_costs_are_over_the_categories_that_all_methods_share(
    make_row: MakeRow,
) -> None:
    rows = [
        timed(make_row, category="easy", image_auroc=0.9, fps_b1=90.0),
        timed(make_row, category="hard", image_auroc=0.5, fps_b1=10.0),
        timed(make_row, method="cflow", category="easy", image_auroc=0.8, fps_b1=20.0),
    ]
    (group,) = cost_groups(rows)
    padim, cflow = costs(group, "image_auroc").lines
    assert (padim.score, padim.costs["FPS b1"]) == (0.9, 90.0)
    assert (cflow.score, cflow.costs["FPS b1"]) == (0.8, 20.0)
    text = complexity(group, "image_auroc")
    assert "score: mean; costs: median; over 1 category" in text
    assert "over 1 category, without hard: not measured for every method" in text


def test_methods_that_share_no_category_have_no_numbers_and_no_point(make_row: MakeRow) -> None:
    rows = [
        timed(make_row, category="a", image_auroc=0.9, fps_b1=90.0),
        timed(make_row, method="cflow", category="b", image_auroc=0.8, fps_b1=20.0),
    ]
    (group,) = cost_groups(rows)
    assert {(c.score, c.costs["FPS b1"]) for c in costs(group, "image_auroc").lines} == {
        (None, None)
    }
    assert score_against_speed(group, "image_auroc") is None


def test_without_a_metric_the_table_has_no_scores(make_row: MakeRow) -> None:
    (group,) = cost_groups([timed(make_row, protocol="costs", image_auroc=0.9, fps_b1=3.0)])
    text = complexity(group, None)
    assert "scores of protocol costs say nothing: left out" in text
    assert "90.0" not in text


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
    published: PublishedNumbers, make_row: MakeRow
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
    curves = memory_saving_curves(published, rows)
    for curve in curves[2:]:
        assert "synthetic, category weave, seed 0" in curve.label
        assert "1 thread, memory by resident high-water mark" in curve.label
    (axis,) = memory_saving(curves).axes
    looks: dict[bool, list[tuple[str, str]]] = {True: [], False: []}
    for curve, line in zip(curves, axis.lines, strict=True):
        assert (line.get_markerfacecolor() == "white") == curve.is_published
        assert (line.get_linestyle() == "--") == curve.is_published
        looks[curve.saves_memory].append((str(line.get_color()), str(line.get_marker())))
    assert [len({colour for colour, _ in found}) for found in looks.values()] == [1, 1]
    assert len({marker for _, marker in looks[False][1:]}) == 2
    assert not {m for _, m in looks[True]} & {m for _, m in looks[False]}


def test_memory_saving_curves_name_every_parameter_that_differs(
    published: PublishedNumbers, make_row: MakeRow
) -> None:
    def flow(stacks: int, batch: int) -> Row:
        params = {"stacks": stacks, "levels": 8, "channels": 24, "batch": batch}
        return timed(make_row, method="pyramidflow", params=params, fit_mb=10.0 * stacks)

    rows = [flow(stacks, batch) for stacks in (2, 4) for batch in (2, 16)]
    labels = [curve.label for curve in memory_saving_curves(published, rows)[2:]]
    assert sorted("batch=16" in label for label in labels) == [False, True]


def is_whole(figure: Figure) -> bool:
    """Whether all that is drawn lies within the figure, to a point."""
    figure.canvas.draw()
    box, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    edge = 1 / 72
    return bool(min(box.x0, box.y0) >= -edge and box.x1 <= width + edge and box.y1 <= height + edge)


def test_no_text_of_a_figure_is_cut(published: PublishedNumbers, make_row: MakeRow) -> None:
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
    figures = [score_against_speed(group, "image_auroc"), memory_against_size(rows)]
    figures.append(memory_saving(memory_saving_curves(published, rows)))
    table = tabulate_metric(groups(rows)[0], "image_auroc")
    figures.append(critical_difference([table, table]))
    for figure in figures:
        assert figure is not None
        assert is_whole(figure)


def test_scores_are_drawn_up_to_a_hundred_and_noise_is_marked(make_row: MakeRow) -> None:
    rows = [timed(make_row, image_auroc=1.0, fps_b1=3.0, noisy=True)]
    figure = score_against_speed(cost_groups(rows)[0], "image_auroc")
    assert figure is not None
    (axis,) = figure.axes
    assert axis.get_ylim()[1] == 100
    assert axis.get_legend_handles_labels()[1] == ["padim*, ? MB"]
    assert sum(3 / 1.8 <= tick <= 3 * 1.8 for tick in axis.get_xticks()) >= 3


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


def test_the_direction_and_the_unit_of_every_quantity() -> None:
    for name in q.SCORES:
        assert q.is_score(name)
        assert not q.is_lower_better(name)
        assert not q.depends_on_hardware(name)
    for name in ("latency_p95_ms", "fit_mb", "state_mb", "params_m", "gflops", "fit_s", "state_gb"):
        assert q.is_lower_better(name)
    for name in ("fps", "fps_b1", "encoder_fps", "fit_images_per_s"):
        assert not q.is_lower_better(name)
    for name in ("fps", "encoder_fps", "latency_p50_s", "fit_gb", "infer_mb", "cpu_ms"):
        assert q.depends_on_hardware(name)
    for name in ("params_m", "gflops", "state_gb", "state_backbone_mb"):
        assert not q.depends_on_hardware(name)
    assert set(q.COSTS) <= set(columns(*COMPLEXITY))


def test_published_metrics_of_a_row_can_be_asked_for(make_row: MakeRow) -> None:
    row = make_row(published={"aupro_pyramidflow": 0.9})
    assert q.quantity(row, "aupro_pyramidflow") == 0.9
    assert q.quantity(row, "aupro_cflow") is None
    assert q.show("aupro_pyramidflow", 0.9) == "90.0"


def test_reports_import_nothing_of_the_torch_side() -> None:
    code = (
        "import importlib, pkgutil, sys, bench.report\n"
        "import bench.commands.compare, bench.commands.plot, bench.commands.table\n"
        "for module in pkgutil.walk_packages(bench.report.__path__, 'bench.report.'):\n"
        "    importlib.import_module(module.name)\n"
        "found = {'torch', 'timm', 'sklearn', 'skimage', 'torchvision'} & set(sys.modules)\n"
        "print(*sorted(found))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_the_commands_do_not_load_plotting_or_statistics_until_they_run() -> None:
    code = (
        "import sys, bench.cli\n"
        "heavy = {'matplotlib', 'scipy', 'pandas', 'torch', 'statsmodels', 'scikit_posthocs'}\n"
        "print(*sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
