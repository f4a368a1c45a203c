"""Comparisons, paper tables and the site take their numbers from the same rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bench.report.choice.coverage import choose
from bench.report.choice.groups import TIMED_ALIKE, groups
from bench.report.choice.line_rows import Verdict, common_files, of_whole_seeds, one_kind
from bench.report.compare.compare import tabulate_metric
from bench.report.cost.complexity import costs
from bench.report.site.boards import boards
from bench.report.site.lines import COLUMNS
from tests.report.shown import compared

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from bench.report.site.lines import BoardLine
    from bench.rows.row import Row

    MakeRow = Callable[..., Row]


def rows_of_seeds(make_row: MakeRow, seeds: Mapping[int, str]) -> list[Row]:
    """Rows of categories that one letter names each; the score is 0.5 and a tenth of the seed."""
    return [
        make_row(category=category, seed=seed, image_auroc=0.5 + seed / 10)
        for seed, categories in seeds.items()
        for category in categories
    ]


def cells(rows: Iterable[Row]) -> set[str]:
    return {row.cell for row in rows}


def one_line(rows: list[Row]) -> BoardLine:
    (board,) = boards(rows)
    (line,) = board.lines
    return line


@pytest.mark.parametrize(
    ("found", "seeds", "categories", "dropped"),
    [
        ({0: "ab", 1: "ac", 2: "ac"}, (1, 2), "ac", {0: ("c",)}),
        ({0: "ab", 1: "ac"}, (0,), "ab", {1: ("b",)}),
        ({0: "a", 1: "ab"}, (1,), "ab", {0: ("b",)}),
        ({0: "ab", 1: "ab", 2: "a"}, (0, 1), "ab", {2: ("b",)}),
        ({0: "ab", 1: "cd", 2: "cde"}, (2,), "cde", {0: ("c", "d", "e"), 1: ("e",)}),
    ],
)
def test_comparison_table_and_site_take_the_same_seeds_and_categories(
    found: dict[int, str],
    seeds: tuple[int, ...],
    categories: str,
    dropped: dict[int, tuple[str, ...]],
    make_row: MakeRow,
) -> None:
    rows = rows_of_seeds(make_row, found)
    chosen = tabulate_metric(groups(rows)[0], "image_auroc").coverage.chosen["padim"]
    assert (chosen.seeds, tuple(chosen.rows), chosen.dropped) == (seeds, tuple(categories), dropped)
    of_table = of_whole_seeds(rows, {})
    assert sorted({row.seed for row in of_table}) == list(seeds)
    assert sorted({row.category for row in of_table}) == list(categories)
    line = one_line(rows)
    assert (line.seeds, line.categories) == (seeds, tuple(categories))
    assert {row.seed for row, _ in line.uncounted} == set(dropped)
    assert cells(line.rows) == cells(chosen.every_row) == cells(of_table)


def test_without_rows_nothing_is_chosen() -> None:
    assert choose([]).seeds == ()


def test_of_one_category_and_seed_the_newest_row_is_chosen(make_row: MakeRow) -> None:
    new, old = make_row(started="2026-02-01"), make_row(started="2026-01-01")
    assert choose([new, old]).every_row == (new,)


def test_costs_and_scores_of_a_site_line_come_from_its_seeds_alone(make_row: MakeRow) -> None:
    rows = rows_of_seeds(make_row, {0: "ab", 1: "a"})
    rows = [
        row if row.seed == 0 else make_row(category="a", seed=1, params_m=100.0) for row in rows
    ]
    line = one_line([*rows, make_row(category="b", seed=2, image_auroc=0.1)])
    assert line.values[0].text == "50.0"
    assert {value.text for value in line.values[4:]} == {"n/a"}
    assert [why for _, why in line.uncounted] == [
        "does not count: seed 1 lacks b",
        "does not count: seed 2 lacks a",
    ]


def test_a_score_that_one_run_of_a_site_line_lacks_has_no_mean(make_row: MakeRow) -> None:
    rows = rows_of_seeds(make_row, {0: "ab", 1: "a"})
    line = one_line([*rows, make_row(category="b", seed=1)])
    assert line.seeds == (0, 1)
    assert line.values[0].text == "n/a"


@pytest.mark.parametrize(
    ("found", "main"),
    [
        ({"old": ("padim", "padim", "padim"), "new": ("cflow", "pyramidflow")}, "new"),
        ({"old": ("padim", "padim", "cflow"), "new": ("padim", "cflow")}, "old"),
        ({"old": ("padim", "cflow"), "new": ("padim", "cflow")}, "new"),
    ],
)
def test_comparison_table_and_site_show_a_category_with_the_same_data(
    found: dict[str, tuple[str, ...]], main: str, make_row: MakeRow
) -> None:
    rows = [
        make_row(method=method, data=data, seed=seed, started="2026" if data == "new" else "2025")
        for data, methods in found.items()
        for seed, method in enumerate(methods)
    ]
    first, other = groups(rows)
    assert {row.data for of_method in first.variants.values() for row in of_method} == {main}
    assert "other data" in other.title
    assert common_files([[r for r in rows if r.method == m] for m in {r.method for r in rows}]) == {
        "weave": main
    }
    (board,) = boards(rows)
    usual = {r.data for line in board.lines if not line.is_other_data for r in line.rows}
    assert usual == {main}


def test_rows_with_other_weights_stand_in_no_common_line_and_are_named(make_row: MakeRow) -> None:
    old, new = "resnet18.tv_in1k@aaaa", "resnet18.tv_in1k@bbbb"
    rows = [
        make_row(weights=old, started="2025"),
        make_row(weights=new, seed=1, started="2026"),
    ]
    (group,) = groups(rows)
    assert group.settings == {"padim #1": f"weights {old}", "padim #2": f"weights {new}"}
    left: dict[str, Verdict] = {}
    assert one_kind(rows, left) == rows[1:]
    assert [verdict.reason for verdict in left.values()] == [f"weights {old}, not {new}"]
    (board,) = boards(rows)
    assert {line.label for line in board.lines} == {f"weights {old}", f"weights {new}"}


def test_weights_are_not_named_where_parameters_tell_lines_apart(make_row: MakeRow) -> None:
    rows = [
        make_row(weights=f"{name}@aaaa", params={"backbone": name})
        for name in ("resnet18", "wide_resnet50_2")
    ]
    (group,) = groups(rows)
    assert list(group.settings.values()) == ["backbone=resnet18", "backbone=wide_resnet50_2"]
    (board,) = boards(rows)
    assert not any("@" in line.label for line in board.lines)


def test_random_weights_of_several_seeds_are_one_variant(make_row: MakeRow) -> None:
    rows = [
        make_row(pretrained="random", seed=seed, weights=f"resnet18[random:{seed}]@{seed}")
        for seed in (0, 1)
    ]
    assert list(groups(rows)[0].variants) == ["padim"]
    assert one_kind(rows, {}) == rows


def test_comparison_complexity_and_site_show_the_same_median_of_a_cost(make_row: MakeRow) -> None:
    timing = {"speed": "speed-1", "fps_batch": 8, "threads": 1, "device": "CPU"}
    speeds = {("a", 0): 1.0, ("a", 1): 2.0, ("b", 0): 4.0, ("b", 1): 90.0, ("a", 2): 1000.0}
    rows = [
        make_row(category=category, seed=seed, fps=fps, image_auroc=0.9, **timing)
        for (category, seed), fps in speeds.items()
    ]
    (group,) = groups(rows, TIMED_ALIKE)
    table = tabulate_metric(group, "fps")
    assert table.means["padim"].text("fps") == "3.00"
    assert "median over categories and seeds" in compared(table)
    assert costs(group, None).lines[0].costs["FPS"] == 3
    line = one_line(rows)
    assert line.values[COLUMNS.index("fps")].number == 3
