"""One CSV file of rows: read with line and column in every complaint, replaced in one step."""

from __future__ import annotations

import csv
import io
import math
import re
import sys
from dataclasses import MISSING, dataclass, fields, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from bench.disk import read_text, replace_file
from bench.errors import StoreError
from bench.rows.row import COLUMNS, JSON, SCHEMA, Row, newest, succeed
from bench.rows.row_values import TEXT
from bench.rows.schema import upgraded

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

_FIELDS = {f.name: f for f in fields(Row) if f.name in COLUMNS}
_REQUIRED = {n for n, f in _FIELDS.items() if f.default is f.default_factory is MISSING}
_ADDED = {name for name, column in COLUMNS.items() if column.since > 1}
_OPTIONAL = {n for n, f in _FIELDS.items() if str(f.type).endswith("| None")}
_READ = {name: column.values for name, column in COLUMNS.items() if column.values is not TEXT}
SORT = ("dataset", "method", "category", "protocol", "seed", "pretrained", "params", "cell")
_NAME = "[0-9A-Za-z_-]+"
_NAMES = {"cell": _NAME, "env": f"|{_NAME}", "formerly": f"|{_NAME}( {_NAME})*"}
_SHOWN = 60
MEND = "restore the file from version control, or delete the line and make its row again"


def sort_rows(rows: Iterable[Row]) -> list[Row]:
    """In the order of the files: by identity columns."""
    return sorted(rows, key=lambda row: tuple(map(row.key, SORT)))


@dataclass(frozen=True)
class CsvLine:
    """A row as it stands in a file.

    Attributes:
        number: of the line.
        written: the id that stands there; the row has another if it is of an older schema.
    """

    number: int
    row: Row
    written: str


def read_lines(file: Path) -> list[CsvLine]:
    """The rows of one file, each with its line, in the present schema as far as possible.

    Raises:
        StoreError: unreadable, of a newer schema, a missing column, a value of the wrong type, two
            rows of one cell; the message names line and column.
    """
    lines = _records(file)
    # Interned: keyword arguments are found by identity, several times faster for so many columns.
    header = [sys.intern(name) for name in lines[0][1]]
    _check_header(file, header)
    rows = [parse(file, line, header, record) for line, record in lines[1:]]
    seen: dict[str, int] = {}
    for line in rows:
        if line.written in seen:
            raise StoreError(
                f"{file}:{line.number}: cell {line.written} is there already, in line "
                f"{seen[line.written]}; delete one of the two lines"
            )
        seen[line.written] = line.number
    return _one_each(rows)


def read_schemas(file: Path) -> set[str]:
    """The schemas that a file's rows say they are of; cheaper than reading them.

    Raises:
        StoreError: the file cannot be read, or is no table.
    """
    (_, header), *records = _records(file)
    if "schema" not in header:
        return set()
    place = header.index("schema")
    return {record[place] for _, record in records if len(record) > place}


def _records(file: Path) -> list[tuple[int, list[str]]]:
    """The lines of a file as texts, the header first."""
    try:
        text = read_text(file)
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
    return lines


def _one_each(lines: Sequence[CsvLine]) -> list[CsvLine]:
    """One line for each cell: cells that differed by a field at its default alone are one now."""
    found: dict[str, CsvLine] = {}
    for line in lines:
        other = found.get(line.row.cell)
        if other is not None:
            kept, gone = (line, other) if newest(other.row, line.row) is line.row else (other, line)
            line = replace(kept, row=succeed(kept.row, gone.row))
        found[line.row.cell] = line
    return list(found.values())


def write_csv(file: Path, rows: Sequence[Row]) -> None:
    """Replace a file in one step: a reader sees the old or the new one, never a part.

    Raises:
        StoreError: the folder cannot be written, or a number is not finite; what was there is
            kept.
    """
    replace_file(file, as_csv(rows))


def as_csv(rows: Sequence[Row]) -> bytes:
    """The content of a file of these rows.

    Raises:
        StoreError: a number is not finite.
    """
    extra = list(dict.fromkeys(key for row in rows for key in row.extra))
    lines = [[*texts(row), *(row.extra.get(key, "") for key in extra)] for row in rows]
    return _encoded([[*COLUMNS, *extra], *lines])


def _encoded(lines: Iterable[Sequence[str]]) -> bytes:
    buffer = io.StringIO(newline="")
    csv.writer(buffer, lineterminator="\n").writerows(lines)
    # A path on the command line need not be UTF-8; its odd bytes are kept as \\xNN.
    return buffer.getvalue().encode(errors="backslashreplace")


