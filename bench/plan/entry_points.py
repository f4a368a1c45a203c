"""Entry points of installed packages, and the files that they name, without importing any."""

from __future__ import annotations

import importlib.machinery
import importlib.metadata
import sys
from functools import lru_cache
from pathlib import Path


def entry_points(group: str) -> tuple[importlib.metadata.EntryPoint, ...]:
    """Those of a group, read again where the search path or one of its folders has changed."""
    return _entry_points(group, tuple((entry, _changed_ns(entry)) for entry in sys.path))


@lru_cache(maxsize=8)
def _entry_points(
    group: str, _path: tuple[tuple[str, int], ...]
) -> tuple[importlib.metadata.EntryPoint, ...]:
    return tuple(importlib.metadata.entry_points(group=group))


def _changed_ns(entry: str) -> int:
    """When an entry of the search path was last written; 0 where there is none."""
    try:
        return Path(entry).stat().st_mtime_ns
    except OSError:
        return 0


def module_file(module: str) -> Path | None:
    """Source file of a dotted module, found without importing its parents."""
    search: list[str] | None = None
    spec = None
    for depth, _ in enumerate(module.split(".")):
        part = ".".join(module.split(".")[: depth + 1])
        spec = importlib.machinery.PathFinder.find_spec(part, search)
        if spec is None:
            return None
        search = list(spec.submodule_search_locations or [])
    return Path(spec.origin) if spec is not None and spec.origin else None
