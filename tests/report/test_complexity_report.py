"""The table of costs and the curves behind the figures."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from bench.report import quantities as q
from bench.report.complexity import (
    complexity_table,
    cost_groups,
    costs,
    input_side,
    memory_saving_curves,
)
from bench.report.figures import COLOURS, style
from bench.report.plots import memory_against_size, score_against_speed
from bench.row import COMPLEXITY, columns

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bench.report.published import Published
    from bench.row import Row

    MakeRow = Callable[..., Row]


def timed(make_row: MakeRow, **changes: object) -> Row:
    values = {"speed": "speed-1", "device": "CPU test", "threads": 2, "memory": "sampled"}
    return make_row(**{**values, **changes})


def test_costs_are_medians_and_the_score_a_mean(make_row: MakeRow) -> None:
    rows = [
        timed(make_row, category=c, fps_b1=fps, image_auroc=score)
        for c, fps, score in (("a", 1.0, 0.6), ("b", 2.0, 0.7), ("c", 90.0, 0.8))
    ]
    (cost,) = costs(cost_groups(rows)[0], "image_auroc")
    assert cost.costs["fps_b1"] == 2.0
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
    assert all("threads" in title and "memory by sampled" in title for title in titles)
    text = complexity_table(cost_groups(rows)[0], "image_auroc")
    assert "CPU test, 2 threads" in text


def test_noisy_and_rough_timings_are_marked(make_row: MakeRow) -> None:
    (group,) = cost_groups([timed(make_row, speed="brief", noisy=True, fps_b1=3.0)])
    text = complexity_table(group, "image_auroc")
    assert "padim¶*" in text
    assert "speed is uncertain" in text


def test_encoder_alone_and_whole_are_both_shown(make_row: MakeRow) -> None:
    (group,) = cost_groups([timed(make_row, encoder_ms=4.0, decoder_ms=5.0, fps_b1=100.0)])
    (cost,) = costs(group, "image_auroc")
    assert (cost.costs["encoder_fps"], cost.costs["decoder_fps"]) == (250, 200)


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
    row = make_row(protocol_fields=json.dumps(protocol), params=json.dumps(params))
    assert input_side(row) == side


def test_the_published_memory_saving_curves_are_those_of_figure_5(published: Published) -> None:
    saving, autograd = memory_saving_curves(published, [])
    assert saving.stacks == autograd.stacks == (2, 4, 8, 16, 32, 64)
    assert (saving.gigabytes[-1], autograd.gigabytes[-1]) == (3.73, 11.71)
    assert saving.is_published


def test_measured_memory_saving_needs_two_stacks_of_one_setting(
    published: Published, make_row: MakeRow
) -> None:
    def flow(stacks: int, save: bool) -> Row:
        params = json.dumps({"stacks": stacks, "save_memory": save, "levels": 8, "channels": 24})
        return timed(make_row, method="pyramidflow", params=params, fit_mb=100.0 * stacks)

    without = make_row(method="pyramidflow", fit_mb=1.0)
    rows = [flow(2, True), flow(4, True), flow(2, False), without]
    (measured,) = memory_saving_curves(published, rows)[2:]
    assert (measured.stacks, measured.gigabytes) == ((2, 4), (0.2, 0.4))
    assert "memory-saving, measured: 8 levels" in measured.label


def test_figures_without_data_are_not_drawn(tmp_path: Path, make_row: MakeRow) -> None:
    (group,) = cost_groups([timed(make_row)])
    assert not score_against_speed(group, "image_auroc", tmp_path / "a.png")
    assert not memory_against_size([timed(make_row)], tmp_path / "b.png")
    assert not list(tmp_path.iterdir())


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
    assert set(q.COSTS) <= set(columns(COMPLEXITY))


def test_published_metrics_of_a_row_can_be_asked_for(make_row: MakeRow) -> None:
    row = make_row(published='{"aupro_pyramidflow": 0.9}')
    assert q.quantity(row, "aupro_pyramidflow") == 0.9
    assert q.quantity(row, "aupro_cflow") is None
    assert q.show("aupro_pyramidflow", 0.9) == "90.0"


def test_reports_import_nothing_of_the_torch_side() -> None:
    names = "captions compare complexity diagram figures matching paper_table plots published"
    modules = [f"bench.report.{n}" for n in (names + " quantities render significance").split()]
    modules += [f"bench.commands.{n}" for n in ("table", "compare", "plot")]
    code = (
        f"import sys, {', '.join(modules)}\n"
        "found = {'torch', 'timm', 'sklearn', 'skimage', 'torchvision'} & set(sys.modules)\n"
        "print(*sorted(found))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_the_commands_do_not_load_plotting_or_statistics_until_they_run() -> None:
    code = (
        "import sys, bench.cli\n"
        "print(*sorted({'matplotlib', 'scipy', 'pandas', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
