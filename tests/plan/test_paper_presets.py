from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from bench.plan import discovery
from bench.plan.cells import resolve_params
from bench.plan.identity import plain
from bench.report.choice.line_rows import FITS
from bench.report.paper.matching import Matcher
from bench.report.paper.published import MEANS, PublishedNumbers
from bench.report.paper.table_files import load_table
from bench.rows.row import Row
from bench.settings.config import Settings, load_settings
from bench.settings.shipped import builtin_root

CATEGORIES = MEANS["mean"]
EIGHT_LEVELS = {"carpet", "metal_nut", "transistor"}
SVN = {"carpet", "grid", "bottle", "transistor"}
TEXTURES = {"carpet", "grid", "leather", "tile", "wood"}
PIXELS = {128: {"transistor"}, 256: {"cable", "capsule", "metal_nut", "pill"}}

FILLS = {
    ("pyramidflow-paper", "pyramidflow/table1"): 6,
    ("pyramidflow-paper", "pyramidflow/table2"): 15,
    ("pyramidflow-paper", "pyramidflow/tableS1"): 5,
    ("pyramidflow-paper", "pyramidflow/tableS2"): 10,
    ("pyramidflow-paper", "pyramidflow/table3"): 12,
    ("pyramidflow-code", "pyramidflow/table3"): 12,
    ("pyramidflow-code", "pyramidflow/table4"): 3,
    ("pyramidflow-code", "pyramidflow/table5"): 4,
    ("cflow-paper", "cflow/table3"): 15,
    ("cflow-paper", "cflow/table4"): 15,
    ("padim-paper", "padim/table3"): 15,
    ("padim-paper", "padim/table5"): 15,
    ("padim-paper", "padim/table7"): 1,
    ("patchcore-code", "pyramidflow/table4"): 3,
    ("spade-paper", "cflow/table3"): 15,
    ("spade-paper", "cflow/table4"): 15,
    ("spade-paper", "padim/table3"): 15,
    ("spade-paper", "padim/table5"): 15,
    ("spade-paper", "padim/table8"): 1,
    ("spade-paper", "pyramidflow/table3"): 12,
    ("spade-paper", "pyramidflow/table4"): 3,
    ("spade-paper", "pyramidflow/table5"): 4,
}
"""Categories of a table that a preset runs for one of its rows: all of them."""

UNPRINTED = {"patchcore-paper", "spade-code"}
"""Presets whose numbers no table prints: the other side, where paper and code disagree."""

FOREIGN = {"patchcore", "spade"}
"""Methods whose own protocol no table has: their rows are under that of the table."""

NO_TABLE = {
    "stfpm-code",
    "stfpm-paper",
    "uninformed_students-code",
    "uninformed_students-paper",
    "patchsvdd-code",
    "cutpaste-code",
    "cutpaste-paper",
    "draem-code",
    "draem-paper",
    "ae_ssim-code",
    "ae_ssim-paper",
    "anogan-code",
    "anogan-paper",
    "vtadl-code",
    "vtadl-paper",
}
"""Presets whose protocol is that of no table: rows that name them run under the table's own."""

ELSEWHERE = {
    ("csflow-code", "pyramidflow/table3"),
    ("dfr-code", "cflow/table4"),
    ("differnet-code", "cflow/table4"),
}
"""Tables of other papers, which measure a preset's fields under a protocol of their own."""


def resolved(preset: str, category: str) -> dict[str, Any]:
    method = discovery.describe("methods", preset.split("-")[0])
    return resolve_params(method, load_settings(builtin_root(), preset), {}, f"mvtec/{category}")


def test_the_code_of_pyramidflow_sets_levels_norm_and_augmentation_by_category() -> None:
    for category in CATEGORIES:
        params = resolved("pyramidflow-code", category)
        levels = 8 if category in EIGHT_LEVELS else 2 if category == "screw" else 4
        assert params["levels"] == levels
        assert params["volume_norm"] == ("svn" if category in SVN else "cvn")
        assert params["augment"] == ("flips_rot90" if category in TEXTURES else "none")
        assert params["input_size"] == 1024


