"""Rows on disk: one CSV for each data set and method, with one writer and atomic replacement."""

from __future__ import annotations

import csv
import io
import math
import re
import shutil
import sys
from contextlib import contextmanager, suppress
from dataclasses import MISSING, fields
from typing import TYPE_CHECKING, Any

from bench.disk import replace_file
from bench.errors import StoreError
from bench.rows.lock import Lock
from bench.rows.row import SCHEMA, SCORE, Row, columns
from bench.rows.row_values import READERS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

_GROUPS = {f.name: f.metadata["group"] for f in fields(Row) if "group" in f.metadata}
_REQUIRED = {f.name for f in fields(Row) if f.name in _GROUPS and f.default is MISSING}
SORT = ("dataset", "method", "category", "protocol", "seed", "pretrained", "params", "cell")
_FILE_NAME = "[0-9A-Za-z_-]+"
_SHOWN = 60
_MEND = "restore the file from version control, or delete the line and make its row again"
RESERVED = ("artifacts", "failures", "env", "tables", "published", "baseline")


class ResultStore:
    """The rows of one results folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def rows(self) -> list[Row]:
        """Every row, sorted.

        Raises:
            StoreError: a file that is not a results file, naming line and column; a row in the
                file of another data set or method.
        """
        return sort_rows(row for file in self.files() for row in self._read(file))

    def files(self) -> list[Path]:
        """The CSV files, sorted; the folders of artifacts and published numbers left out."""
        if not self.folder.is_dir():
            return []
        found = self.folder.glob("*/*.csv")
        return sorted(f for f in found if f.parent.name not in RESERVED)

    def file(self, dataset: str, method: str) -> Path:
        """Where the rows of one data set and method lie."""
        return self.folder / dataset / f"{method}.csv"

    def put(self, row: Row) -> None:
        """Add a row, replacing that of the same cell; on disk when this returns."""
        file = self.file(row.dataset, row.method)
        kept = [old for old in self._read(file) if old.cell != row.cell] if file.exists() else []
        write_csv(file, sort_rows([*kept, row]))

    def _read(self, file: Path) -> list[Row]:
        """The rows of a file, each of its data set and method: they decide where it is written."""
        numbered = _read_lines(file)
        for line, row in numbered:
            for name, place in (("dataset", file.parent.name), ("method", file.stem)):
                if (value := getattr(row, name)) != place:
                    raise StoreError(
                        f"{file}:{line}: column {name!r} holds {_shown(value)}, not {place!r} as "
                        f"the file is called; {_MEND}"
                    )
        return [row for _, row in numbered]

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Refuses a second writer in this folder; removes what a killed one left half-written.

        Raises:
            StoreError: another writer is at work, or the folder cannot be written.
        """
        with Lock(self.folder / ".lock"):
            for left in self.folder.glob("*/.*.tmp"):
                with suppress(OSError):
                    left.unlink()
            yield


def sort_rows(rows: Iterable[Row]) -> list[Row]:
    """In the order of the files: by identity columns."""
    return sorted(rows, key=lambda row: tuple(getattr(row, key) for key in SORT))


def read_csv(file: Path) -> list[Row]:
    """The rows of one file.

    Raises:
        StoreError: unreadable, of a newer schema, a missing column, a value of the wrong type, two
            rows of one cell; the message names line and column.
    """
    return [row for _, row in _read_lines(file)]


