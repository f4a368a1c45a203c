"""Names of plugins, cheaply; one plugin by name, imported."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

KINDS = ("methods", "datasets")


def builtin_root() -> Path:
    """The folder that holds the built-in plugins: the wheel's copy, else the checkout."""
    package = Path(__file__).parent
    carried = package / "builtin"
    return carried if carried.is_dir() else package.parent


def plugin_path(kind: str, own: Iterable[str]) -> list[str]:
    """Folders searched for `bench.plugins.<kind>`, in order."""
    folders = [builtin_root() / kind]
    project = os.environ.get("BENCH_PROJECT")
    if project:
        folders.append(Path(project) / kind)
    unique = dict.fromkeys(str(folder.resolve()) for folder in folders if folder.is_dir())
    return [*own, *unique]
