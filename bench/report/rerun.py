"""The command that makes one cell again, from the command that its row records."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING

from bench.rows.row_values import MEASURED

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bench.rows.row import Row

_GRID = ("--method", "-m", "--dataset", "-d", "--category", "-c", "--seeds", "--seed", "--results")
"""Options of `bench run` that say which cells, and where to: the row's own stand for them."""
_SWITCHES = (
    *("--random-weights", "--save-maps", "--no-save-maps", "--allow-leaks", "--no-allow-leaks"),
    *("--in-process", "--force", "--stale", "--dry-run"),
)


def rerun(row: Row, results: str = "", categories: Sequence[str] = ()) -> str:
    """`bench run` for this cell alone, with the other options as they were recorded.

    Args:
        row: of the cell.
        categories: more cells of its method, data set and seed; none: the row's own.
        results: ` --results FOLDER`, where it is not the configured one.

    Returns:
        the command; empty where the row was not measured or records no command.
    """
    if row.kind != MEASURED or not row.command:
        return ""
    try:
        words = shlex.split(row.command)
    except ValueError:
        return row.command
    if words[:2] != ["bench", "run"]:
        # A table decides the parameters of its cells; with --run it runs what is not there.
        return row.command
    wanted = ",".join(categories or [row.category])
    cell = ["-m", row.method, "-d", row.dataset, "-c", wanted, "--seed", str(row.seed)]
    kept = [word for option in _options(words[2:]) if _applies(option, row) for word in option]
    return shlex.join(["bench", "run", *cell, *kept, "--force"]) + results


def _options(words: Sequence[str]) -> Iterator[list[str]]:
    """Each option with its value."""
    rest = iter(words)
    for word in rest:
        if word in _SWITCHES or (word.startswith("--") and "=" in word):
            yield [word]
        elif word.startswith("-") and not word.startswith("--") and len(word) > 2:
            yield [word[:2], word[2:]]
        else:
            yield [word, *([value] if (value := next(rest, None)) is not None else [])]


def _applies(option: Sequence[str], row: Row) -> bool:
    """Whether it is no part of the grid, and no setting of another method or data set."""
    name, _, attached = option[0].partition("=")
    if name in (*_GRID, "--force", "--stale", "--dry-run"):
        return False
    if name != "--set":
        return True
    key = (attached or option[-1]).partition("=")[0].strip()
    owner, _, field = key.rpartition(".")
    return owner in (row.method, row.dataset) or (not owner and field in json.loads(row.params))
