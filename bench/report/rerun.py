"""The command that makes a row again, from the row's own fields."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Any

from bench.rows.row_values import MEASURED
from bench.rows.settings import changed, precision_of
from bench.settings.config import parse_value
from bench.settings.precision import FULL

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from bench.rows.row import Row


def rerun(row: Row, results: str = "", categories: Sequence[str] = ()) -> str:
    """`bench run` for the cell alone, with every setting that is not a default.

    Where the data lies, a row does not say; of weights from a file it has the hash: `FILE` stands
    for them.

    Args:
        row: of the cell.
        categories: more cells of its method, data set, settings and seed; none: the row's own.
        results: ` --results FOLDER`, where it is not the configured one.

    Returns:
        the command; empty where the row was not measured.
    """
    if row.kind != MEASURED:
        return ""
    wanted = ",".join(categories or [row.category])
    cell = ["-m", row.method, "-d", row.dataset, "-c", wanted, "--seed", str(row.seed)]
    return shlex.join(["bench", "run", *cell, *_options(row), "--force"]) + results


def _options(row: Row) -> Iterator[str]:
    yield from ("--protocol", row.protocol)
    yield from _set(row.method, _named(row, changed(row, "params")))
    yield from _set(row.dataset, changed(row, "dataset_params"))
    if row.pretrained == "random":
        yield "--random-weights"
    elif row.pretrained.startswith("file:"):
        yield from ("--weights", "FILE")
    if precision_of(row) != FULL:
        yield from ("--precision", row.precision)
    if row.speed:
        yield from ("--speed", row.speed.split()[0])
    if row.threads is not None:
        yield from ("--threads", str(row.threads))
    if row.n_leaked:
        yield "--allow-leaks"


def _named(row: Row, params: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters; a folder of auxiliary pictures by its name, without its digest."""
    names = dict(part.split("=", 1) for part in row.auxiliary.split(", ") if part)
    folders = {field: name.partition("@")[0] for field, name in names.items() if "@" in name}
    return {**params, **folders}


def _set(name: str, values: Mapping[str, Any]) -> Iterator[str]:
    for key, value in sorted(values.items()):
        is_text = isinstance(value, str) and parse_value(value) == value
        text = value if is_text else json.dumps(value)
        yield from ("--set", f"{name}.{key}={text}")
