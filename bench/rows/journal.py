"""Rows on their way into the CSV files: one line each, appended, so that a row costs no rewrite.

A file of many rows takes longer to rewrite than a short cell takes to run. Between two rewrites
rows wait in the journal of the results folder: written at once, so that they outlive a writer that
is killed, and read by everybody as rows of the folder. Whoever next takes the lock puts them into
their files. A last line without its end was never said to be stored, and is left out.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from bench.disk import flush_folder
from bench.errors import StoreError
from bench.rows.csv_file import parse, texts
from bench.rows.row import columns

if TYPE_CHECKING:
    from pathlib import Path

    from bench.rows.row import Row

NAME = ".journal"

FLUSH_S = 0.1
"""Seconds between two flushes to the disk, each of which takes milliseconds: what a power cut may
cost. A killed process loses nothing either way."""


class Journal:
    """The journal of one results folder; only the holder of its lock writes.

    Args:
        folder: of the results.
    """

    def __init__(self, folder: Path) -> None:
        self.file = folder / NAME
        self._flushed = -FLUSH_S

    def append(self, row: Row) -> None:
        """Add a row; it is read from here on.

        Raises:
            StoreError: it cannot be written, or a number is not finite.
        """
        lines = [texts(row)] if self.file.exists() else [columns(), texts(row)]
        content = "".join(json.dumps(line) + "\n" for line in lines)
        before = self.file.stat().st_size if self.file.exists() else 0
        try:
            with self.file.open("a", encoding="ascii") as stream:
                stream.write(content)
                stream.flush()
                if time.monotonic() - self._flushed >= FLUSH_S:
                    os.fsync(stream.fileno())
                    self._flushed = time.monotonic()
        except OSError as error:
            with suppress(OSError):
                os.truncate(self.file, before)
            reason = error.strerror or error
            text = f"{self.file} cannot be written ({reason}); what was there is kept"
            raise StoreError(text) from error

    def rows(self) -> list[Row]:
        """The rows that wait, the first one first.

        Raises:
            StoreError: a line that no writer left so.
        """
        try:
            whole = self.file.read_bytes().split(b"\n")[:-1]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise StoreError(f"{self.file} cannot be read: {error}") from error
        try:
            lines = [json.loads(line) for line in whole]
        except ValueError as error:
            raise StoreError(
                f"{self.file} is damaged ({error}); delete it and make its last rows again"
            ) from error
        return [parse(self.file, n, lines[0], line).row for n, line in enumerate(lines[1:], 2)]

    def clear(self) -> None:
        """The rows are in their files."""
        self.file.unlink(missing_ok=True)
        flush_folder(self.file.parent)
