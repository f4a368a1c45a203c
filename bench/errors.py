"""The errors that a user is meant to read: what is wrong, where, and what to do."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class BenchError(Exception):
    """An error that the command line prints as one line."""


class ConfigError(BenchError):
    """A setting, option or name that cannot be used."""


class PluginError(BenchError):
    """A method or data set that cannot be found, imported or trusted."""


class DataError(BenchError):
    """Images, masks or folders that are missing, unreadable or inconsistent."""


class StoreError(BenchError):
    """A results file that cannot be read or written."""


class MethodError(BenchError):
    """A method that cannot run with these settings, or whose numbers stopped being finite."""


def counted(count: int, one: str, several: str | None = None) -> str:
    """`1 thread`, `2 threads`."""
    return f"{count} {one if count == 1 else several or f'{one}s'}"


_LISTED = 40
"""More names than these are counted, not listed."""


def nearest(name: str, known: Iterable[str]) -> str:
    """End of an error message: the nearest known name, and all of them, or the first of many."""
    choices = sorted(known)
    close = difflib.get_close_matches(name, choices, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}? " if close else ""
    more = f" and {len(choices) - _LISTED} more" if len(choices) > _LISTED else ""
    return f"{hint}known: {', '.join(choices[:_LISTED]) or 'none'}{more}"
