"""When two rows have the same settings: the rule of a cell's identity, that defaults do not count.

A field that a row lacks was added since, and had its default. Where nobody here knows that (a
plugin of another machine, a field of a newer version), it counts as soon as rows differ in it.
"""

from __future__ import annotations

import os
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from bench.plan.defaults import known_defaults, protocol_defaults
from bench.plan.identity import canonical, differing, settings_key
from bench.settings.precision import FULL

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from bench.plan.discovery import Kind
    from bench.rows.row import Row

SETTINGS = ("params", "dataset_params", "protocol_fields")
"""Columns of settings, each with fields of its own."""


class Likeness:
    """The settings of some rows, each with the fields that it lacks."""

    def __init__(self, rows: Iterable[Row]) -> None:
        seen: dict[tuple[str, tuple[str, int]], dict[str, Row]] = {}
        for row in rows:
            for column in SETTINGS:
                seen.setdefault(_owner(row, column), {})[row.texts[column]] = row
        self._idle = {
            (column, plugin): _idle([getattr(row, column) for row in found.values()])
            for (column, plugin), found in seen.items()
            if len(found) > 1
        }
        self._keys: dict[tuple[tuple[str, tuple[str, int]], str], str] = {}

    def settings(self, row: Row, column: str) -> dict[str, Any]:
        """Every field of a column of settings, as far as its default is known or it counts."""
        return {**defaults_in(row, column), **self._counting(row, column)}

    def key(self, row: Row, column: str, without: tuple[str, ...] = ()) -> str:
        """Text that is equal where the settings of a column are.

        Args:
            without: fields in which rows may differ.
        """
        known = (_owner(row, column), row.texts[column])
        if known not in self._keys or without:
            values = {k: v for k, v in self._counting(row, column).items() if k not in without}
            defaults = {k: v for k, v in defaults_in(row, column).items() if k not in without}
            text = settings_key(values, defaults)
            if without:
                return text
            self._keys[known] = text
        return self._keys[known]

    def _counting(self, row: Row, column: str) -> Mapping[str, Any]:
        values: Mapping[str, Any] = getattr(row, column)
        idle = self._idle.get(_owner(row, column), set()) - defaults_in(row, column).keys()
        return {k: v for k, v in values.items() if k not in idle} if idle else values


def _idle(sets: list[Mapping[str, Any]]) -> set[str]:
    """Fields that some sets lack, and that have one value in all others."""
    values: dict[str, list[str]] = {}
    for each in sets:
        for name, value in each.items():
            values.setdefault(name, []).append(canonical(value))
    return {n for n, found in values.items() if len(found) < len(sets) and len({*found}) == 1}


def _owner(row: Row, column: str) -> tuple[str, tuple[str, int]]:
    """A column of settings, and whose fields it holds."""
    owners = {
        "params": (row.method, row.method_version),
        "dataset_params": (row.dataset, row.dataset_version),
    }
    return column, owners.get(column, ("", 0))


def changed(row: Row, column: str) -> dict[str, Any]:
    """The settings of a column that are not at their defaults, as far as these are known."""
    return differing(getattr(row, column), defaults_in(row, column))


def defaults_in(row: Row, column: str) -> Mapping[str, Any]:
    """Of the fields that a column of settings holds, as far as they are known."""
    if column == "protocol_fields":
        return protocol_defaults()
    kind: Kind = "methods" if column == "params" else "datasets"
    return defaults_of(kind, *_owner(row, column)[1]) or {}


def precision_of(row: Row) -> str:
    """Of products and convolutions; one that was not recorded is the default."""
    return row.precision or FULL


def defaults_of(kind: Kind, name: str, version: int) -> Mapping[str, Any] | None:
    """`known_defaults`, kept for each project: thousands of rows ask the same."""
    return _known(kind, name, version, os.environ.get("BENCH_PROJECT", ""))


@lru_cache(maxsize=256)
def _known(kind: Kind, name: str, version: int, _project: str) -> Mapping[str, Any] | None:
    return known_defaults(kind, name, version)
