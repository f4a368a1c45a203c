"""What differs between two rows of one cell besides their numbers: code, weights, data, machine."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.errors import StoreError

if TYPE_CHECKING:
    from pathlib import Path

    from bench.rows.row import Row

PARTS = ("code", "weights", "data", "environment", "protocol")


@dataclass(frozen=True)
class Change:
    """One part that may differ between two rows.

    Attributes:
        part: one of `PARTS`.
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
    """Every part of `PARTS`, in order, with what differs in it."""
    found = {
        "code": _code(old, new),
        "weights": _named(old, new, {"weights": "", "pretrained": ""}),
        "data": _named(old, new, {"data": "files", "dataset_version": "adapter version"}),
        "environment": _environment(old, new, environments),
        "protocol": _named(old, new, {"protocol_fields": "", "speed": "speed"}),
    }
    return [Change(part, found[part]) for part in PARTS]


def _named(old: Row, new: Row, names: dict[str, str]) -> tuple[str, ...]:
    return tuple(
        f"{label or name} {old.key(name)} -> {new.key(name)}"
        for name, label in names.items()
        if old.key(name) != new.key(name)
    )


def _code(old: Row, new: Row) -> tuple[str, ...]:
    names = {"method_version": "method version", "code": f"files of {new.method}", "bench": "bench"}
    details = list(_named(old, new, names))
    if old.commit != new.commit or not new.commit:
        details.append(f"commit {old.commit or 'unknown'} -> {new.commit or 'unknown'}")
    elif new.commit.endswith("-dirty"):
        # Two dirty trees of one commit may hold different code.
        details.append(f"both from {new.commit}: uncommitted changes, which may differ")
    return tuple(details)


def _environment(old: Row, new: Row, environments: Environments) -> tuple[str, ...]:
    details = list(_named(old, new, {"device": "", "threads": ""}))
    if old.env != new.env:
        before, after = environments.find(old.env), environments.find(new.env)
        if before is None or after is None:
            details.append(f"env {old.env or 'unknown'} -> {new.env or 'unknown'}")
        else:
            details += [
                f"{key} {before.get(key, 'none')} -> {after.get(key, 'none')}"
                for key in sorted(before.keys() | after.keys())
                if before.get(key) != after.get(key) and key != "device"
            ]
    return tuple(details)
