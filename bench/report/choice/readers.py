"""Columns of a table of costs: memory that was read in several ways has a column for each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.report.choice import quantities as q

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from bench.rows.row import Row


@dataclass(frozen=True)
class CostColumn:
    """One column.

    Attributes:
        reader: how its memory was read; None where that is one way, or no memory.
    """

    heading: str
    name: str
    reader: str | None = None

    def rows(self, rows: Iterable[Row]) -> list[Row]:
        """Those whose numbers may stand in it."""
        return [row for row in rows if self.reader in (None, row.memory)]


def split_by_reader(columns: Sequence[tuple[str, str]], rows: Iterable[Row]) -> list[CostColumn]:
    """Columns of headings and quantities; memory as `fit MB (1)`, `fit MB (2)` where read so.

    Nothing else of a method depends on how its memory was read, so that its rows stand together.
    """
    known = readers(rows)
    found = []
    for heading, name in columns:
        if q.is_memory(name) and len(known) > 1:
            found += [
                CostColumn(f"{heading} ({number})", name, reader)
                for number, reader in enumerate(known, 1)
            ]
        else:
            found.append(CostColumn(heading, name))
    return found


def memory_text(rows: Iterable[Row]) -> str:
    """`memory by X`; `memory (1) by X, (2) by Y`; empty where none was read."""
    known = readers(rows)
    if len(known) < 2:
        return f"memory by {known[0]}" if known else ""
    return "memory " + ", ".join(f"({number}) by {name}" for number, name in enumerate(known, 1))


def readers(rows: Iterable[Row]) -> list[str]:
    """How memory was read, sorted."""
    return sorted({row.memory for row in rows if row.memory})
