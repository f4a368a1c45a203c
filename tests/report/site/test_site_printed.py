"""Published lines: what stands beside a board, their marks, notes and places."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from bench.errors import ConfigError
from bench.report.site.lines import COLUMNS
from bench.report.site.printed import FEW, beside
from bench.report.site.printed_marks import load_marks

if TYPE_CHECKING:
    from pathlib import Path

    from bench.report.site.printed import Printer


def test_published_means_stand_in_one_line_for_each_setting_with_their_tables(
    printer: Printer,
) -> None:
    lines = printer.means("mvtec", 15)
    (padim,) = [x for x in lines if (x.paper, x.method, x.variant) == ("padim", "PaDiM", "Rd550")]
    assert [table for table, _ in padim.tables] == ["Table III", "Table V"]
    anchors = {table.anchor: table.title for table in printer.tables("padim")}
    assert [anchors[a].split(":")[0] for _, a in padim.tables] == ["Table III", "Table V"]
    shown = {name: v.text for name, v in zip(COLUMNS, padim.values, strict=True)}
    assert (shown["image_auroc"], shown["pixel_auroc"]) == ("95.3", "97.5")
    assert (shown["aupro_30"], shown["aupro_printed"]) == ("", "92.1")


def test_a_published_mean_says_over_how_many_categories_it_is(printer: Printer) -> None:
    lines = printer.means("mvtec", 15)
    found = {table: x for x in lines if x.paper == "pyramidflow" for table, _ in x.tables}
    assert (found["Table 3"].coverage, found["Table 3"].is_partial) == ("12 of 15", True)
    assert {x.coverage for x in lines if x.paper == "padim"} == {"15 of 15"}
    assert {x.coverage for x in printer.means("visa", 0)} == {""}


def test_published_lines_are_in_the_order_that_their_heading_says(printer: Printer) -> None:
    keys = [
        (x.is_partial, x.values[0].number is None, -(x.values[0].number or 0))
        for x in printer.means("mvtec", 15)
    ]
    assert keys == sorted(keys)


def test_ablations_stand_only_on_the_page_of_their_paper(printer: Printer) -> None:
    lines = printer.means("mvtec", 15)
    tables = {(x.paper, table) for x in lines for table, _ in x.tables}
    assert ("pyramidflow", "Table 2") not in tables
    assert ("padim", "Table I") not in tables
    assert ("cflow", "Table 3") in tables


def test_beside_a_board_stand_its_own_paper_then_the_measured_methods_then_all_if_few(
    printer: Printer,
) -> None:
    mvtec, btad = printer.means("mvtec", 15), printer.means("btad", 3)
    assert {x.paper for x in beside(mvtec, "cflow", {"padim"})} == {"cflow"}
    found = beside(mvtec, "standard", {"padim", "cflow"})
    assert {(x.paper, x.method) for x in found} == {("padim", "PaDiM"), ("cflow", "CFLOW-AD")}
    assert len(btad) <= FEW
    assert beside(btad, "standard", {"padim"}) == btad
    assert beside(mvtec, "standard", {"mean"}) == []


def test_known_contradictions_are_notes_on_their_numbers(printer: Printer) -> None:
    lines = printer.means("btad", 3)
    (vt_adl,) = [x for x in lines if x.method == "VT-ADL" and x.paper == "pyramidflow"]
    assert "S4" in vt_adl.values[COLUMNS.index("pixel_auroc")].notes


def test_numbers_that_the_tables_mark_are_marked(printer: Printer) -> None:
    marks = {
        (x.paper, x.method): set(x.marks)
        for x in printer.means("mvtec", 15)
        if (x.paper, x.method)
        in {("cflow", "CFLOW-AD"), ("pyramidflow", "PyramidFlow"), ("cflow", "PaDiM")}
    }
    assert marks == {
        ("cflow", "CFLOW-AD"): {"†", "‡"},
        ("pyramidflow", "PyramidFlow"): {"†"},
        ("cflow", "PaDiM"): set(),
    }


def test_a_table_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    file = tmp_path / "results" / "tables" / "mine" / "table1.toml"
    file.parent.mkdir(parents=True)
    file.write_text('paper = "mine"\n[[row]]\nmarks = ["oracle"]\npublished = {}x\n')
    with pytest.raises(ConfigError, match=r"table1\.toml: "):
        load_marks(tmp_path)


def test_titles_of_printed_tables_are_words_and_their_captions_have_the_unit(
    printer: Printer,
) -> None:
    titles = {table.title: table.unit for table in printer.tables("pyramidflow")}
    assert titles["Figure 5: training memory"] == "GB"
    assert titles["Figure 5: parameters"] == "M"
    assert titles["Table 1: change of pixel AUROC on mvtec"] == "pp"
    every = {t.title for paper in printer.published.papers for t in printer.tables(paper)}
    no_words = re.compile(r" (gb|mb|ms|s|M|params|at its batch)( on |$)|_( on |$)")
    assert not [title for title in every if no_words.search(title)]


def test_remarks_of_a_number_stand_on_the_page_of_its_paper(printer: Printer) -> None:
    remarks = {x.remarks for table in printer.tables("pyramidflow") for x in table.lines}
    assert "no augmentation; L=4, C=16" in remarks


def test_every_published_number_is_on_the_page_of_its_paper(printer: Printer) -> None:
    for paper in printer.published.papers:
        shown = sum(
            value.text != ""
            for table in printer.tables(paper)
            for line in table.lines
            for value in line.values
        )
        assert shown == sum(n.paper == paper for n in printer.published.numbers), paper
