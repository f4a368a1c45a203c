"""A paper's table as a document that any format writes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.report.grid import Cell, Document, Grid, Line
from bench.report.paper.published import head_of
from bench.report.paper.ranking import DIFFERENCE, MEASURED

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bench.report.paper.paper_table import PaperTable
    from bench.report.paper.ranking import Entry, PaperLine, Section

RUN = "Run them: bench table {name} --run"

RECORD = (
    *("table", "dataset", "metric", "column", "method", "block", "kind"),
    *("value", "std", "unit", "change", "place", "marks", "notes", "note_texts"),
    *("protocol", "protocol_fields", "seeds", "settings", "weights", "device", "threads", "speed"),
)


def document(table: PaperTable) -> Document:
    """The table with protocol and footnotes, and with the gaps, which programs see by themselves.

    In the records published numbers have the paper's protocol as text.
    """
    return Document(
        style="paper-table",
        name=table.spec.name,
        title=table.title,
        caption=table.caption,
        grids=tuple(_grid(table, section) for section in table.sections),
        footnotes=table.footnotes,
        remarks=tuple(_remarks(table)),
        record_columns=RECORD,
    )


def _remarks(table: PaperTable) -> Iterable[str]:
    """What is odd about the data, what is missing and what was left out, one line each."""
    yield from table.remarks
    yield from (f"Missing: {text}" for text in table.missing)
    if table.missing:
        yield RUN.format(name=table.spec.name)
    yield from (f"Not shown: {text}" for text in table.left_out)


def _grid(table: PaperTable, section: Section) -> Grid:
    return Grid(
        corner="method",
        columns=tuple(map(head_of, section.columns)),
        lines=tuple(_line(table, section, line) for line in section.lines),
        title=section.title,
    )


def _line(table: PaperTable, section: Section, line: PaperLine) -> Line:
    record = {
        "table": table.spec.name,
        "dataset": table.spec.dataset,
        "method": line.label,
        "block": line.block,
        "kind": line.kind,
        "marks": line.marks,
        **_origin(table, line),
    }
    cells = zip(section.columns, line.entries, strict=True)
    return Line(
        label=Cell(f"{line.label}{line.marks}", notes=line.notes),
        cells=tuple(_cell(table, section, line, head, entry) for head, entry in cells),
        kind=line.kind,
        style=MEASURED if line.kind.startswith(MEASURED) else line.kind.replace(" ", "-"),
        block=line.block,
        record=record,
    )


def _cell(table: PaperTable, section: Section, line: PaperLine, head: str, entry: Entry) -> Cell:
    if not entry.text:
        return Cell()
    metric, column = (section.title, head) if section.title else (head, table.spec.column)
    std = f" ± {entry.std}" if entry.std else ""
    change = f" ({entry.change})" if entry.change else ""
    record = {
        "metric": metric,
        "column": column,
        "value": entry.text,
        "std": entry.std,
        "unit": entry.unit,
        "change": entry.change,
        "place": str(entry.place or ""),
        "notes": " ".join((*line.notes, *entry.notes)),
        "note_texts": " | ".join(_note_texts(table, line, entry)),
    }
    return Cell(entry.text, entry.place, f"{std}{change}", entry.notes, record)


def _note_texts(table: PaperTable, line: PaperLine, entry: Entry) -> Iterable[str]:
    """Of marks and notes, the table's own notes and remarks on its data included."""
    footnotes = dict(table.footnotes)
    for id in (*line.marks, *line.notes, *entry.notes, *table.common):
        yield f"{id}: {footnotes[id]}"
    yield from table.remarks if line.kind.startswith(MEASURED) else ()


def _origin(table: PaperTable, line: PaperLine) -> dict[str, str]:
    if not line.kind.startswith((MEASURED, DIFFERENCE)) or line.origin is None:
        return {"protocol": table.spec.published_protocol}
    return {
        "protocol": table.spec.protocol,
        "protocol_fields": table.protocol_fields,
        **vars(line.origin),
    }
