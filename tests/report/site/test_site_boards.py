"""What stands in one table, in one line, and what is best."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.report.choice.groups import groups
from bench.report.site.boards import Board, boards
from bench.report.site.lines import COLUMNS, BoardLine
from bench.report.site.names import PRIORS, backbone, prior, protocol_words, slug
from bench.report.site.plugins import Plugins, load_plugins
from bench.settings.protocol import PROTOCOLS, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.report.site.printed import Printer
    from bench.rows.row import Row

    SiteRow = Callable[..., Row]

CATEGORIES = ("carpet", "grid", "tile")


def one_board(rows: list[Row]) -> Board:
    found = boards(rows)
    assert len(found) == 1
    return found[0]


def texts(line: BoardLine) -> dict[str, str]:
    return {name: value.text for name, value in zip(COLUMNS, line.values, strict=True)}


def test_protocols_that_share_a_name_are_kept_apart_and_named_by_what_differs(
    site_row: SiteRow,
) -> None:
    other = replace(PROTOCOLS["standard"], crop=224).identity()
    rows = [site_row(), site_row(protocol_fields=other)]
    found = boards(rows)
    assert sorted(board.title for board in found) == ["standard (crop 224)", "standard (crop none)"]
    assert len({board.anchor for board in found}) == 2


def test_options_of_a_data_set_are_kept_apart(site_row: SiteRow) -> None:
    rows = [site_row(dataset_params={"size": size}) for size in (128, 256)]
    found = [[(p.name, p.text) for p in board.options] for board in boards(rows)]
    assert found == [[("size", "128")], [("size", "256")]]


def test_rows_that_comparisons_keep_apart_are_on_boards_of_their_own(site_row: SiteRow) -> None:
    old, new = site_row(), site_row(dataset_version=site_row().dataset_version + 1)
    assert len(groups([old, new])) == 2
    titles = [board.title for board in boards([old, new])]
    assert titles == [f"standard (data set version {row.dataset_version})" for row in (old, new)]


def test_a_row_from_before_a_field_was_added_stands_with_the_others(site_row: SiteRow) -> None:
    fields, options = Protocol("standard").identity(), {"bad": 16, "size": 256}
    new = site_row(
        dataset="synthetic",
        category="weave",
        protocol_fields=fields,
        dataset_params=options,
        params={"sigma": 4.0, "dimensions": 100},
    )
    fields.pop("epoch")
    older = replace(
        new,
        cell="f" * 12,
        schema=1,
        category="stone",
        protocol_fields=fields,
        dataset_params={"bad": 16},
        params={"dimensions": 100},
    )
    other = replace(new, cell="e" * 12, params={"dimensions": 50})
    board = one_board([new, older])
    assert [line.categories for line in board.all_lines] == [("stone", "weave")]
    (group,) = groups([new, older])
    assert group.place == "synthetic, protocol standard"
    assert list(group.variants) == ["padim"]
    (group,) = groups([new, older, other])
    assert group.settings == {"padim #1": "dimensions=100", "padim #2": "dimensions=50"}


def test_options_are_at_their_default_only_where_that_version_of_the_data_set_is_known(
    site_row: SiteRow, printer: Printer
) -> None:
    options = {"size": 128, "train": 24, "keep_clean": False, "gone": 1}
    row = site_row(dataset="synthetic", category="weave", dataset_params=options)
    (board,) = boards([row], load_plugins([row], printer.published))
    found = {p.name: (p.text, p.default, p.is_default) for p in board.options}
    assert found == {
        "gone": ("1", None, False),
        "keep_clean": ("false", "false", True),
        "size": ("128", "256", False),
        "train": ("24", "24", True),
    }
    older = replace(row, dataset_version=0)
    (board,) = boards([older], load_plugins([older], printer.published))
    assert not any(p.is_default for p in board.options)


@pytest.mark.parametrize(
    "change",
    [
        {"device": "CUDA"},
        {"method_version": 2},
        {"kind": "submitted"},
        {"pretrained": "file:abc", "weights": "resnet18.tv_in1k@abc"},
    ],
)
def test_what_is_not_comparable_is_a_line_of_its_own(
    site_row: SiteRow, change: dict[str, Any]
) -> None:
    assert len(one_board([site_row(), site_row(**change)]).lines) == 2


def test_parameters_set_by_category_are_one_configuration_that_says_so(site_row: SiteRow) -> None:
    rows = [
        site_row(category=category, params={"levels": 8 if category == "tile" else 4})
        for category in CATEGORIES
    ]
    (line,) = one_board(rows).lines
    assert line.complete
    assert line.label == "levels by category"


def test_parameters_that_share_a_category_are_two_lines_named_by_what_differs(
    site_row: SiteRow,
) -> None:
    rows = [
        site_row(category=c, params={"levels": levels, "batch": 32})
        for c in CATEGORIES
        for levels in (4, 8)
    ]
    labels = {line.label for line in one_board(rows).lines}
    assert labels == {"levels 4", "levels 8"}


def test_a_set_of_parameters_joins_the_one_from_which_it_differs_least(site_row: SiteRow) -> None:
    near = {"levels": 4, "kernel": 7, "augment": "none"}
    far = {"levels": 2, "kernel": 3, "augment": "flips"}
    rows = [
        site_row(category=c, params=params) for c in ("carpet", "grid") for params in (near, far)
    ]
    rows.append(site_row(category="tile", params={**near, "levels": 8}))
    complete = [line for line in one_board(rows).lines if line.complete]
    assert [line.first.params["kernel"] for line in complete] == [7]


def test_random_weights_of_several_seeds_are_one_line_apart_from_the_others(
    site_row: SiteRow,
) -> None:
    random = [
        site_row(pretrained="random", seed=seed, weights=f"resnet18.tv_in1k[random:{seed}]@{seed}")
        for seed in (0, 1)
    ]
    board = one_board([*random, site_row()])
    assert [line.seeds for line in board.random] == [(0, 1)]
    assert [line.first.pretrained for line in board.lines] == ["none"]


def test_scores_are_a_mean_over_categories_then_mean_and_deviation_over_seeds(
    site_row: SiteRow,
) -> None:
    values = {("carpet", 0): 0.8, ("grid", 0): 0.9, ("carpet", 1): 0.9, ("grid", 1): 1.0}
    rows = [site_row(category=c, seed=s, image_auroc=v) for (c, s), v in values.items()]
    (line,) = one_board(rows).lines
    assert texts(line)["image_auroc"] == "90.0 ± 7.1"


def test_a_seed_that_lacks_a_category_does_not_enter_the_mean(site_row: SiteRow) -> None:
    rows = [site_row(category=c, image_auroc=0.9) for c in CATEGORIES]
    rows.append(site_row(seed=1, image_auroc=0.1))
    (line,) = one_board(rows).lines
    assert line.seeds == (0,)
    assert texts(line)["image_auroc"] == "90.0"


def test_a_line_that_lacks_categories_is_last_and_never_best(site_row: SiteRow) -> None:
    rows = [
        site_row(category=c, method=method, image_auroc=score)
        for c in CATEGORIES
        for method, score in (("padim", 0.9), ("cflow", 0.8))
    ]
    rows.append(site_row(method="partial", image_auroc=1.0))
    lines = one_board(rows).lines
    assert [line.first.method for line in lines] == ["padim", "cflow", "partial"]
    assert [line.values[0].best for line in lines] == [True, False, False]


def test_equal_as_printed_is_equally_best(site_row: SiteRow) -> None:
    rows = [site_row(image_auroc=0.9001), site_row(method="cflow", image_auroc=0.9004)]
    assert [line.values[0].best for line in one_board(rows).lines] == [True, True]


def test_a_single_line_is_not_called_best(site_row: SiteRow) -> None:
    (line,) = one_board([site_row()]).lines
    assert not any(value.best for value in line.values)


def test_an_undefined_score_is_not_a_number(site_row: SiteRow) -> None:
    (line,) = one_board([site_row(image_auroc=None)]).lines
    assert line.values[0].text == "n/a"
    assert line.values[0].number is None


def test_speeds_under_different_conditions_are_not_averaged(site_row: SiteRow) -> None:
    timing: dict[str, Any] = {"speed": "speed-1", "fps_batch": 8, "params_m": 2.0}
    rows = [site_row(category=c, fps=10.0 + i, **timing) for i, c in enumerate(CATEGORIES)]
    assert texts(one_board(rows).lines[0])["fps"] == "11.0"
    rows[0] = replace(rows[0], threads=4)
    shown = texts(one_board(rows).lines[0])
    assert shown["fps"] == "mixed"
    assert shown["params_m"] == "2.00"


def test_quiet_runs_decide_and_a_speed_of_noisy_ones_alone_is_marked(site_row: SiteRow) -> None:
    timing: dict[str, Any] = {"speed": "speed-1", "fps_batch": 8}
    rows = [
        site_row(category=c, fps=fps, noisy=c != "tile", **timing)
        for c, fps in zip(CATEGORIES, (3.0, 5.0, 10.0), strict=True)
    ]
    (line,) = one_board(rows).lines
    assert texts(line)["fps"] == "10.0"
    assert line.timing_marks
    assert texts(one_board(rows[:2]).lines[0])["fps"] == "4.00*"


def test_memory_that_was_read_in_two_ways_is_not_averaged(site_row: SiteRow) -> None:
    rows = [
        site_row(category=c, memory="anonymous", infer_mb=mb, fps=10.0, params_m=2.0)
        for c, mb in zip(CATEGORIES, (130.0, 132.0, 171.0), strict=True)
    ]
    assert texts(one_board(rows).lines[0])["infer_mb"] == "132"
    rows[2] = replace(rows[2], memory="resident")
    shown = texts(one_board(rows).lines[0])
    assert [shown[name] for name in ("infer_mb", "fps", "params_m")] == ["mixed", "10.0", "2.00"]


def test_of_one_category_and_seed_the_newest_row_counts_and_the_other_is_kept(
    site_row: SiteRow,
) -> None:
    old = site_row(image_auroc=0.5, commit="old")
    new = site_row(image_auroc=0.6, commit="new", started="2026-02-01T00:00:00+00:00")
    (line,) = one_board([new, old]).lines
    assert (line.rows, line.older) == ((new,), (old,))


def test_the_standard_protocol_comes_first(site_row: SiteRow) -> None:
    names = ("pyramidflow", "cflow", "standard")
    found = boards([site_row(protocol=name) for name in names])
    assert [board.title for board in found] == ["standard", "cflow", "pyramidflow"]


def test_a_protocol_of_a_paper_shows_aupro_as_the_paper_defines_it(site_row: SiteRow) -> None:
    published = {"aupro_pyramidflow": 0.875}
    (line,) = one_board([site_row(protocol="pyramidflow", published=published)]).lines
    assert texts(line)["aupro_printed"] == "87.5"
    (plain,) = one_board([site_row()]).lines
    assert texts(plain)["aupro_printed"] == ""


@pytest.mark.parametrize(
    ("weights", "pretrained", "expected"),
    [
        ("none", "none", "none"),
        ("resnet18.tv_in1k@0123", "pretrained", "ImageNet"),
        ("wide_resnet50_2.racm_in1k@0123", "pretrained", "ImageNet"),
        ("tf_efficientnet_b5.ns_jft_in1k@0123", "pretrained", "extra data"),
        ("vit_base_patch14_dinov2.lvd142m@0123", "pretrained", "extra data"),
        ("convnext_tiny.in12k_ft_in1k@0123", "pretrained", "extra data"),
        ("resnet18.tv_in1k@01, vit.clip_laion2b@02", "pretrained", "extra data"),
        ("resnet18.tv_in1k[random:7]@0123", "random", "none"),
        ("resnet18.tv_in1k@0123", "file:0123", "not stated"),
    ],
)
def test_the_prior_is_read_from_the_tag_of_the_weights(
    site_row: SiteRow, weights: str, pretrained: str, expected: str
) -> None:
    assert prior(site_row(weights=weights, pretrained=pretrained)) == expected
    assert expected in PRIORS


def test_backbones_have_the_names_that_papers_use(site_row: SiteRow) -> None:
    assert backbone(site_row(weights="wide_resnet50_2.tv_in1k@01")) == "WRN50"
    assert backbone(site_row(weights="some_net.in1k@01, resnet18.x[random:1]@2")) == (
        "some_net, ResNet18"
    )


def test_every_field_of_a_protocol_is_in_its_words() -> None:
    words = protocol_words(PROTOCOLS["padim"].identity())
    assert words == (
        "shorter side 256, lanczos; centre crop 224; masks at the input's size, nearest; "
        "image score: maximum; last epoch"
    )
    assert "training = unified" in protocol_words({"training": "unified"})


@given(st.text(), st.text())
def test_file_names_are_plain_and_different_for_different_texts(a: str, b: str) -> None:
    allowed = set("abcdefghijklmnopqrstuvwxyz0123456789-_")
    assert slug(a)
    assert set(slug(a)) <= allowed
    assert (slug(a) == slug(b)) == (a == b)


def test_a_line_names_what_is_not_the_default_of_its_method(
    site_row: SiteRow, printer: Printer
) -> None:
    params = {"backbone": "wide_resnet50_2.tv_in1k", "sigma": 4.0}
    rows = [site_row(params=params)]
    (board,) = boards(rows, load_plugins(rows, printer.published))
    assert board.lines[0].label == "backbone wide_resnet50_2.tv_in1k"
    older = [replace(rows[0], method_version=0)]
    (board,) = boards(older, load_plugins(older, printer.published))
    assert board.lines[0].label == ""  # the defaults of that version are unknown


def test_a_line_lacks_the_categories_that_nobody_measured(
    site_row: SiteRow, printer: Printer
) -> None:
    rows = [
        site_row(dataset="btad", category=c, method=m, image_auroc=score)
        for c in ("01", "02")
        for m, score in (("padim", 0.9), ("cflow", 0.8))
    ]
    (board,) = boards(rows, load_plugins(rows, printer.published))
    assert board.categories == ("01", "02", "03")
    assert board.measured == ("01", "02")
    assert {line.coverage for line in board.lines} == {"2 of 3"}
    assert not any(line.is_comparable for line in board.lines)
    assert not any(value.best for line in board.lines for value in line.values)


def test_a_category_that_the_data_set_lacks_greys_only_the_line_that_has_it(
    site_row: SiteRow, printer: Printer
) -> None:
    rows = [
        site_row(dataset="btad", category=c, method=m)
        for m, categories in (("padim", ("01", "02", "03")), ("odd", ("01", "02", "03", "04")))
        for c in categories
    ]
    (board,) = boards(rows, load_plugins(rows, printer.published))
    found = {line.first.method: (line.coverage, line.is_comparable) for line in board.lines}
    assert found == {"padim": ("3 of 3", True), "odd": ("3 of 3 and 1 other", False)}


def test_categories_that_only_papers_name_are_known_too(
    site_row: SiteRow, printer: Printer
) -> None:
    row = site_row(dataset="mvtec")
    plugins = replace(load_plugins([row], printer.published), datasets={})
    assert len(plugins.categories("mvtec")) == 15
    assert Plugins().categories("mvtec") == frozenset()


def test_options_of_another_version_of_a_data_set_leave_its_categories_unknown(
    site_row: SiteRow, printer: Printer
) -> None:
    row = site_row(dataset="mtd", category="tile", dataset_params={"gone": 1})
    plugins = load_plugins([row], printer.published)
    assert plugins.categories("mtd", row.dataset_params) == frozenset()


def test_other_data_is_another_line_never_a_newer_run(site_row: SiteRow) -> None:
    old = site_row(image_auroc=0.9, data="a")
    new = site_row(image_auroc=0.95, data="b", started="2026-02-01T00:00:00+00:00")
    peer = site_row(image_auroc=0.8, data="a", method="cflow")
    lines = one_board([old, new, peer]).lines
    assert [(line.rows, line.older) for line in lines] == [((r,), ()) for r in (old, peer, new)]
    assert [line.label for line in lines] == ["", "", "other test data"]
    assert [line.values[0].best for line in lines] == [True, False, False]


def test_a_line_with_leaking_test_images_is_marked_last_and_never_best(site_row: SiteRow) -> None:
    rows = [
        site_row(method="leaky", image_auroc=0.99, n_leaked=3),
        site_row(method="padim", image_auroc=0.9),
        site_row(method="cflow", image_auroc=0.8),
    ]
    lines = one_board(rows).lines
    assert [line.first.method for line in lines] == ["padim", "cflow", "leaky"]
    assert [line.values[0].best for line in lines] == [True, False, False]
    assert lines[2].marks["!"].startswith("leak")