def test_the_paper_of_pyramidflow_sets_only_the_norm_by_category() -> None:
    for category in CATEGORIES:
        params = resolved("pyramidflow-paper", category)
        assert params["volume_norm"] == ("svn" if category in SVN | {"zipper"} else "cvn")
        assert (params["levels"], params["augment"], params["input_size"]) == (4, "none", 256)


@pytest.mark.parametrize(("preset", "name"), FILLS)
def test_the_cells_of_a_preset_fill_the_tables_that_it_is_for(
    published: PublishedNumbers, preset: str, name: str
) -> None:
    settings = load_settings(builtin_root(), preset)
    table = load_table(name, settings, published)
    method = preset.split("-")[0]
    if method in FOREIGN:
        settings = replace(settings, run=replace(settings.run, protocol=table.protocol))
    cells = [_row(settings, table.dataset, method, category) for category in table.wanted()]
    matcher = Matcher(table, load_settings(builtin_root()))
    lines = [row for row in table.rows if row.method == method]
    fitting = [c for c in cells if any(matcher.verdict(row, c) is FITS for row in lines)]
    assert len(cells) == len(fitting) == FILLS[preset, name]
    # Each row of the table has the preset's fields but for those that it names itself.
    assert any(row.preset == preset for row in lines)


@pytest.mark.parametrize(("preset", "name"), sorted(ELSEWHERE))
def test_a_table_of_another_paper_measures_the_fields_of_a_preset(
    published: PublishedNumbers, preset: str, name: str
) -> None:
    table = load_table(name, load_settings(builtin_root()), published)
    (row,) = [row for row in table.rows if row.preset == preset]
    assert row.method == preset.split("-")[0]


def test_every_preset_of_a_paper_or_its_code_fills_some_table() -> None:
    presets = load_settings(builtin_root()).presets
    named = {name for name in presets if name.endswith(("-paper", "-code"))}
    filled = {preset for preset, _ in {*FILLS, *ELSEWHERE}}
    assert filled == named - UNPRINTED - NO_TABLE


def _row(settings: Settings, dataset: str, method: str, category: str) -> Row:
    """What `bench run --preset` would store, without its scores."""
    protocol = settings.protocol()
    plugin = discovery.describe("methods", method)
    params = resolve_params(plugin, settings, {}, f"{dataset}/{category}")
    return Row(
        cell="0",
        method=method,
        method_version=plugin.version,
        dataset=dataset,
        dataset_version=1,
        category=category,
        seed=0,
        protocol=protocol.name,
        protocol_fields=plain(protocol.identity()),
        pretrained="pretrained",
        params=plain(params),
        data="feed",
        code="beef",
    )


def test_cflow_takes_the_input_size_of_the_published_table() -> None:
    for category in CATEGORIES:
        size = next((side for side, names in PIXELS.items() if category in names), 512)
        assert resolved("cflow-paper", category)["input_size"] == size


def test_padim_takes_the_same_settings_for_every_category() -> None:
    found = [resolved("padim-paper", category) for category in CATEGORIES]
    assert all(params == found[0] for params in found)
    assert (found[0]["backbone"], found[0]["dimensions"]) == ("wide_resnet50_2.tv_in1k", 550)


@pytest.mark.parametrize(
    ("preset", "protocol"),
    [
        ("pyramidflow-code", "pyramidflow"),
        ("pyramidflow-paper", "pyramidflow"),
        ("cflow-paper", "cflow"),
        ("padim-paper", "padim"),
        ("patchcore-code", "patchcore"),
        ("patchcore-paper", "patchcore"),
        ("spade-code", "spade"),
        ("spade-paper", "spade"),
        ("ae_ssim-paper", "ae_ssim"),
        ("ae_ssim-code", "ae_ssim"),
        ("anogan-paper", "anogan"),
        ("anogan-code", "anogan"),
        ("vtadl-paper", "vtadl"),
        ("vtadl-code", "vtadl"),
    ],
)
def test_a_preset_of_a_paper_brings_its_protocol(preset: str, protocol: str) -> None:
    assert load_settings(builtin_root(), preset).run.protocol == protocol
