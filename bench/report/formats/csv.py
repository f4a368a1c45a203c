"""CSV for programs: one line for each number, with all that makes it comparable."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from bench.report.grid import Document


def render(documents: Sequence[Document]) -> str:
    """The records of all documents, which have the same columns, below one header."""
    file = io.StringIO()
    columns = dict.fromkeys(column for each in documents for column in each.record_columns)
    writer = csv.DictWriter(file, list(columns), restval="", lineterminator="\n")
    writer.writeheader()
    for document in documents:
        writer.writerows(_records(document))
    return file.getvalue()


def _records(document: Document) -> Iterable[Mapping[str, str]]:
    for grid in document.grids:
        for line in grid.lines:
            for cell in line.cells:
                if cell.record is not None:
                    yield {**line.record, **cell.record}
    yield from document.records
