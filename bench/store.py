"""Rows on disk: one CSV for each data set and method, with one writer and atomic replacement."""

from __future__ import annotations

import csv
import io
import json
import os
import socket
import tempfile
from contextlib import suppress
from dataclasses import MISSING, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from bench.errors import StoreError
from bench.row import SCHEMA, SCORE, Row, columns

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from types import TracebackType

_TYPES = {f.name: str(f.type) for f in fields(Row)}
_GROUPS = {f.name: f.metadata.get("group") for f in fields(Row)}
_REQUIRED = {f.name for f in fields(Row) if f.default is MISSING and f.name != "extra"}
SORT = ("dataset", "method", "category", "protocol", "seed", "pretrained", "params", "cell")
RESERVED = ("artifacts", "failures", "env", "tables", "published", "baseline")


class ResultStore:
    """The rows of one results folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def rows(self) -> list[Row]:
        """Every row, sorted.

        Raises:
            StoreError: a file that is not a results file, naming line and column.
        """
        return sort_rows(row for file in self.files() for row in read_csv(file))

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
        kept = [old for old in read_csv(file) if old.cell != row.cell] if file.exists() else []
        write_csv(file, sort_rows([*kept, row]))

    def lock(self) -> Lock:
        """Refuses a second writer in this folder while it is held."""
        return Lock(self.folder / ".lock")


def sort_rows(rows: Iterable[Row]) -> list[Row]:
    """In the order of the files: by identity columns."""
    return sorted(rows, key=lambda row: tuple(getattr(row, key) for key in SORT))


def read_csv(file: Path) -> list[Row]:
    """The rows of one file.

    Raises:
        StoreError: unreadable, of a newer schema, a missing column, a value of the wrong type, two
            rows of one cell; the message names line and column.
    """
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
    header = lines[0][1]
    _check_header(file, header)
    rows = [_parse(file, line, header, record) for line, record in lines[1:]]
    seen: dict[str, int] = {}
    for (line, _), row in zip(lines[1:], rows, strict=True):
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
        StoreError: the folder cannot be written; what was there is kept.
    """
    extra = list(dict.fromkeys(key for row in rows for key in row.extra))
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([*columns(), *extra])
    for row in rows:
        values = [_format(name, getattr(row, name)) for name in columns()]
        writer.writerow([*values, *(row.extra.get(key, "") for key in extra)])
    replace_file(file, buffer.getvalue().encode())


def replace_file(file: Path, content: bytes) -> None:
    """Write beside, flush to the disk, rename over; on failure the old file stays."""
    temporary: Path | None = None
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.", suffix=".tmp")
        temporary = Path(name)
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.chmod(0o644)
        temporary.replace(file)
    except OSError as error:
        if temporary is not None:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
        reason = error.strerror or error
        raise StoreError(f"{file} cannot be written ({reason}); what was there is kept") from error


def upgrade(record: dict[str, str], file: Path, line: int) -> dict[str, str]:
    """A record of an older schema as one of the present schema."""
    version = record.get("schema", "")
    if version == str(SCHEMA):
        return record
    if version.isdigit() and int(version) > SCHEMA:
        raise StoreError(
            f"{file}:{line}: schema {version} is newer than this program's {SCHEMA}; "
            "install a newer flawbench"
        )
    raise StoreError(f"{file}:{line}: column 'schema' holds {version!r}, not {SCHEMA}")


