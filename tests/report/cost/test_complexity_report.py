"""The table of costs, and what its quantities are."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from bench.report.choice import quantities as q
from bench.report.cost.complexity import cost_groups, costs, input_side
from bench.report.cost.plots import SPEED, score_against
from bench.rows.row import columns
from tests.report.shown import complexity, timed

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.rows.row import Row

    MakeRow = Callable[..., Row]


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
    assert score_against(SPEED, group, "image_auroc") is None


def test_without_a_metric_the_table_has_no_scores(make_row: MakeRow) -> None:
    (group,) = cost_groups([timed(make_row, protocol="costs", image_auroc=0.9, fps_b1=3.0)])
    text = complexity(group, None)
    assert "scores of protocol costs say nothing: left out" in text
    assert "90.0" not in text


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
    assert set(q.COSTS) <= set(columns("condition", "cost"))


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
