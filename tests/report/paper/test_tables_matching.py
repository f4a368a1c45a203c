"""Which measured rows stand in a paper's table, and why others do not."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from bench.report.paper.ranking import DIFFERENCE, MEASURED, PUBLISHED
from tests.report.shown import cell, lines, written

if TYPE_CHECKING:
    from tests.report.shown import Built, RowsOf, Spec


def test_missing_cells_are_named_by_row_category_and_seed(
    spec: Spec, rows_of: RowsOf, built: Built
) -> None:
    table4 = spec("pyramidflow/table4")
    rows = [r for r in rows_of(table4) if (r.method, r.category) != ("padim", "02")]
    table = built(table4, rows)
    assert table.missing == ("PaDiM: 02; seed 0",)
    assert "bench table pyramidflow/table4 --run" in written(table, "md")
    more = built(table4, rows, seeds=(0, 1))
    assert set(more.missing) >= {
        "PaDiM: 02; seed 0",
        "PaDiM: 01, 02, 03; seed 1",
        "PyramidFlow (ResNet18): 01, 02, 03; seed 1",
    }


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"pretrained": "random"}, "random encoder weights"),
        ({"protocol": "standard"}, "protocol standard, not pyramidflow"),
        ({"protocol_fields": {"mask_size": 128}}, "mask_size = 128 in place of 256"),
        ({"dataset_params": {"strict_masks": False}}, "strict_masks = False in place of True"),
        ({"params": {"backbone": "vgg", "dimensions": 550}}, "backbone = vgg"),
        ({"params": {}}, "no parameter"),
    ],
)
def test_rows_that_do_not_belong_are_left_out_and_the_reason_is_said(
    changes: dict[str, Any], reason: str, spec: Spec, rows_of: RowsOf, built: Built
) -> None:
    table4 = spec("pyramidflow/table4")
    rows = [r for r in rows_of(table4, image_auroc=0.9, **changes) if r.method == "padim"]
    table = built(table4, rows)
    assert cell(table, "PaDiM", MEASURED, "01").text == ""
    assert len(table.left_out) == 1
    assert table.left_out[0].startswith("3 rows of padim: ")
    assert reason in table.left_out[0]


def test_rows_of_another_version_are_not_mixed_with_the_newest(
    spec: Spec, rows_of: RowsOf, built: Built
) -> None:
    table4 = spec("pyramidflow/table4")
    old = rows_of(table4, image_auroc=0.5)
    (first,) = [row for row in old if (row.method, row.category) == ("padim", "01")]
    new = [replace(first, cell=f"f{first.cell[1:]}", method_version=2, image_auroc=0.9)]
    table = built(table4, [*old, *new])
    label = "PaDiM"
    assert cell(table, label, MEASURED, "01").text == "90.0"
    assert cell(table, label, MEASURED, "02").text == ""
    assert any("version 1 of the method, not 2" in text for text in table.left_out)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"pretrained": "file:0123456789ab"}, "weights file:0123456789ab, not pretrained"),
        ({"kind": "submitted"}, "submitted, not measured"),
        ({"dataset_version": 0}, "version 0 of the data set, not 1"),
        ({"seed": 7}, "seed 7 was not asked for"),
        ({"data": "cafe", "seed": 1}, "other files of 01: data cafe, not feed"),
    ],
)
def test_what_must_not_be_averaged_is_left_out_for_the_reason_that_holds(
    changes: dict[str, Any], reason: str, spec: Spec, rows_of: RowsOf, built: Built
) -> None:
    table4 = spec("pyramidflow/table4")
    rows = rows_of(table4, image_auroc=0.9)
    odd = next(r for r in rows if (r.method, r.category) == ("padim", "01"))
    odd = replace(odd, **{"cell": "odd", "image_auroc": 0.1, **changes})
    table = built(table4, [*rows, odd], (0, 1))
    assert cell(table, "PaDiM", MEASURED, "01").text == "90.0"
    assert table.left_out == (f"1 row of padim: {reason}",)


def test_the_lines_of_a_table_come_from_the_same_files(
    spec: Spec, rows_of: RowsOf, built: Built
) -> None:
    table4 = spec("pyramidflow/table4")
    rows = [
        replace(r, data="cafe" if r.method == "padim" else "feed", started=r.method)
        for r in rows_of(table4, image_auroc=0.9)
    ]
    table = built(table4, rows)
    assert cell(table, "PaDiM", MEASURED, "01").text == ""
    assert cell(table, "PyramidFlow (ResNet18)", MEASURED, "01").text == "90.0"
    assert any("other files of 01" in text for text in table.left_out)


def test_cells_and_mean_of_a_line_come_from_the_same_seeds(
    spec: Spec, rows_of: RowsOf, built: Built
) -> None:
    table4 = spec("pyramidflow/table4")
    once = rows_of(table4, image_auroc=0.9)
    again = [replace(r, cell=f"f{r.cell[1:]}", seed=1, image_auroc=0.8) for r in once]
    again = [r for r in again if (r.method, r.category) != ("padim", "02")]
    table = built(table4, [*once, *again], (0, 1))
    assert [e.text for e in lines(table)["PaDiM", MEASURED].entries] == ["90.0"] * 4
    label = "PyramidFlow (ResNet18)"
    assert [e.text for e in lines(table)[label, MEASURED].entries] == ["85.0"] * 4
    assert "2 rows of padim: seed 1 lacks 02" in table.left_out
    assert table.caption[1].endswith("seeds by line")
    assert any(t.startswith("Measured PaDiM: ") and t.endswith("seed 0") for t in table.caption)
    assert any(t.startswith(f"Measured {label}") and t.endswith("0, 1") for t in table.caption)


def test_only_the_seeds_that_were_asked_for_enter_the_numbers(
    spec: Spec, rows_of: RowsOf, built: Built
) -> None:
    table4 = spec("pyramidflow/table4")
    once = rows_of(table4, image_auroc=0.9)
    again = [replace(r, cell=f"f{r.cell[1:]}", seed=1, image_auroc=0.8) for r in once]
    for seeds, text in ((), "90.0"), ((0,), "90.0"), ((1,), "80.0"), ((0, 1), "85.0"):
        table = built(table4, [*once, *again], seeds)
        assert cell(table, "PaDiM", MEASURED, "mean").text == text


def test_parameters_that_a_row_does_not_know_had_their_default(
    spec: Spec, rows_of: RowsOf, built: Built
) -> None:
    table4 = spec("pyramidflow/table4")
    rows = []
    for row in rows_of(table4, image_auroc=0.9):
        params = dict(row.params)
        if row.method in ("padim", "spade", "patchcore"):  # whose presets name no batch
            params.pop("batch")
        rows.append(replace(row, params={**params, "of_the_future": 1}))
    assert built(table4, rows).missing == ()


def test_a_row_without_a_random_choice_needs_one_seed(
    spec: Spec, rows_of: RowsOf, built: Built
) -> None:
    table2 = spec("padim/table2")
    assert [len(table2.seeds_of(row)) for row in table2.rows if row.method] == [10, 10, 1]
    rows = rows_of(table2, pixel_auroc=0.9, aupro_30=0.9)
    table = built(table2, rows)
    assert table.missing == ()
    assert any("Measured all 448" in text and "seed 0" in text for text in table.caption)
    asked = built(table2, rows, (0, 1)).missing
    assert asked == ("all 448: all 15 categories; seed 1",)


def test_nothing_is_subtracted_from_a_number_that_was_made_otherwise(
    spec: Spec, rows_of: RowsOf, built: Built
) -> None:
    table4 = spec("cflow/table4")
    table = built(
        table4, rows_of(table4, image_auroc=0.9, pixel_auroc=0.9, published={"aupro_cflow": 0.9})
    )
    assert cell(table, "PaDiM", DIFFERENCE, "image AUROC (%)").text == ""
    assert cell(table, "PaDiM", DIFFERENCE, "pixel AUROC (%)").text
    assert cell(table, "CFLOW-AD (WRN50)", DIFFERENCE, "image AUROC (%)").text
    (note,) = cell(table, "PaDiM", PUBLISHED, "image AUROC (%)").notes
    text = "printed with EfficientNet-B5, measured with WRN50: no difference"
    assert dict(table.footnotes)[note] == text
