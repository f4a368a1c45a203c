"""What differs between two rows of one cell besides their numbers: code, weights, data, machine."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.errors import StoreError
from bench.rows.column import ORIGINS
from bench.rows.row import COLUMNS

if TYPE_CHECKING:
    from pathlib import Path

    from bench.rows.column import Origin
    from bench.rows.row import Row


@dataclass(frozen=True)
class Change:
    """One part that may differ between two rows.

    Attributes:
        part: one of `ORIGINS`.
        details: what differs, "NAME OLD -> NEW" each; empty: the same.
    """

    part: str
    details: tuple[str, ...]


class Environments:
    """The descriptions of environments that rows name by key, from the `env/` of folders."""

    def __init__(self, folders: list[Path]) -> None:
        self.folders = folders

    def find(self, key: str) -> dict[str, str] | None:
        """Packages and machine of one environment; None where no folder describes it.

        Raises:
            StoreError: a description that is not JSON.
        """
        for folder in self.folders:
            file = folder / "env" / f"{key}.json"
            if key and file.is_file():
                try:
                    found: dict[str, str] = json.loads(file.read_text(encoding="utf-8"))
                except (OSError, ValueError) as error:
                    raise StoreError(f"{file} cannot be read: {error}") from error
                return found
        return None


def changes(old: Row, new: Row, environments: Environments) -> list[Change]:
    """Each of `ORIGINS`, with what differs in it."""
    more = {"code": _commit(old, new), "environment": _packages(old, new, environments)}
    return [
        Change(origin, (*_named(old, new, origin), *more.get(origin, ()))) for origin in ORIGINS
    ]


def _named(old: Row, new: Row, origin: Origin) -> list[str]:
    return [
        f"{column.label or name} {old.key(name)} -> {new.key(name)}"
        for name, column in COLUMNS.items()
        if column.origin == origin and old.key(name) != new.key(name)
    ]


def _commit(old: Row, new: Row) -> list[str]:
    if old.commit != new.commit or not new.commit:
        return [f"commit {old.commit or 'unknown'} -> {new.commit or 'unknown'}"]
    if new.commit.endswith("-dirty"):
        # Two dirty trees of one commit may hold different code.
        return [f"both from {new.commit}: uncommitted changes, which may differ"]
    return []


def _packages(old: Row, new: Row, environments: Environments) -> list[str]:
    if old.env == new.env:
        return []
    before, after = environments.find(old.env), environments.find(new.env)
    if before is None or after is None:
        return [f"env {old.env or 'unknown'} -> {new.env or 'unknown'}"]
    return [
        f"{key} {before.get(key, 'none')} -> {after.get(key, 'none')}"
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key) and key != "device"
    ]
