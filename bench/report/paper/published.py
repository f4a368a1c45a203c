"""Numbers that papers printed: looked up by key, with their sources and known contradictions."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any

from bench.disk import read_text
from bench.errors import ConfigError
from bench.settings.shipped import builtin_root

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

KEY = (
    "paper",
    "table",
    "method",
    "variant",
    "encoder",
    "dataset",
    "category",
    "metric",
    "input_size",
)
"""Columns that name one number."""

Selector = Mapping[str, Any]
"""Columns to values; a list stands for any of its values."""

TEXTURES = ("carpet", "grid", "leather", "tile", "wood")
OBJECTS = (
    "bottle",
    "cable",
    "capsule",
    "hazelnut",
    "metal_nut",
    "pill",
    "screw",
    "toothbrush",
    "transistor",
    "zipper",
)
UNREGISTERED = ("grid", "metal_nut", "screw")
MEANS: dict[str, tuple[str, ...]] = {
    "mean": TEXTURES + OBJECTS,
    "mean_texture": TEXTURES,
    "mean_object": OBJECTS,
    "mean_registered12": tuple(c for c in TEXTURES + OBJECTS if c not in UNREGISTERED),
    "mean_unregistered4": (*UNREGISTERED, "hazelnut"),
}
"""Which MVTec categories each mean is over. PyramidFlow's Tables 3 and 5 have sets of their own."""

_HEADS = {
    "mean_texture": "mean of textures",
    "mean_object": "mean of objects",
    "mean_registered12": "mean of 12 registered",
    "mean_unregistered4": "mean of 4 unregistered",
    "any": "value",
}


def head_of(category: str) -> str:
    """The head of a column: a category, or what a mean is over."""
    return _HEADS.get(category, category)


@dataclass(frozen=True)
class PublishedNumber:
    """One printed number; `value` and `std` as printed, in `unit` (scores in percent)."""

    paper: str
    table: str
    source_kind: str  # seed (the paper's own text), paper, docs, repo
    method: str
    variant: str
    encoder: str
    dataset: str
    category: str
    metric: str
    value: str
    std: str
    unit: str
    input_size: str
    notes: str

    @property
    def key(self) -> tuple[str, ...]:
        """What names this number."""
        return tuple(getattr(self, name) for name in KEY)

    @property
    def number(self) -> float:
        """The value as a number, in `unit`."""
        return float(self.value)


@dataclass(frozen=True)
class Note:
    """A contradiction inside or between papers."""

    id: str
    text: str
    rows: tuple[Selector, ...] = ()
    tables: tuple[str, ...] = ()  # "paper/table"


@dataclass(frozen=True)
class PublishedNumbers:
    """Every published number, with papers and notes."""

    numbers: tuple[PublishedNumber, ...]
    papers: Mapping[str, Mapping[str, str]]
    notes: tuple[Note, ...]

    @cached_property
    def _by_table(self) -> dict[tuple[str, str], list[PublishedNumber]]:
        grouped: dict[tuple[str, str], list[PublishedNumber]] = {}
        for number in self.numbers:
            grouped.setdefault((number.paper, number.table), []).append(number)
        return grouped

    def of_table(self, paper: str, table: str) -> list[PublishedNumber]:
        """The numbers that one table prints."""
        return self._by_table.get((paper, table), [])

    def find(self, paper: str, table: str, selector: Selector) -> list[PublishedNumber]:
        """The numbers of one table that a selector matches."""
        return [n for n in self.of_table(paper, table) if matches(n, selector)]

    def notes_of(self, number: PublishedNumber) -> list[str]:
        """Ids of the notes on a number."""
        return [n.id for n in self.notes if any(matches(number, s) for s in n.rows)]

    def is_ranked(self, number: PublishedNumber) -> bool:
        """Whether it may be best: not a misprint, and the metric that its column says."""
        return not any(
            selector.get("ranked") is False and matches(number, selector)
            for note in self.notes
            for selector in note.rows
        )

    def notes_of_table(self, paper: str, table: str) -> list[str]:
        """Ids of the notes on a table as a whole."""
        return [n.id for n in self.notes if f"{paper}/{table}" in n.tables]

    def note(self, id: str) -> Note:
        """The note of that id."""
        return next(n for n in self.notes if n.id == id)

    def categories(self, dataset: str) -> list[str]:
        """Categories and means that are printed for a data set."""
        return list(dict.fromkeys(n.category for n in self.numbers if n.dataset == dataset))


def matches(number: PublishedNumber, selector: Selector) -> bool:
    """Whether every column of the selector agrees."""
    for column, wanted in selector.items():
        if column == "ranked":
            continue
        value = getattr(number, column)
        if value not in wanted if isinstance(wanted, list) else value != wanted:
            return False
    return True


def load_published(folder: Path | None = None) -> PublishedNumbers:
    """The shipped numbers, or those of a folder with the same three files.

    Raises:
        ConfigError: a file that is missing or cannot be read, an unknown column.
    """
    folder = folder or builtin_root() / "results" / "published"
    known = [f.name for f in fields(PublishedNumber)]
    numbers = []
    for line, record in enumerate(_records(folder / "published.csv", known), 2):
        try:
            float(record["value"])
        except ValueError as error:
            raise ConfigError(
                f"{folder / 'published.csv'}:{line}: value {record['value']!r} is not a number"
            ) from error
        numbers.append(PublishedNumber(**{name: record[name] for name in known}))
    papers = {r["key"]: r for r in _records(folder / "papers.csv", ["key", "title"])}
    return PublishedNumbers(tuple(numbers), papers, tuple(_notes(folder / "notes.toml", known)))


def _records(file: Path, needed: Sequence[str]) -> Iterable[dict[str, str]]:
    try:
        records = list(csv.DictReader(io.StringIO(read_text(file), newline="")))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} cannot be read: {error}; reinstall or restore it") from error
    missing = [name for name in needed if not records or name not in records[0]]
    if missing:
        raise ConfigError(f"{file}:1: column {missing[0]!r} is missing")
    return records


def _notes(file: Path, known: Sequence[str]) -> Iterable[Note]:
    try:
        parsed = tomllib.loads(read_text(file))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{file} cannot be read: {error}") from error
    for entry in parsed.get("note", []):
        for selector in entry.get("rows", ()):
            for column in selector:
                if column not in known and column != "ranked":
                    raise ConfigError(f"{file}: note {entry['id']}: unknown column {column!r}")
        yield Note(
            entry["id"],
            entry["text"],
            tuple(entry.get("rows", ())),
            tuple(entry.get("tables", ())),
        )
