"""Papers' tables: published numbers beside measured ones, and what is said of them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from bench.plan import discovery
from bench.report.paper.published import MEANS, PublishedNumber, matches
from bench.report.paper.ranking import DIFFERENCE, MEASURED, ONLY, PUBLISHED
from bench.report.paper.table_files import load_table, read_table, table_files
from tests.report.shown import cell, lines, written

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.report.paper.published import PublishedNumbers
    from bench.report.paper.table_spec import TableSpec
    from bench.settings.config import Settings
    from tests.report.shown import Built, RowsOf, Spec


def test_every_number_that_a_paper_prints_is_shown_in_its_row_and_column(
    settings: Settings, published: PublishedNumbers, built: Built
) -> None:
    files = table_files(settings.project)
    assert len(files) == 22
    changes = 0
    for file in files.values():
        spec = read_table(file, settings, published)
        table = built(spec)
        assert all(len(x.entries) == len(s.columns) for s in table.sections for x in s.lines)
        for number in published.of_table(spec.paper, spec.table):
            places = list(_places_of(number, spec))
            assert places, number
            for label, metric, column in places:
                section = [s.title for s in table.sections].index("" if column == "" else metric)
                kind = PUBLISHED if (label, PUBLISHED) in lines(table, section) else ONLY
                entry = cell(table, label, kind, column or metric, section)
                if number.metric.endswith("_delta"):
                    changes += 1
                    assert entry.change == number.value, number
                else:
                    assert (entry.text, entry.std) == (number.value, number.std), number
    assert changes == 54


def _places_of(number: PublishedNumber, spec: TableSpec) -> Iterator[tuple[str, str, str]]:
    """Label of the row, of the metric, and column (empty where metrics are the columns)."""
    for row in spec.rows:
        for metric in spec.metrics:
            selector = {"dataset": spec.dataset, **metric.where, **row.published}
            name = number.metric.removesuffix("_delta")
            if row.published and name == metric.published and matches(number, selector):
                yield row.label, metric.label, "" if spec.layout == "metrics" else number.category


def test_difference_is_measured_minus_published(spec: Spec, rows_of: RowsOf, built: Built) -> None:
    table4 = spec("pyramidflow/table4")
    table = built(table4, rows_of(table4, image_auroc=0.9))
    assert cell(table, "PaDiM", PUBLISHED, "01").text == "99.8"
    assert cell(table, "PaDiM", MEASURED, "01").text == "90.0"
    assert cell(table, "PaDiM", DIFFERENCE, "01").text == "-9.8"
    assert cell(table, "PaDiM", DIFFERENCE, "mean").text == "-3.7"
    assert table.missing == ()


def test_rows_without_a_method_are_published_only(spec: Spec, built: Built) -> None:
    table = built(spec("padim/table3"))
    kinds = {label: kind for label, kind in lines(table) if kind != MEASURED}
    assert kinds["AE-SSIM"] == ONLY
    assert kinds["PaDiM (ResNet18, Rd100)"] == PUBLISHED


def test_a_mean_is_over_its_own_set_and_absent_when_one_category_is(
    spec: Spec, rows_of: RowsOf, built: Built
) -> None:
    table3 = spec("pyramidflow/table3")
    members = MEANS["mean_registered12"]
    assert set(table3.wanted()) == set(members)
    rows = rows_of(table3)
    scored = [replace(r, pixel_auroc=0.5 + 0.01 * members.index(r.category)) for r in rows]
    table = built(table3, scored)
    mean = cell(table, "PaDiM (WRN50)", MEASURED, "mean_registered12")
    assert mean.number == pytest.approx(55.5)
    partial = built(table3, [r for r in scored if r.category != "pill"])
    assert cell(partial, "PaDiM (WRN50)", MEASURED, "mean_registered12").text == ""


def test_seeds_give_mean_and_deviation_and_one_seed_none(
    spec: Spec, rows_of: RowsOf, built: Built
) -> None:
    table4 = spec("pyramidflow/table4")
    once = rows_of(table4, image_auroc=0.9)
    again = [replace(r, cell=f"f{r.cell[1:]}", seed=1, image_auroc=0.8) for r in once]
    one = cell(built(table4, once), "PaDiM", MEASURED, "mean")
    two = cell(built(table4, [*once, *again], (0, 1)), "PaDiM", MEASURED, "mean")
    assert (one.text, one.std) == ("90.0", "")
    assert (two.text, two.std) == ("85.0", "7.1")


def test_the_caption_names_the_settings_and_a_file_of_weights_of_each_measured_row(
    spec: Spec, rows_of: RowsOf, built: Built
) -> None:
    table3 = spec("cflow/table3")
    rows = rows_of(table3, pixel_auroc=0.9, pretrained="file:0123456789ab")
    caption = built(table3, rows).caption
    (resnet,) = [text for text in caption if text.startswith("Measured CFLOW-AD (ResNet18)")]
    assert "backbone resnet18.tv_in1k" in resnet
    assert "input_size 512 (256: cable, capsule, hazelnut, metal_nut, pill; 128: trans" in resnet
    assert "couplings" not in resnet
    assert "; weights file:0123456789ab" in resnet


def test_oracle_epochs_and_transductive_scores_are_marked_and_explained(
    spec: Spec, rows_of: RowsOf, built: Built
) -> None:
    table2 = spec("cflow/table2")
    rows = rows_of(table2, epochs=25, last_epoch={"a": 1}, transductive=True)
    table = built(table2, rows)
    label = "WRN50 CFLOW CL8 PL3 256"
    assert lines(table)[label, MEASURED].marks == "†‡"
    assert lines(table)[label, PUBLISHED].marks == "†‡"
    assert {"†", "‡"} <= {mark for mark, _ in table.footnotes}


def test_lines_that_show_costs_only_have_no_mark_on_scores(
    spec: Spec, rows_of: RowsOf, built: Built
) -> None:
    table6 = spec("cflow/table6")
    rows = rows_of(table6, epochs=25, last_epoch={"a": 1}, transductive=True, fps_b1=20.0)
    table = built(table6, rows)
    assert {x.marks for x in table.sections[0].lines} == {""}
    assert not {"†", "‡"} & {mark for mark, _ in table.footnotes}


def test_submitted_rows_are_marked_and_the_mark_is_explained(
    spec: Spec, rows_of: RowsOf, built: Built
) -> None:
    table4 = spec("pyramidflow/table4")
    table = built(table4, rows_of(table4, kind="submitted"))
    assert lines(table)["PaDiM", MEASURED].marks == "◊"
    assert dict(table.footnotes)["◊"].startswith("submitted: ")
    for format in ("md", "tex", "html", "csv"):
        assert "submitted: " in written(table, format)


def test_an_undefined_score_says_why_and_its_mean_is_undefined_too(
    spec: Spec, rows_of: RowsOf, built: Built
) -> None:
    table4 = spec("pyramidflow/table4")
    rows = [
        replace(r, image_auroc=None, undefined={"image_auroc": "no normal test image"})
        if (r.method, r.category) == ("padim", "02")
        else r
        for r in rows_of(table4, image_auroc=0.9)
    ]
    table = built(table4, rows)
    for column in ("02", "mean"):
        entry = cell(table, "PaDiM", MEASURED, column)
        assert (entry.text, entry.place) == ("n/a", 0)
        (note,) = entry.notes
        assert dict(table.footnotes)[note] == (
            "image AUROC of 02 is not defined: no normal test image"
        )
    assert cell(table, "PaDiM", MEASURED, "01").text == "90.0"
    assert cell(table, "PaDiM", DIFFERENCE, "02").text == ""


def test_leaks_and_lost_regions_are_said(spec: Spec, rows_of: RowsOf, built: Built) -> None:
    table4 = spec("pyramidflow/table4")
    rows = rows_of(table4, n_leaked=3, regions=10, regions_lost=2)
    for format in ("md", "tex", "html", "csv"):
        text = written(built(table4, rows), format)
        assert "01: LEAK: 3 test images are training images too" in text
        assert "01: 2 defect regions vanish in the resize or crop, 10 are scored" in text


def test_differences_have_the_decimals_of_their_metric_and_no_negative_zero(
    spec: Spec, rows_of: RowsOf, built: Built
) -> None:
    table4 = spec("cflow/table4")
    table = built(table4, rows_of(table4, pixel_auroc=0.98618))
    gap = cell(table, "CFLOW-AD (WRN50)", DIFFERENCE, "pixel AUROC (%)")
    assert gap.text == "+0.00"
    table = built(table4, rows_of(table4, pixel_auroc=0.98))
    assert cell(table, "CFLOW-AD (WRN50)", DIFFERENCE, "pixel AUROC (%)").text == "-0.62"


def test_measured_changes_are_against_what_the_paper_compares_with(
    spec: Spec, rows_of: RowsOf, built: Built
) -> None:
    table2 = spec("pyramidflow/table2")
    rows = rows_of(table2)
    scored = [
        replace(r, pixel_auroc=0.8 if r.params.get("fourier_loss") is False else 0.9) for r in rows
    ]
    table = built(table2, scored)
    assert cell(table, "baseline", MEASURED, "mean").change == "+0.0"
    assert cell(table, "IV. w/o Fourier loss", MEASURED, "mean").change == "-10.0"
    assert cell(table, "IV. w/o Fourier loss", PUBLISHED, "mean").change == "-2.6"
    table1 = spec("pyramidflow/table1")
    scored = [
        replace(r, pixel_auroc=0.8 if r.params.get("volume_norm") == "svn" else 0.9)
        for r in rows_of(table1)
    ]
    table = built(table1, scored)
    assert cell(table, "CVN (FNF)", MEASURED, "pill").change == "+10.0"
    assert cell(table, "SVN (FNF)", MEASURED, "pill").change == "+0.0"
    half = [r for r in scored if r.params.get("volume_norm") == "svn"]
    table = built(table1, half)
    assert cell(table, "SVN (FNF)", MEASURED, "pill").change == ""


def test_a_row_without_measured_rows_keeps_its_line_beside_several_machines(
    spec: Spec, rows_of: RowsOf, built: Built
) -> None:
    table6 = spec("cflow/table6")
    rows = [
        replace(r, device=f"{r.method} machine")
        for r in rows_of(table6, fps_b1=20.0)
        if "mobilenet" not in r.texts["params"]
    ]
    table = built(table6, rows)
    assert ("CFLOW-AD (MobileNetV3L)", MEASURED) in lines(table)


def test_devices_are_kept_apart_and_speeds_are_not_subtracted(
    spec: Spec, rows_of: RowsOf, built: Built
) -> None:
    table6 = spec("cflow/table6")
    rows = rows_of(table6, fps_b1=20.0, encoder_ms=10.0, state_mb=900.0, speed="speed-1")
    on_gpu = [
        replace(r, cell=f"f{r.cell[1:]}", seed=1, device="GPU test", fps_b1=200.0) for r in rows
    ]
    rows = [replace(r, device="CPU test") for r in rows]
    table = built(table6, [*rows, *on_gpu], seeds=(0, 1))
    label = "CFLOW-AD (WRN50)"
    assert cell(table, label, "measured A", "FPS at 256").text == "20.0"
    assert cell(table, label, "measured B", "FPS at 256").text == "200"
    assert cell(table, "encoder only (WRN50)", "measured A", "FPS at 256").text == "100"
    assert any("CPU test" in text for text in table.caption)
    assert any("GPU test" in text for text in table.caption)
    assert cell(table, label, DIFFERENCE, "FPS at 256").text == ""
    assert cell(table, label, DIFFERENCE, "size MVTec MB").text == "-47.0"


def test_the_caption_names_both_protocols(spec: Spec, built: Built) -> None:
    table = built(spec("pyramidflow/table3"))
    assert table.caption[0].startswith("Published: ")
    assert "protocol pyramidflow (resize method" in table.caption[1]
    for format in ("md", "tex", "html"):
        assert "oracle" in written(table, format)


def test_a_table_of_memory_does_not_say_that_timings_are_rough(
    spec: Spec, rows_of: RowsOf, built: Built
) -> None:
    figure5 = spec("pyramidflow/figure5")
    rows = rows_of(figure5, fit_mb=900.0, speed="brief", device="CPU test")
    table = built(figure5, rows, seeds=figure5.seeds)
    lines = [line for section in table.sections for line in section.lines]
    measured = [line for line in lines if line.kind.startswith("measured")]
    assert any(entry.text for line in measured for entry in line.entries)
    assert not any("¶" in line.marks for line in measured)


@pytest.mark.parametrize(
    "name",
    ["pyramidflow/table3", "pyramidflow/table4", *(f"cflow/table{n}" for n in range(1, 7))],
)
def test_no_row_of_the_two_papers_is_without_a_method(
    name: str, settings: Settings, published: PublishedNumbers
) -> None:
    table = load_table(name, settings, published)
    installed = discovery.sources("methods")
    assert table.rows
    for row in table.rows:
        assert row.method in installed, row.label
