"""Rows on disk: one CSV for each data set and method, with one writer and atomic replacement."""

from __future__ import annotations

import json
import math
import os
import shutil
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from bench.disk import read_text, replace_file
from bench.errors import StoreError
from bench.rows.column import FOUND
from bench.rows.csv_file import MEND, CsvLine, put_rows, read_lines, shown, sort_rows, write_csv
from bench.rows.journal import Journal
from bench.rows.lock import Lock
from bench.rows.row import SCHEMA, Row, columns, newest, succeed
from bench.rows.upgrade import artifacts_of, current, finish, upgrade

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

RESERVED = ("artifacts", "failures", "env", "tables", "published", "baseline")
REWRITE_BYTES_PER_S = 1e6
"""CSV files are rewritten at this rate at most: a tenth of what one core reads, checks and writes,
so that a busy writer spends a tenth of its time on them."""
FILE_BYTES = 100_000
"""What flushing a file to the disk takes, as bytes of its content would."""
SHARD = "shard"
"""The file that says which part of a plan a folder holds."""


class ResultStore:
    """The rows of one results folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._journal = Journal(folder)
        self._waiting: list[Row] = []  # in the journal
        self._files: dict[Path, int] = {}  # of these rows, with what rewriting them costs
        self._rewritten = -math.inf
        self._is_locked = False

    def rows(self) -> list[Row]:
        """Every row, sorted; those of an older schema in the present one.

        Where such a folder cannot be written, so that this goes on, one line says so.

        Raises:
            StoreError: a file that is not a results file, naming line and column; a row in the
                file of another data set or method.
        """
        waiting = self._journal.rows()  # first: a writer may put them into their files meanwhile
        lines = [line for file in self.files() for line in self._read(file)]
        if any(line.written != line.row.cell for line in lines) and not self._is_writable():
            print(
                f"note: {self.folder} holds rows of an older schema and cannot be written; they "
                "are read under their new ids",
                file=sys.stderr,
            )
        found = {line.row.cell: line.row for line in lines}
        _take(found, waiting)
        return sort_rows(found.values())

    def _is_writable(self) -> bool:
        return all(os.access(f, os.W_OK) for f in {self.folder, *(x.parent for x in self.files())})

    def files(self) -> list[Path]:
        """The CSV files, sorted; the folders of artifacts and published numbers left out."""
        if not self.folder.is_dir():
            return []
        found = self.folder.glob("*/*.csv")
        return sorted(f for f in found if f.parent.name not in RESERVED)

    def file(self, dataset: str, method: str) -> Path:
        """Where the rows of one data set and method lie."""
        return self.folder / dataset / f"{method}.csv"

    def artifacts(self, row: Row) -> Path:
        """The folder of a row's artifacts, which need not exist."""
        return artifacts_of(self.folder / "artifacts", row)

    def environment(self, row: Row) -> Path:
        """The file of the environment that a row names."""
        return self.folder / "env" / f"{row.env}.json"

    def put(self, row: Row, environment: Mapping[str, str] | None = None) -> None:
        """Add a row, replacing that of the same cell; stored when this returns.

        It goes into its file; while this store holds the lock and rows come faster than their
        files can be rewritten, into the journal, which `lock` empties at its end.

        Args:
            environment: that the row names, written before it; None: the folder has it.
        """
        finish(self.folder)  # or what is half done would hide the row
        known = self.environment(row)
        if environment is not None and not known.exists():
            text = json.dumps(dict(environment), indent=1, sort_keys=True) + "\n"
            replace_file(known, text.encode())
        file = self.file(row.dataset, row.method)
        if self._is_locked and not row.extra and not self._may_rewrite(file):
            self._journal.append(row)
            self._waiting.append(row)
        else:
            self._rewrite([*self._waiting, row])

    def _may_rewrite(self, file: Path) -> bool:
        """Whether the files of all rows that wait, and this one, may be rewritten by now."""
        if file not in self._files:
            self._files[file] = FILE_BYTES + (file.stat().st_size if file.exists() else 0)
        passed = time.monotonic() - self._rewritten
        return sum(self._files.values()) <= passed * REWRITE_BYTES_PER_S

    def _rewrite(self, rows: Sequence[Row]) -> None:
        """Put rows into their files, and empty the journal."""
        by_file: dict[Path, list[Row]] = {}
        for row in rows:
            by_file.setdefault(self.file(row.dataset, row.method), []).append(row)
        for file, own in by_file.items():
            # A folder that is locked has been read, and refused if need be.
            if self._is_locked and not any(row.extra for row in own) and put_rows(file, own):
                continue
            found = {r.row.cell: r.row for r in self._read(file)} if file.exists() else {}
            _take(found, own)
            write_csv(file, sort_rows(found.values()))
        self._journal.clear()
        self._waiting.clear()
        self._files.clear()
        self._rewritten = time.monotonic()

    def shard(self) -> str:
        """The part of a plan that this folder holds, as in 3/16; empty: nobody said."""
        file = self.folder / SHARD
        return read_text(file).strip() if file.is_file() else ""

    def keep_to(self, shard: str) -> None:
        """Note which part of a plan this folder holds.

        Raises:
            StoreError: it holds another.
        """
        if (held := self.shard()) not in ("", shard):
            raise StoreError(
                f"{self.folder} holds shard {held}, not {shard}; give each shard a folder of its "
                "own by --results, and `bench merge` them afterwards"
            )
        if not held:
            replace_file(self.folder / SHARD, f"{shard}\n".encode())

    def _read(self, file: Path) -> list[CsvLine]:
        """The rows of a file, each of its data set and method: they decide where it is written."""
        try:
            lines = read_lines(current(file))
        except StoreError as error:
            if not isinstance(error.__cause__, FileNotFoundError):
                raise
            lines = read_lines(file)  # an upgrade ended between looking and reading
        for line in lines:
            for name, place in (("dataset", file.parent.name), ("method", file.stem)):
                if (value := getattr(line.row, name)) != place:
                    raise StoreError(
                        f"{file}:{line.number}: column {name!r} holds {shown(value)}, not "
                        f"{place!r} as the file is called; {MEND}"
                    )
        return lines

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Refuses a second writer in this folder; removes what a killed one left half-written.

        A folder of an older schema is carried over to the present one first, and the rows of a
        killed writer's journal are put into their files.

        Raises:
            StoreError: another writer is at work, or the folder cannot be written.
        """
        with Lock(self.folder / ".lock"):
            for left in self.folder.glob("*/.*.tmp"):
                with suppress(OSError):
                    left.unlink()
            upgrade(self.folder, self.files())
            self._rewrite(self._journal.rows())
            self._rewritten, self._is_locked = -math.inf, True
            try:
                yield
                self._rewrite(self._waiting)
            finally:  # after an error rows wait in the journal for the next writer
                self._is_locked = False
                self._waiting.clear()


def _take(found: dict[str, Row], rows: Iterable[Row]) -> None:
    """Let each row replace that of the same cell."""
    for row in rows:
        old = found.get(row.cell)
        found[row.cell] = row if old is None else succeed(row, old)


def merge(target: ResultStore, sources: Sequence[ResultStore]) -> list[tuple[Row, Row]]:
    """Bring the rows of other folders into one; of the same cell the newest stays.

    The environments and artifacts of the rows that are taken over come along.

    Returns:
        pairs (kept, dropped) of cells that two folders had with different scores.
    """
    merged = {row.cell: row for row in target.rows()}
    origin: dict[str, tuple[ResultStore, Row]] = {}
    conflicts = []
    for source in sources:
        for row in _under_known_ids(source.rows(), merged.values()):
            old = merged.get(row.cell)
            is_kept = old is None or (row != old and newest(old, row) is row)
            if is_kept:
                origin[row.cell] = source, row
            merged[row.cell] = (
                row if old is None else succeed(*((row, old) if is_kept else (old, row)))
            )
            if old is not None and any(getattr(old, s) != getattr(row, s) for s in columns(*FOUND)):
                conflicts.append((merged[row.cell], old if is_kept else row))
    # Before the rows, so that none ever stands without its environment.
    for source, row in origin.values():
        _bring(row, source, target)
    by_file: dict[Path, list[Row]] = {}
    for row in merged.values():
        by_file.setdefault(target.file(row.dataset, row.method), []).append(row)
    for file, rows in by_file.items():
        write_csv(file, sort_rows(rows))
    return conflicts


def _under_known_ids(rows: Iterable[Row], known: Iterable[Row]) -> list[Row]:
    """Rows whose new id nobody here could tell, under the one that another folder's row has."""
    by_former = {former: row for row in known for former in row.formerly.split()}
    found = []
    for row in rows:
        twin = by_former.get(row.cell) if row.schema < SCHEMA else None
        named: dict[str, Any] = (
            {"cell": twin.cell, "schema": SCHEMA, "formerly": row.cell} if twin else {}
        )
        found.append(replace(row, **named))
    return found


def _bring(row: Row, source: ResultStore, target: ResultStore) -> None:
    """Copy the environment and the artifacts of a row; those of a row that it replaces go."""
    known, given = target.environment(row), source.environment(row)
    if given.is_file() and not known.exists():
        replace_file(known, given.read_bytes())
    ours, theirs = target.folder / "artifacts" / row.cell, source.artifacts(row)
    part = ours.with_suffix(".part")
    try:
        shutil.rmtree(part, ignore_errors=True)
        if theirs.is_dir():
            shutil.copytree(theirs, part)
        if ours.is_dir():
            shutil.rmtree(ours)
        if part.is_dir():
            part.replace(ours)
    except OSError as error:
        raise StoreError(f"{theirs} cannot be copied to {ours}: {error}") from error
