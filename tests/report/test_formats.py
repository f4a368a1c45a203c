"""A format of tables is one file, found by its name; all write the same grids."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from bench.cli import app
from bench.errors import ConfigError
from bench.report import formats
from bench.report.formats import render
from bench.report.formats.tex import escaped
from bench.report.grid import Cell, Document, Grid, Line

if TYPE_CHECKING:
    from pathlib import Path

RECORD = {"value": "1.5", "notes": "a"}
BEST = Cell("1.5", place=1, tail=" ± 0.1", notes=("a",), record=RECORD)


def document(*lines: Line) -> Document:
    grid = Grid("method", ("a|b", "c_d"), lines, "part")
    return Document(
        "test",
        "Title",
        (grid,),
        ("method", "value", "notes"),
        name="x/y",
        caption=("caption",),
        footnotes=(("a", "note"),),
        remarks=("remark",),
        records=({"method": "test"},),
    )


def line(label: str, *cells: Cell, **fields: str) -> Line:
    return Line(Cell(label), cells, record={"method": label}, **fields)


TWO = document(
    line("one|1", BEST, Cell(), kind="measured A", style="measured", block="first"),
    line("two", Cell("-0.5", place=2), Cell("n/a"), kind="measured B", block="second"),
)


def test_a_new_format_is_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "def render(documents):\n    return '\\n'.join(d.title for d in documents) + '!\\n'\n"
    (tmp_path / "loud.py").write_text(text)
    monkeypatch.setattr(formats, "__path__", [*formats.__path__, str(tmp_path)])
    found = CliRunner().invoke(app, ["table", "pyramidflow/table4", "--format", "loud"])
    assert found.exit_code == 0
    assert found.output.startswith("Comparison on BTAD")
    assert found.output.endswith("!\n")


def test_an_unknown_format_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(ConfigError, match=r"--format mdd: no such format; did you mean 'md'\?"):
        render([TWO], "mdd")


@pytest.mark.parametrize("format", ["md", "txt", "tex", "html"])
def test_every_text_of_a_document_stands_in_it(format: str) -> None:
    text = render([TWO], format)
    for part in ("Title", "caption", "part", "measured A", "1.5", "note", "remark"):
        assert part in text


def test_markdown_escapes_what_would_end_a_cell() -> None:
    text = render([TWO], "md")
    assert "**1.5** ± 0.1 [a]" in text
    assert r"one\|1" in text
    assert "_-0.5_" in text
    assert "| **second** " in text


def test_plain_text_has_no_marks_of_its_own() -> None:
    lines = render([TWO], "txt").splitlines()
    assert lines[:2] == ["Title", "caption"]
    assert [line.split() for line in lines if "1.5" in line] == [
        ["one|1", "measured", "A", "1.5", "±", "0.1", "[a]", "–"]
    ]
    assert "first" in [line.strip() for line in lines]
    assert lines[-2:] == ["a: note", "remark"]


def test_latex_raises_notes_and_rules_between_blocks() -> None:
    text = render([TWO], "tex")
    assert r"\textbf{1.5} $\pm$ 0.1\textsuperscript{a}" in text
    assert r"\underline{$-$0.5}" in text
    assert text.count(r"\midrule") == 2
    assert r"\label{tab:x:y}" in text


def test_html_links_notes_and_names_the_kinds_of_lines() -> None:
    text = render([TWO], "html")
    assert '<strong>1.5</strong> ± 0.1<sup><a href="#note-a">a</a></sup>' in text
    assert text.count('<tr class="measured">') == 1
    assert '<section class="test">' in text


def test_csv_has_the_records_of_cells_with_those_of_their_lines_and_of_the_document() -> None:
    found = list(csv.DictReader(io.StringIO(render([TWO, document()], "csv"))))
    nothing = {"method": "test", "value": "", "notes": ""}
    assert found == [{"method": "one|1", **RECORD}, nothing, nothing]


def test_a_grid_whose_lines_are_of_one_kind_has_no_column_for_it() -> None:
    plain = render([document(line("one", BEST, BEST))], "md").splitlines()
    head = next(text for text in plain if text.startswith("| method"))
    assert head.replace(r"\|", "").count("|") == 4


def test_latex_has_typographic_quotes_only() -> None:
    assert escaped('VT-ADL\'s "pixel AUROC" and `auto`') == (
        r"VT-ADL's ``pixel AUROC'' and \textasciigrave{}auto\textasciigrave{}"
    )


def test_latex_escapes_every_special_character() -> None:
    assert escaped("a_b & 5% #1 {x} ~^ ±†") == (
        r"a\_b \& 5\% \#1 \{x\} \textasciitilde{}\textasciicircum{} $\pm$\dag{}"
    )
    assert escaped("\\") == r"\textbackslash{}"