def _read_lines(file: Path) -> list[tuple[int, Row]]:
    """The rows of one file, each with the number of its line."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise StoreError(f"{file} cannot be read: {error}") from error
    if text and not text.endswith("\n"):
        raise StoreError(f"{file}: the last line is cut off; restore it from version control")
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        lines = [(reader.line_num, record) for record in reader]
    except csv.Error as error:
        raise StoreError(f"{file}:{reader.line_num}: not valid CSV: {error}") from error
    if not lines:
        raise StoreError(f"{file} is empty; delete it or restore it from version control")
    # Interned: keyword arguments are found by identity, several times faster for so many columns.
    header = [sys.intern(name) for name in lines[0][1]]
    _check_header(file, header)
    rows = [(line, _parse(file, line, header, record)) for line, record in lines[1:]]
    seen: dict[str, int] = {}
    for line, row in rows:
        if row.cell in seen:
            raise StoreError(
                f"{file}:{line}: cell {row.cell} is there already, in line {seen[row.cell]}; "
                "delete one of the two lines"
            )
        seen[row.cell] = line
    return rows


def write_csv(file: Path, rows: Sequence[Row]) -> None:
    """Replace a file in one step: a reader sees the old or the new one, never a part.

    Raises:
        StoreError: the folder cannot be written, or a number is not finite; what was there is
            kept.
    """
    extra = list(dict.fromkeys(key for row in rows for key in row.extra))
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([*columns(), *extra])
    for row in rows:
        values = [_format(row, name) for name in columns()]
        writer.writerow([*values, *(row.extra.get(key, "") for key in extra)])
    # A path on the command line need not be UTF-8; its odd bytes are kept as \\xNN.
    replace_file(file, buffer.getvalue().encode(errors="backslashreplace"))


def upgrade(record: dict[str, str], file: Path, line: int) -> dict[str, str]:
    """A record of an older schema as one of the present schema."""
    version = record.get("schema", "")
    if version == str(SCHEMA):
        return record
    # Few digits: `int` refuses thousands of them with an error of its own.
    if re.fullmatch("[0-9]{1,9}", version) and int(version) > SCHEMA:
        raise StoreError(
            f"{file}:{line}: schema {version} is newer than this program's {SCHEMA}; "
            "install a newer flawbench"
        )
    raise StoreError(
        f"{file}:{line}: column 'schema' holds {_shown(version)}, not {SCHEMA}; {_MEND}"
    )


def _check_header(file: Path, header: list[str]) -> None:
    missing = [name for name in columns() if name not in header]
    unknown = [name for name in header if name not in columns()]
    # An older file may lack columns that were added since. One that lacks a column and has another
    # that nobody knows was more likely edited by hand.
    needed = [name for name in missing if name in _REQUIRED]
    if needed or (missing and unknown):
        raise StoreError(
            f"{file}:1: column {(needed or missing)[0]!r} is missing"
            + (f", and {unknown[0]!r} is unknown" if unknown else "")
            + "; restore the file from version control"
        )
    if len(set(header)) != len(header):
        twice = next(name for name in header if header.count(name) > 1)
        raise StoreError(f"{file}:1: column {twice!r} stands twice; delete one of them")


def _parse(file: Path, line: int, header: list[str], values: list[str]) -> Row:
    if len(values) != len(header):
        raise StoreError(f"{file}:{line}: {len(values)} values for {len(header)} columns; {_MEND}")
    record: dict[str, Any] = upgrade(dict(zip(header, values, strict=True)), file, line)
    # Both are names of files and folders: others would lead out of theirs.
    for name, pattern in (("cell", _FILE_NAME), ("env", f"|{_FILE_NAME}")):
        if name in record and not re.fullmatch(pattern, record[name]):
            raise StoreError(
                f"{file}:{line}: column {name!r} holds {_shown(record[name])}, which cannot name a "
                f"file: letters, digits, - and _; {_MEND}"
            )
    extra = {name: record.pop(name) for name in header if name not in _GROUPS}
    for reader in READERS:
        text = record.get(reader.column)
        if text is None:  # a column added since: its default
            continue
        try:
            record[reader.column] = reader.read(text) if text or not reader.optional else None
        except ValueError as error:
            raise StoreError(
                f"{file}:{line}: column {reader.column!r} holds {_shown(text)}, not "
                f"{reader.expected}; {_MEND}"
            ) from error
    return Row(**record, extra=extra)


def _shown(value: str) -> str:
    """A wrong value in a message, cut where it is long."""
    return repr(value if len(value) <= _SHOWN else f"{value[:_SHOWN]}...")


def _format(row: Row, name: str) -> str:
    value = getattr(row, name)
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        if not math.isfinite(value):
            raise StoreError(f"cell {row.cell}: column {name!r} is {value}; not stored")
        if _GROUPS[name] == SCORE and not name.endswith("threshold"):
            return f"{value:.6f}"
        return f"{value:.9g}" if name.endswith("threshold") else f"{value:.6g}"
    return str(value)


def newest(a: Row, b: Row) -> Row:
    """Of two rows of one cell, the one that started later."""
    return b if b.started > a.started else a


def merge(target: ResultStore, sources: Sequence[ResultStore]) -> list[tuple[Row, Row]]:
    """Bring the rows of other folders into one; of the same cell the newest stays.

    The environments and artifacts of the rows that are taken over come along.

    Returns:
        pairs (kept, dropped) of cells that two folders had with different scores.
    """
    merged = {row.cell: row for row in target.rows()}
    origin: dict[str, ResultStore] = {}
    conflicts = []
    for source in sources:
        for row in source.rows():
            old = merged.get(row.cell)
            kept = row if old is None else newest(old, row)
            merged[row.cell] = kept
            if kept is row and row != old:
                origin[row.cell] = source
            if old is None:
                continue
            scores = columns(SCORE)
            if any(getattr(old, s) != getattr(row, s) for s in scores):
                conflicts.append((kept, old if kept is row else row))
    # Before the rows, so that none ever stands without its environment.
    for cell, source in origin.items():
        _bring(merged[cell], source.folder, target.folder)
    by_file: dict[Path, list[Row]] = {}
    for row in merged.values():
        by_file.setdefault(target.file(row.dataset, row.method), []).append(row)
    for file, rows in by_file.items():
        write_csv(file, sort_rows(rows))
    return conflicts


def _bring(row: Row, source: Path, target: Path) -> None:
    """Copy the environment and the artifacts of a row; those of a row that it replaces go."""
    name = f"{row.env}.json"
    if (source / "env" / name).is_file() and not (target / "env" / name).exists():
        replace_file(target / "env" / name, (source / "env" / name).read_bytes())
    ours, theirs = (folder / "artifacts" / row.cell for folder in (target, source))
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
