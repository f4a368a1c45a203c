"""What makes a cell itself: names and versions, and the settings that are not the defaults.

A field that is added later, with a default that changes nothing, therefore renames no cell. A
default that changes takes a new version with it: see `bench.plan.defaults`.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


NAMES = (
    *("method", "method_version", "dataset", "dataset_version"),
    *("category", "seed", "pretrained", "data"),
)
"""Fields of a cell, and columns of its row, that always count."""


_FOLDER = re.compile(r"\A[^@]*@([0-9a-f]{12})\Z")
"""What stands for a folder of pictures: its name on one machine, and the digest of its files."""


def canonical(value: Any) -> str:
    """JSON with sorted keys and no spaces: the same text for the same value."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def digest(value: Any) -> str:
    """What a value is known by: first 12 hex digits of SHA-256 over its canonical JSON."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:12]


def plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """As JSON brings them back: tuples as lists."""
    found: dict[str, Any] = json.loads(json.dumps(values))
    return found


def differing(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The values that are not the default of their field; one without a default counts."""
    return {k: v for k, v in values.items() if k not in defaults or not _same(v, defaults[k])}


def settings_key(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> str:
    """Equal for two sets of settings that mean the same: a field that one lacks has its default."""
    return canonical({**defaults, **differing(values, defaults)})


def cell_id(named: object, protocol_version: int, **settings: Mapping[str, Any]) -> str:
    """What a cell is known by.

    Args:
        named: a cell or a row: it has the fields `NAMES`.
        protocol_version: of the protocol's defaults.
        settings: `params`, `protocol` and whatever else decides a number, each without defaults.
    """
    names = {name: getattr(named, name) for name in NAMES}
    counted = {name: _without_names(values) for name, values in settings.items() if values}
    return digest({**names, "protocol_version": protocol_version, **counted})


def _without_names(values: Mapping[str, Any]) -> dict[str, Any]:
    """With the digest alone of each folder of pictures, whatever it is called here."""
    texts = {k: v for k, v in values.items() if isinstance(v, str)}
    return {**values, **{k: _FOLDER.sub(r"@\1", v) for k, v in texts.items()}}


def _same(value: Any, default: Any) -> bool:
    if isinstance(value, bool) or isinstance(default, bool):
        return value is default
    if isinstance(value, (int, float)) and isinstance(default, (int, float)):
        return value == default  # 4 and 4.0
    return canonical(value) == canonical(default)  # a tuple of the source is a list in JSON
