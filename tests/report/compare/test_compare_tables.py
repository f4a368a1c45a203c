"""Free tables: what is kept apart, what is averaged, what is concluded."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from bench.report.choice.groups import TIMED_ALIKE, groups
from bench.report.compare.compare import tabulate_metric
from tests.report.shown import compared

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.rows.row import Row

    MakeRow = Callable[..., Row]


def six(make_row: MakeRow, method: str, start: float, **changes: object) -> list[Row]:
    values = {"image_auroc": start, **changes}
    return [
        make_row(method=method, category=f"c{i}", **{**values, "image_auroc": start + 0.01 * i * i})
        for i in range(6)
    ]


def test_protocols_and_data_set_options_are_kept_apart_and_named(make_row: MakeRow) -> None:
    rows = [
        make_row(),
        make_row(protocol="native"),
        make_row(dataset_params={"size": 128}),
        make_row(dataset_params={"size": 256}, dataset="mtd"),
    ]
    titles = [group.title for group in groups(rows)]
    assert len(titles) == 4
    assert "synthetic, protocol native" in titles
    assert any("size=128" in title for title in titles)


def test_devices_are_kept_apart_for_costs_only(make_row: MakeRow) -> None:
    rows = [make_row(device="CPU a"), make_row(device="GPU b", seed=1)]
    assert len(groups(rows)) == 1
    titles = [group.title for group in groups(rows, TIMED_ALIKE)]
    assert ["CPU a" in titles[0], "GPU b" in titles[1]] == [True, True]


def test_settings_of_one_method_are_numbered_and_told_apart(make_row: MakeRow) -> None:
    rows = [
        make_row(params={"dimensions": 100, "sigma": 4.0}, image_auroc=0.9),
        make_row(params={"dimensions": 550, "sigma": 4.0}, image_auroc=0.8),
        make_row(params={"dimensions": 550, "sigma": 4.0}, pretrained="random", image_auroc=0.1),
    ]
    (group,) = groups(rows)
    assert list(group.variants) == ["padim #1", "padim #2", "padim #3"]
    text = compared(tabulate_metric(group, "image_auroc"))
    assert "padim #1: pretrained, dimensions=100" in text
    assert "padim #3: random, dimensions=550" in text
    assert "sigma" not in text
    assert "padim #3§" in text


def test_seeds_are_averaged_with_their_deviation(make_row: MakeRow) -> None:
    rows = [make_row(image_auroc=0.9), make_row(image_auroc=0.8, seed=1)]
    table = tabulate_metric(groups(rows)[0], "image_auroc")
    assert table.cells["padim", "weave"].text("image_auroc") == "85.0 ± 7.1"


def test_ranks_are_over_categories_that_every_method_has(make_row: MakeRow) -> None:
    rows = [*six(make_row, "padim", 0.5), *six(make_row, "cflow", 0.4)[:-1]]
    table = tabulate_metric(groups(rows)[0], "image_auroc")
    assert table.shared == ("c0", "c1", "c2", "c3", "c4")
    assert dict(zip(table.methods, table.ranks.mean(1), strict=True)) == {"padim": 1, "cflow": 2}
    text = compared(table)
    assert "over 5 categories, without c5: not measured for every method" in text
    assert table.means["padim"].text("image_auroc") == "56.0"


def test_too_few_categories_are_said(make_row: MakeRow) -> None:
    rows = [*six(make_row, "padim", 0.5)[:3], *six(make_row, "cflow", 0.4)[:3]]
    text = compared(tabulate_metric(groups(rows)[0], "image_auroc"))
    assert "3 categories measured for every method: too few to conclude" in text


def test_one_method_is_not_compared(make_row: MakeRow) -> None:
    text = compared(tabulate_metric(groups(six(make_row, "padim", 0.5))[0], "image_auroc"))
    assert "nothing to compare" in text


def test_what_no_number_of_wins_could_show_is_said(make_row: MakeRow) -> None:
    methods = ("padim", "cflow", "pyramidflow", "mean")
    rows = [row for i, m in enumerate(methods) for row in six(make_row, m, 0.1 * i)]
    said = "no pair can reach p < 0.05, even if one method wins everywhere"
    assert said in compared(tabulate_metric(groups(rows)[0], "image_auroc"))
    three = [row for row in rows if row.method != "mean"]
    text = compared(tabulate_metric(groups(three)[0], "image_auroc"))
    assert said not in text
    assert "on new categories: Friedman over 6 categories, exact: p = 0.000129" in text
    assert "on new categories: pyramidflow is better than padim, p = 0.0313" in text
    assert "ranks depend on which methods are compared" in text


def test_both_questions_are_answered_and_kept_apart(make_row: MakeRow) -> None:
    rows = [
        row
        for method, start in (("padim", 0.4), ("cflow", 0.5))
        for seed in range(3)
        for row in six(make_row, method, start + 0.01 * seed, seed=seed)[:3]
    ]
    text = compared(tabulate_metric(groups(rows)[0], "image_auroc"))
    assert "on these categories, with other seeds: cflow is better than padim by 10.0" in text
    assert "on new categories: 3 categories measured for every method: too few" in text
    once = [row for row in rows if row.seed == 0]
    text = compared(tabulate_metric(groups(once)[0], "image_auroc"))
    assert "on these categories: no test: neither image scores" in text


def test_a_verdict_against_the_means_says_in_how_many_categories(make_row: MakeRow) -> None:
    gaps = (0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07, 0.08, -0.45)
    rows = [
        make_row(method=method, category=f"c{i}", image_auroc=0.5 + gap * (method == "cflow"))
        for i, gap in enumerate(gaps)
        for method in ("padim", "cflow")
    ]
    table = tabulate_metric(groups(rows)[0], "image_auroc")
    assert table.means["cflow"].value < table.means["padim"].value
    text = compared(table)
    assert "not told apart: cflow and padim" in text
    rows = [row for row in rows if row.category != "c0"]
    more = [
        make_row(method=m, category=f"d{i}", image_auroc=0.5 + 0.001 * i * (m == "cflow"))
        for i in range(1, 9)
        for m in ("padim", "cflow")
    ]
    text = compared(tabulate_metric(groups([*rows, *more])[0], "image_auroc"))
    assert "cflow is better than padim in most categories (15 of 16), though its mean is" in text


def test_options_that_do_not_differ_are_not_in_the_title(make_row: MakeRow) -> None:
    rows = [
        make_row(protocol_fields={"resize": [256, 256], "crop": None}),
        make_row(protocol_fields={"resize": [512, 512], "crop": None}),
    ]
    assert [group.title for group in groups(rows)] == [
        "synthetic, protocol standard; resize=256 x 256",
        "synthetic, protocol standard; resize=512 x 512",
    ]


def test_versions_of_a_data_set_are_kept_apart_and_named(make_row: MakeRow) -> None:
    titles = [group.title for group in groups([make_row(), make_row(dataset_version=2)])]
    assert titles == [
        "synthetic, protocol standard; data set version=1",
        "synthetic, protocol standard; data set version=2",
    ]


def test_other_images_of_a_category_make_a_table_of_their_own(make_row: MakeRow) -> None:
    rows = [
        *six(make_row, "padim", 0.5),
        *six(make_row, "cflow", 0.4),
        make_row(category="c0", data="0ther", image_auroc=0.1, seed=0),
    ]
    main, other = groups(rows)
    assert other.title == "synthetic, protocol standard; other data: c0 0ther"
    assert other.categories == ("c0",)
    table = tabulate_metric(main, "image_auroc")
    assert table.cells["padim", "c0"].value == 0.5
    assert tabulate_metric(other, "image_auroc").cells["padim", "c0"].value == 0.1


def test_every_number_of_a_method_comes_from_its_complete_seeds(make_row: MakeRow) -> None:
    rows = [
        make_row(category="a", image_auroc=0.6),
        make_row(category="b", image_auroc=0.8),
        make_row(category="b", image_auroc=0.2, seed=1),  # lacks a
        make_row(method="cflow", category="a", image_auroc=0.5),
        make_row(method="cflow", category="b", image_auroc=0.5),
    ]
    table = tabulate_metric(groups(rows)[0], "image_auroc")
    assert table.cells["padim", "b"].text("image_auroc") == "80.0"
    assert table.means["padim"].value == pytest.approx(0.7)
    assert table.scores.tolist() == [[0.6, 0.8], [0.5, 0.5]]
    assert "padim: seed 1 does not count, lacks a" in compared(table)


def test_methods_without_a_common_seed_or_category_have_no_mean_and_no_rank(
    make_row: MakeRow,
) -> None:
    rows = [
        make_row(category="a", image_auroc=0.8),
        make_row(method="cflow", category="b", image_auroc=0.7),
    ]
    table = tabulate_metric(groups(rows)[0], "image_auroc")
    assert not table.means
    assert [table.rank(name) for name in table.methods] == [None, None]


def test_seeds_are_named_for_each_method_where_they_differ(make_row: MakeRow) -> None:
    rows = [make_row(image_auroc=0.9), make_row(image_auroc=0.8, seed=1)]
    assert "\n- seeds 0, 1\n" in compared(tabulate_metric(groups(rows)[0], "image_auroc"))
    rows.append(make_row(method="cflow", image_auroc=0.7, seed=1))
    text = compared(tabulate_metric(groups(rows)[0], "image_auroc"))
    assert "padim: seeds 0, 1; cflow: seed 1" in text


def test_a_variant_on_few_categories_does_not_collapse_the_comparison(make_row: MakeRow) -> None:
    rows = [
        *six(make_row, "padim", 0.5),
        *six(make_row, "cflow", 0.4),
        make_row(category="c0", params={"dimensions": 550}, image_auroc=0.9),
        make_row(method="pyramidflow", category="c0", pixel_auroc=0.9),
    ]
    table = tabulate_metric(groups(rows)[0], "image_auroc")
    assert table.methods == ("padim #1", "cflow")
    assert len(table.shared) == 6
    text = compared(table)
    assert "padim #2 left out: 1 of 6 categories" in text
    assert "pyramidflow left out: has no such value" in text


def test_two_methods_are_compared_on_few_categories_rather_than_not_at_all(
    make_row: MakeRow,
) -> None:
    rows = [*six(make_row, "padim", 0.5), *six(make_row, "cflow", 0.4)[:1]]
    table = tabulate_metric(groups(rows)[0], "image_auroc")
    assert table.methods == ("padim", "cflow")
    assert table.shared == ("c0",)


def test_costs_are_ranked_but_not_tested(make_row: MakeRow) -> None:
    rows = [
        row
        for i, method in enumerate(("padim", "cflow"))
        for row in six(make_row, method, 0.5, fps=10.0 + i, fps_batch=8)
    ]
    table = tabulate_metric(groups(rows, TIMED_ALIKE)[0], "fps")
    assert table.comparison is None
    assert "no test of costs" in compared(table)
    assert table.rank("cflow") == 1.0


def test_speeds_at_different_batches_name_their_batch(make_row: MakeRow) -> None:
    rows = [
        make_row(fps=100.0, fps_batch=32),
        make_row(method="cflow", fps=90.0, fps_batch=1),
    ]
    (group,) = groups(rows, TIMED_ALIKE)
    table = tabulate_metric(group, "fps")
    assert table.cells["padim", "weave"].text("fps") == "100 (batch 32)"
    assert "(batch" not in tabulate_metric(groups(rows[:1], TIMED_ALIKE)[0], "fps").cells[
        "padim", "weave"
    ].text("fps")
    assert "measured at batches 1, 32" in compared(table)


def test_quiet_rows_decide_medians_and_ranks_where_there_are_any(make_row: MakeRow) -> None:
    rows = [
        make_row(method=method, category=c, seed=seed, latency_p95_ms=ms, noisy=noisy)
        for method, quiet in (("padim", 50.0), ("cflow", 70.0))
        for c in "ab"
        for seed, (ms, noisy) in enumerate(((quiet, c == "b"), (10 * quiet, True)))
        if (method, ms) != ("padim", 500.0)
    ]
    table = tabulate_metric(groups(rows, TIMED_ALIKE)[0], "latency_p95_ms")
    assert table.means["cflow"].text("latency_p95_ms") == "70.0"
    assert table.cells["cflow", "a"].text("latency_p95_ms") == "70.0"
    assert table.cells["cflow", "b"].text("latency_p95_ms") == "385*"
    assert table.rank("padim") == 1
    text = compared(table)
    assert "p95 ms: from 1 of 4 rows of cflow, the others are noisy" in text
    assert "\n- *  step times spread" in text


def test_a_pair_that_differs_says_which_method_is_better(make_row: MakeRow) -> None:
    rows = [*six(make_row, "padim", 0.4), *six(make_row, "cflow", 0.5)]
    text = compared(tabulate_metric(groups(rows)[0], "image_auroc"))
    assert "cflow is better than padim, p = 0.0313" in text


def test_what_is_concluded_carries_the_marks_of_the_methods(make_row: MakeRow) -> None:
    rows = [
        *six(make_row, "padim", 0.4, pretrained="random"),
        *six(make_row, "cflow", 0.5, transductive=True),
    ]
    text = compared(tabulate_metric(groups(rows)[0], "image_auroc"))
    assert "cflow‡ is better than padim§, p = 0.0313" in text
    alike = [replace(row, image_auroc=0.5) for row in rows]
    text = compared(tabulate_metric(groups(alike)[0], "image_auroc"))
    assert "not told apart: padim§ and cflow‡ (p = 1.00)" in text


def test_masks_that_are_missing_or_lost_are_named_beside_pixel_metrics(make_row: MakeRow) -> None:
    row = make_row(image_auroc=0.5, pixel_auroc=0.5, n_unmasked=6, regions_lost=8, regions=458)
    (group,) = groups([row])
    text = compared(tabulate_metric(group, "pixel_auroc"))
    assert "\n- weave: 6 anomalous images without a usable mask" in text
    assert "\n- weave: 8 defect regions vanish in the resize or crop, 458 are scored" in text
    assert "weave:" not in compared(tabulate_metric(group, "image_auroc"))


def test_the_csv_has_tests_intervals_protocol_and_weights(make_row: MakeRow) -> None:
    rows = [
        *six(make_row, "padim", 0.4, protocol_fields={"crop": 224}),
        *six(make_row, "padim", 0.41, protocol_fields={"crop": 224}, seed=1),
        *six(make_row, "cflow", 0.5, protocol_fields={"crop": 224}, pretrained="random"),
        *six(make_row, "pyramidflow", 0.3, protocol_fields={"crop": 224}),
    ]
    table = tabulate_metric(groups(rows)[0], "image_auroc")
    assert table.comparison is not None
    lines = list(csv.DictReader(io.StringIO(compared(table, "csv"))))
    numbers = [line for line in lines if line["kind"] == "number"]
    assert len(numbers) == 21
    mean = next(x for x in numbers if (x["method"], x["category"]) == ("padim", "mean"))
    assert mean["interval"] == "95 % interval over seeds"
    assert {line["protocol_fields"] for line in lines} == {'{"crop":224}'}
    assert {line["weights"] for line in numbers if line["method"] == "cflow"} == {"random"}
    (friedman,) = [line for line in lines if line["kind"] == "friedman"]
    assert float(friedman["value"]) == pytest.approx(table.comparison.friedman, rel=1e-4)
    pairs = [(x["method"], x["against"]) for x in lines if x["kind"] == "wilcoxon-shaffer"]
    assert pairs == [("cflow", "padim"), ("padim", "pyramidflow"), ("cflow", "pyramidflow")]
    ranks = [x for x in numbers if x["category"] == "mean"]
    assert all(
        float(x["rank_low"]) <= float(x["mean_rank"]) <= float(x["rank_high"]) for x in ranks
    )


def test_differences_of_means_stand_in_the_csv_in_full(make_row: MakeRow) -> None:
    rows = [
        row
        for method, start in (("padim", 0.4), ("cflow", 0.51234567))
        for seed in range(2)
        for row in six(make_row, method, start + 0.01 * seed, seed=seed)
    ]
    table = tabulate_metric(groups(rows)[0], "image_auroc")
    lines = list(csv.DictReader(io.StringIO(compared(table, "csv"))))
    (line,) = [line for line in lines if line["kind"] == "difference"]
    assert (line["method"], line["against"], line["over"]) == ("cflow", "padim", "seeds")
    assert float(line["value"]) == pytest.approx(0.11234567, abs=1e-10)
    assert float(line["low"]) < float(line["value"]) < float(line["high"])
    assert float(line["p"]) < 0.05


def test_many_categories_become_the_lines_of_the_table(make_row: MakeRow) -> None:
    rows = [make_row(category=f"c{i}", image_auroc=0.9) for i in range(9)]
    table = tabulate_metric(groups(rows)[0], "image_auroc")
    assert "| category   |   padim |" in compared(table)
    assert "| method   |   c0 |" in compared(table, transpose=False)


def test_every_format_carries_numbers_and_conclusions(make_row: MakeRow) -> None:
    rows = [make_row(image_auroc=0.9), make_row(image_auroc=0.8, seed=1)]
    table = tabulate_metric(groups(rows)[0], "image_auroc")
    tex = compared(table, "tex")
    assert r"85.0 $\pm$ 7.1" in tex
    assert tex.count("rule") == 3
    assert "one method only" in tex
    page = compared(table, "html")
    assert "<table>" in page
    assert "<p>seeds 0, 1</p>" in page
    head, cell, mean = compared(table, "csv").splitlines()
    assert head.startswith("metric,place,machine,method,settings,category,value,deviation,low,high")
    assert cell.startswith(
        'image_auroc,"synthetic, protocol standard",,padim,the method\'s defaults,'
    )
    assert ",weave,0.85,0.0707" in cell
    assert ",mean,0.85," in mean


def test_a_method_with_leaking_test_images_is_shown_but_not_compared(make_row: MakeRow) -> None:
    leaky = six(make_row, "pyramidflow", 0.6, n_leaked=3, fps=1.0)
    rows = [*six(make_row, "padim", 0.5), *six(make_row, "cflow", 0.4), *leaky]
    table = tabulate_metric(groups(rows)[0], "image_auroc")
    assert table.methods == ("padim", "cflow")
    assert set(table.means) == {"padim", "cflow"}
    assert table.rank("padim") == 1
    assert table.cells["pyramidflow", "c0"].value == 0.6
    text = compared(table)
    assert "pyramidflow left out: test images are training images too" in text
    assert tabulate_metric(groups(leaky)[0], "fps").methods == ("pyramidflow",)


def test_where_every_method_has_leaking_test_images_nothing_is_compared(make_row: MakeRow) -> None:
    rows = [make_row(image_auroc=0.9, n_leaked=3), make_row(method="cflow", n_leaked=3)]
    table = tabulate_metric(groups(rows)[0], "image_auroc")
    assert (table.methods, table.shared, dict(table.means)) == ((), (), {})
    assert "no method left: nothing to compare" in compared(table)


def test_scores_that_do_not_compare_with_published_ones_say_so_and_costs_do_not(
    make_row: MakeRow,
) -> None:
    (group,) = groups([make_row(dataset="mtd", category="tile", fps=3.0)])
    warning = "Scores on mtd do not compare with published ones"
    assert warning in compared(tabulate_metric(group, "image_auroc"))
    assert warning not in compared(tabulate_metric(group, "fps"))