def put_rows(file: Path, rows: Sequence[Row]) -> bool:
    """Put rows into a file of this version; lines that stay are taken over as they are.

    Returns:
        False where that cannot be: a file of another version, or one that is damaged. Nothing was
        done then.

    Raises:
        StoreError: as `write_csv`.
    """
    header = [*COLUMNS]
    try:
        lines = read_text(file).split("\n") if file.exists() else [",".join(header), ""]
        records = list(csv.reader(lines[1:-1], strict=True))
    except (OSError, UnicodeDecodeError, csv.Error):
        return False
    # Fewer records than lines: a value holds an end of line.
    if lines[0].split(",") != header or len(records) != len(lines) - 2 or lines[-1]:
        return False
    place, seed = header.index("cell"), header.index("seed")
    if any(len(r) != len(header) or not r[seed].isdecimal() for r in records):
        return False
    found = {r[place]: (r, line) for r, line in zip(records, lines[1:-1], strict=True)}
    for row in rows:
        old = found.get(row.cell)
        kept = row if old is None else succeed(row, parse(file, 0, header, old[0]).row)
        values = texts(kept)
        found[row.cell] = values, _encoded([values]).decode()[:-1]
    places = [(header.index(name), int if name == "seed" else str) for name in SORT]
    order = sorted(found.values(), key=lambda pair: tuple(kind(pair[0][i]) for i, kind in places))
    replace_file(file, "\n".join([lines[0], *(line for _, line in order), ""]).encode())
    return True


def texts(row: Row) -> list[str]:
    """The values of a row as they stand in a file, those that this version does not know left out.

    Raises:
        StoreError: a number is not finite.
    """
    return [_format(row, name) for name in COLUMNS]


def _check_header(file: Path, header: list[str]) -> None:
    missing = [name for name in COLUMNS if name not in header]
    unknown = [name for name in header if name not in COLUMNS]
    # An older file may lack columns that were added since. One that lacks a column and has another
    # that nobody knows was more likely edited by hand.
    needed = [name for name in missing if name in _REQUIRED]
    missing = [name for name in missing if name not in _ADDED]
    if needed or (missing and unknown):
        raise StoreError(
            f"{file}:1: column {(needed or missing)[0]!r} is missing"
            + (f", and {unknown[0]!r} is unknown" if unknown else "")
            + "; restore the file from version control"
        )
    if len(set(header)) != len(header):
        twice = next(name for name in header if header.count(name) > 1)
        raise StoreError(f"{file}:1: column {twice!r} stands twice; delete one of them")


def _check_schema(file: Path, line: int, version: str) -> None:
    # Few digits: `int` refuses thousands of them with an error of its own.
    known = re.fullmatch("[0-9]{1,9}", version)
    if known and int(version) > SCHEMA:
        raise StoreError(
            f"{file}:{line}: schema {version} is newer than this program's {SCHEMA}; "
            "install a newer flawbench"
        )
    if not known or int(version) < 1:
        raise StoreError(
            f"{file}:{line}: column 'schema' holds {shown(version)}, not 1 to {SCHEMA}; {MEND}"
        )


def parse(file: Path, line: int, header: Sequence[str], values: Sequence[str]) -> CsvLine:
    """One line as a row; `read_lines` says what is refused."""
    if len(values) != len(header):
        raise StoreError(f"{file}:{line}: {len(values)} values for {len(header)} columns; {MEND}")
    record: dict[str, Any] = dict(zip(header, values, strict=True))
    _check_schema(file, line, record.get("schema", ""))
    # They are names of files and folders: others would lead out of theirs.
    for name, pattern in _NAMES.items():
        if name in record and not re.fullmatch(pattern, record[name]):
            raise StoreError(
                f"{file}:{line}: column {name!r} holds {shown(record[name])}, which cannot name a "
                f"file: letters, digits, - and _; {MEND}"
            )
    extra = {name: record.pop(name) for name in header if name not in COLUMNS}
    for name, allowed in _READ.items():
        text = record.get(name)
        if text is None:  # a column added since: its default
            continue
        try:
            record[name] = allowed.read(text) if text or name not in _OPTIONAL else None
        except ValueError as error:
            raise StoreError(
                f"{file}:{line}: column {name!r} holds {shown(text)}, not "
                f"{allowed.expected}; {MEND}"
            ) from error
    row = Row(**record, extra=extra)
    # What `Row.texts` would work out for each of thousands of rows that hold the same.
    if record.keys() >= set(JSON):
        found = dict(zip(header, values, strict=True))
        vars(row)["texts"] = _written(tuple(found[name] for name in JSON))
    return CsvLine(line, upgraded(row), row.cell)


@lru_cache(maxsize=4096)
def _written(values: tuple[str, ...]) -> Mapping[str, str]:
    """The texts of the JSON columns as this version would write them."""
    kinds = {name: COLUMNS[name].values for name in JSON}
    return {n: kinds[n].write(kinds[n].read(text)) for n, text in zip(JSON, values, strict=True)}


def shown(value: str) -> str:
    """A wrong value in a message, cut where it is long."""
    return repr(value if len(value) <= _SHOWN else f"{value[:_SHOWN]}...")


def _format(row: Row, name: str) -> str:
    value = getattr(row, name)
    if value is None:
        return ""
    if isinstance(value, float) and not math.isfinite(value):
        raise StoreError(f"cell {row.cell}: column {name!r} is {value}; not stored")
    return COLUMNS[name].values.write(value)
