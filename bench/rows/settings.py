"""What two rows must share to be compared, as text that is equal where their settings are.

A row from before a field was added has the field's default: it is not told apart from others that
name it.
"""

from __future__ import annotations

import json
import os
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from bench.plan.defaults import known_defaults, protocol_defaults
from bench.plan.identity import settings_key
from bench.settings.precision import FULL

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bench.plan.discovery import Kind
    from bench.rows.row import Row


def params_key(row: Row) -> str:
    """Of the method's parameters."""
    return _key("methods", row.method, row.method_version, row.texts["params"], _project())


def options_key(row: Row) -> str:
    """Of the data set's options."""
    text = row.texts["dataset_params"]
    return _key("datasets", row.dataset, row.dataset_version, text, _project())


def protocol_key(row: Row) -> str:
    """Of the protocol's fields."""
    return _protocol_key(row.texts["protocol_fields"])


@lru_cache(maxsize=4096)
def _protocol_key(fields: str) -> str:
    return settings_key(json.loads(fields), protocol_defaults())


def precision_of(row: Row) -> str:
    """Of products and convolutions; one that was not recorded is the default."""
    return row.precision or FULL


def defaults_of(kind: Kind, name: str, version: int) -> Mapping[str, Any] | None:
    """`known_defaults`, kept for each project: thousands of rows ask the same."""
    return _known(kind, name, version, _project())


def _project() -> str:
    """What decides which plugins there are."""
    return os.environ.get("BENCH_PROJECT", "")


@lru_cache(maxsize=256)
def _known(kind: Kind, name: str, version: int, _project: str) -> Mapping[str, Any] | None:
    return known_defaults(kind, name, version)


@lru_cache(maxsize=4096)
def _key(kind: Kind, name: str, version: int, text: str, project: str) -> str:
    return settings_key(json.loads(text), _known(kind, name, version, project) or {})
