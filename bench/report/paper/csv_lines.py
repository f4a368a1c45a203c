"""A paper's table for programs: one line for each number, with all that makes it comparable."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.report.paper.ranking import DIFFERENCE, MEASURED

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bench.report.paper.paper_table import PaperTable
    from bench.report.paper.ranking import Entry, Line

COLUMNS = (
    *("table", "dataset", "metric", "column", "method", "block", "kind"),
    *("value", "std", "unit", "change", "place", "marks", "notes", "note_texts"),
    *("protocol", "protocol_fields", "seeds", "settings", "weights", "device", "threads", "speed"),
)


def csv_lines(table: PaperTable) -> str:
    """CSV with a header; published numbers have the paper's protocol as text."""
    import pandas as pd  # heavy, and needed by this format alone

    frame = pd.DataFrame(list(_records(table)), columns=list(COLUMNS), dtype=str)
    return str(frame.to_csv(index=False, lineterminator="\n"))


def _records(table: PaperTable) -> Iterable[dict[str, str]]:
    spec = table.spec
    for section in table.sections:
        for line in section.lines:
            for head, entry in zip(section.columns, line.entries, strict=True):
                metric, column = (section.title, head) if section.title else (head, spec.column)
                if entry.text:
                    yield {
                        "table": spec.name,
                        "dataset": spec.dataset,
                        "metric": metric,
                        "column": column,
                        "method": line.label,
                        "block": line.block,
                        "kind": line.kind,
                        **_number(entry),
                        **_notes(table, line, entry),
                        **_origin(table, line),
                    }


def _number(entry: Entry) -> dict[str, str]:
    return {
        "value": entry.text,
        "std": entry.std,
        "unit": entry.unit,
        "change": entry.change,
        "place": str(entry.place or ""),
    }


def _notes(table: PaperTable, line: Line, entry: Entry) -> dict[str, str]:
    """Marks and notes with their texts, the table's own notes and remarks on its data included."""
    notes = (*line.notes, *entry.notes)
    footnotes = dict(table.footnotes)
    texts = [f"{id}: {footnotes[id]}" for id in (*line.marks, *notes, *table.common)]
    texts += table.remarks if line.kind.startswith(MEASURED) else ()
    return {"marks": line.marks, "notes": " ".join(notes), "note_texts": " | ".join(texts)}


def _origin(table: PaperTable, line: Line) -> dict[str, str]:
    if not line.kind.startswith((MEASURED, DIFFERENCE)) or line.origin is None:
        return {"protocol": table.spec.published_protocol}
    origin = line.origin
    return {
        "protocol": table.spec.protocol,
        "protocol_fields": table.protocol_fields,
        "seeds": origin.seeds,
        "settings": origin.settings,
        "weights": origin.weights,
        "device": origin.device,
        "threads": origin.threads,
        "speed": origin.speed,
    }
