"""A paper's table as Markdown, LaTeX, HTML and CSV."""

from __future__ import annotations

import csv
import io
import json
import re
from typing import TYPE_CHECKING

import pytest

from bench.report.paper.ranking import DIFFERENCE, MEASURED, ONLY, PUBLISHED
from tests.report.shown import written

if TYPE_CHECKING:
    from tests.report.shown import Built, RowsOf, Spec


def test_csv_has_one_line_for_each_number_with_its_protocol(
    spec: Spec, rows_of: RowsOf, built: Built
) -> None:
    table4 = spec("pyramidflow/table4")
    table = built(table4, rows_of(table4, image_auroc=0.9))
    records = list(csv.DictReader(io.StringIO(written(table, "csv"))))
    kinds = [r["kind"] for r in records]
    assert kinds.count(PUBLISHED) + kinds.count(ONLY) == 48
    assert {r["protocol"] for r in records if r["kind"] == MEASURED} == {"pyramidflow"}
    assert all(r["protocol"] for r in records)


def test_csv_carries_what_makes_a_number_comparable(
    spec: Spec, rows_of: RowsOf, built: Built
) -> None:
    table4 = spec("pyramidflow/table4")
    place = {"device": "CPU test", "threads": 2, "speed": "speed-1"}
    rows = rows_of(table4, image_auroc=0.9, n_leaked=3, **place)
    table = built(table4, rows)
    records = list(csv.DictReader(io.StringIO(written(table, "csv"))))
    first = next(r for r in records if r["kind"] == MEASURED and r["method"] == "PaDiM")
    found = {k: first[k] for k in ("device", "threads", "speed", "seeds", "weights", "unit")}
    expected = {"device": "CPU test", "threads": "2", "speed": "speed-1", "seeds": "0"}
    assert found == {**expected, "weights": "pretrained", "unit": "%"}
    assert json.loads(first["protocol_fields"])["mask_size"] == 256
    assert "dimensions 550" in first["settings"]
    assert "01: LEAK: 3 test images" in first["note_texts"]
    gap = next(r for r in records if r["kind"] == DIFFERENCE)
    assert (gap["unit"], gap["seeds"]) == ("pp", "0")
    vt_adl = next(r for r in records if r["method"] == "VT-ADL" and "pixel" in r["metric"])
    assert vt_adl["note_texts"].startswith("S4: ")
    assert vt_adl["device"] == ""


def test_latex_is_balanced_escaped_and_uses_booktabs(spec: Spec, built: Built) -> None:
    text = written(built(spec("pyramidflow/table3")), "tex")
    body = re.sub(r"(?m)^%.*$", "", text)
    assert body.count(r"\toprule") == 2
    assert r"\hline" not in body
    assert len(re.findall(r"\\begin\{", body)) == len(re.findall(r"\\end\{", body))
    plain = re.sub(r"\\[{}]", "", body)
    assert plain.count("{") == plain.count("}")
    assert not re.search(r"(?<!\\)[%#_^~]", body)
    rows = [x for x in body.splitlines() if x.rstrip().endswith("\\\\")]
    # 14 columns: 13 separators in each line.
    assert {len(re.findall(r"(?<!\\)&", row)) for row in rows} == {14}


def test_latex_shows_what_is_missing_and_left_out(
    spec: Spec, rows_of: RowsOf, built: Built
) -> None:
    table4 = spec("pyramidflow/table4")
    rows = rows_of(table4, protocol="standard")
    text = written(built(table4, rows), "tex")
    shown = "\n".join(line for line in text.splitlines() if not line.startswith("%"))
    assert "Missing: PaDiM: 01, 02, 03; seed 0" in shown
    assert "Not shown: 3 rows of padim: protocol standard" in shown


@pytest.mark.parametrize("format", ["md", "tex", "html"])
def test_means_are_headed_by_what_they_are_over(format: str, spec: Spec, built: Built) -> None:
    text = written(built(spec("pyramidflow/table3")), format)
    assert "mean of 12 registered" in text
    assert "registered12" not in text


@pytest.mark.parametrize("format", ["md", "tex", "html"])
def test_printed_changes_stand_behind_their_numbers(format: str, spec: Spec, built: Built) -> None:
    text = written(built(spec("pyramidflow/table1")), format)
    assert re.search(r"96\.1(\*\*|\}|</strong>) \(\+2\.6\)", text)


def test_html_escapes_and_links_notes(spec: Spec, built: Built) -> None:
    table = built(spec("pyramidflow/table4"))
    text = written(table, "html")
    assert '<a href="#note-S4">' in text
    assert '<p id="note-S4">' in text
    printed = built(spec("padim/table3"))
    only = [line for section in printed.sections for line in section.lines if line.kind == ONLY]
    assert written(printed, "html").count('<tr class="published-only">') == len(only) > 0
    assert text.count("<table>") == text.count("</table>") == 2
    assert "VT-ADL&#x27;s" in text


def test_markdown_marks_best_and_second_best(spec: Spec, built: Built) -> None:
    text = written(built(spec("pyramidflow/table4")), "md")
    assert "**100.0**" in text
    assert "_99.8_" in text
    assert "S25: BTAD baselines disagree" in text


def test_blocks_are_told_apart_in_every_format(spec: Spec, built: Built) -> None:
    table = built(spec("padim/table3"))
    blocks = ["reconstruction", "embedding"]
    lines = written(table, "md").splitlines()
    sections = len(table.sections)
    for block in blocks:
        found = [x for x in lines if x.startswith(f"| **{block}**")]
        assert len(found) == sections
        assert not found[0].partition(f"**{block}**")[2].strip("| ")
    text = written(table, "html")
    assert text.count("<tbody>") == text.count("</tbody>") == 2 * sections
    width = 2 + len(table.sections[0].columns)
    heads = re.findall(rf'<th scope="rowgroup" colspan="{width}">(\w+)</th>', text)
    assert heads == blocks * sections


def test_a_table_of_one_block_has_no_heading_for_it(spec: Spec, built: Built) -> None:
    table = built(spec("cflow/table4"))
    assert "rowgroup" not in written(table, "html")
    assert "| **" not in written(table, "md").replace("| **9", "")
