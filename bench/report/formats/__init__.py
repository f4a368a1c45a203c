"""Tables as text: each module of this folder writes one format, which is called as the module."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING

from bench.errors import ConfigError, nearest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.report.grid import Document

NOTHING = "–"
"""In a cell without text."""


def formats() -> list[str]:
    """Names of the formats, sorted."""
    return sorted(module.name for module in iter_modules(__path__))


def checked_format(name: str) -> str:
    """The name of a format.

    Raises:
        ConfigError: there is no such module.
    """
    if name not in formats():
        raise ConfigError(f"--format {name}: no such format; {nearest(name, formats())}")
    return name


def render(documents: Sequence[Document], format: str) -> str:
    """The documents in a format, with a line break at the end.

    Raises:
        ConfigError: there is no such format.
    """
    return str(import_module(f"{__name__}.{checked_format(format)}").render(documents))