class Lock:
    """An exclusively created file that names its process; one left by a dead process is taken."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __enter__(self) -> Lock:
        mine = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "started": psutil.Process().create_time(),
        }
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            for _ in range(2):
                try:
                    with self.file.open("x", encoding="utf-8") as stream:
                        json.dump(mine, stream)
                except FileExistsError:
                    self._remove_if_stale()
                else:
                    return self
        except OSError as error:
            raise StoreError(
                f"{self.file.parent} cannot be written ({error.strerror}); "
                "choose another folder with --results"
            ) from error
        raise StoreError(f"{self.file} was taken by another run just now; try again")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.file.unlink(missing_ok=True)

    def _remove_if_stale(self) -> None:
        try:
            owner = json.loads(self.file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return
        except ValueError:
            owner = {}  # cut off while it was written: its process is gone or about to fail
        if owner.get("host") not in (None, socket.gethostname()):
            raise StoreError(
                f"{self.file.parent} is in use by a run on {owner['host']}; use another --results "
                f"folder, or delete {self.file} if that run is over"
            )
        if _alive(owner.get("pid"), owner.get("started")):
            raise StoreError(
                f"{self.file.parent} is in use by process {owner['pid']}; wait for it, or use "
                "another folder with --results and `bench merge` afterwards"
            )
        self.file.unlink(missing_ok=True)


def _alive(pid: int | None, started: float | None) -> bool:
    if pid is None or started is None:
        return False
    try:
        return abs(psutil.Process(pid).create_time() - started) < 1.0
    except psutil.Error:
        return False


def _check_header(file: Path, header: list[str]) -> None:
    missing = [name for name in columns() if name not in header]
    unknown = [name for name in header if name not in columns()]
    # An older file may lack columns that were added since. One that lacks a column and has another
    # that nobody knows was more likely edited by hand.
    if missing and (unknown or missing[0] in _REQUIRED):
        raise StoreError(
            f"{file}:1: column {missing[0]!r} is missing"
            + (f", and {unknown[0]!r} is unknown" if unknown else "")
        )
    if len(set(header)) != len(header):
        twice = next(name for name in header if header.count(name) > 1)
        raise StoreError(f"{file}:1: column {twice!r} stands twice")


def _parse(file: Path, line: int, header: list[str], values: list[str]) -> Row:
    if len(values) != len(header):
        raise StoreError(f"{file}:{line}: {len(values)} values for {len(header)} columns")
    record = upgrade(dict(zip(header, values, strict=True)), file, line)
    parsed: dict[str, Any] = {}
    for name in (name for name in columns() if name in record):
        try:
            parsed[name] = _value(record[name], _TYPES[name])
        except ValueError as error:
            raise StoreError(
                f"{file}:{line}: column {name!r} holds {record[name]!r}, not {_TYPES[name]}"
            ) from error
    known = set(columns())
    return Row(**parsed, extra={k: v for k, v in record.items() if k not in known})


def _value(text: str, annotation: str) -> Any:
    optional = annotation.endswith("| None")
    kind = annotation.split(" ")[0]
    if kind == "str":
        return text
    if text == "":
        if optional:
            return None
        raise ValueError("empty")
    if kind == "bool":
        if text not in ("true", "false"):
            raise ValueError("neither true nor false")
        return text == "true"
    value = int(text) if kind == "int" else float(text)
    if value != value or value in (float("inf"), float("-inf")):
        raise ValueError("not finite")
    return value


def _format(name: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        if _GROUPS[name] == SCORE and not name.endswith("threshold"):
            return f"{value:.6f}"
        return f"{value:.9g}" if name.endswith("threshold") else f"{value:.6g}"
    return str(value)


def newest(a: Row, b: Row) -> Row:
    """Of two rows of one cell, the one that started later."""
    return b if b.started > a.started else a


def merge(target: ResultStore, sources: Sequence[ResultStore]) -> list[tuple[Row, Row]]:
    """Bring the rows of other folders into one; of the same cell the newest stays.

    Returns:
        pairs (kept, dropped) of cells that two folders had with different scores.
    """
    merged = {row.cell: row for row in target.rows()}
    conflicts = []
    for source in sources:
        for row in source.rows():
            if row.cell not in merged:
                merged[row.cell] = row
                continue
            old = merged[row.cell]
            kept = newest(old, row)
            merged[row.cell] = kept
            scores = columns(SCORE)
            if any(getattr(old, s) != getattr(row, s) for s in scores):
                conflicts.append((kept, old if kept is row else row))
    by_file: dict[Path, list[Row]] = {}
    for row in merged.values():
        by_file.setdefault(target.file(row.dataset, row.method), []).append(row)
    for file, rows in by_file.items():
        write_csv(file, sort_rows(rows))
    return conflicts
