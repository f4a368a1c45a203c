"""`bench status`, `bench merge`, `bench explain-protocols`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from tabulate import tabulate

from bench.errors import PluginError, StoreError
from bench.plan import discovery
from bench.report.choice.summary import tables
from bench.report.formats import render
from bench.rows.store import ResultStore
from bench.rows.store import merge as merge_stores
from bench.rows.text import counted
from bench.settings.config import load_settings


def status(
    results: Annotated[Path | None, typer.Option(help="Folder of the results.")] = None,
    stale: Annotated[
        bool, typer.Option("--stale", help="Only rows whose method's code has changed since.")
    ] = False,
    cells: Annotated[bool, typer.Option("--cells", help="One line for each cell.")] = False,
) -> None:
    """What the results folder holds: tables, failures, rows made by other code."""
    settings = load_settings()
    folder = settings.results_folder(results)
    rows = ResultStore(folder).rows()
    code = {method: _code(method) for method in {row.method for row in rows}}
    old = [row for row in rows if row.code != code[row.method]]
    failures = _failures(folder)
    if stale:
        rows = old
    if not rows and not failures:
        what = "no stale row" if stale else "no row yet; try `bench run --method padim`"
        typer.echo(f"{folder}: {what}")
        return
    if cells:
        lines = [[r.cell, r.method, f"{r.dataset}/{r.category}", r.seed, r.protocol] for r in rows]
        typer.echo(tabulate(lines, ["cell", "method", "category", "seed", "protocol"]))
    elif rows:
        typer.echo(render(tables(rows, settings.without_scores()), "txt"), nl=False)
    if old and not stale:
        typer.echo(
            f"\n{len(old)} of {len(rows)} rows were made by other code: bench status --stale"
        )
    for failure, first in failures:
        typer.echo(f"FAILED {': '.join(first)}\n       log: {failure}")


def _failures(folder: Path) -> list[tuple[Path, list[str]]]:
    """Logs of failed cells with their first two lines, of methods that are still there."""
    known = discovery.sources("methods")
    found = []
    for file in sorted((folder / "failures").glob("*.txt")):
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()[:2]
        if lines and lines[0].split(" ")[0] in known:
            found.append((file, lines))
    return found


def _code(method: str) -> str:
    """The code hash of the tree's method; empty where it is gone."""
    try:
        return discovery.describe("methods", method).code()
    except PluginError:
        return ""


def merge(
    folders: Annotated[list[Path], typer.Argument(help="Results folders of other machines.")],
    results: Annotated[Path | None, typer.Option(help="Folder to merge into.")] = None,
) -> None:
    """Bring rows of other folders into the results; of one cell the newest row stays."""
    target = ResultStore(results or load_settings().paths.results)
    for folder in folders:
        _refuse_without_rows(folder)
    with target.lock():
        before = len(target.rows())
        conflicts = merge_stores(target, [ResultStore(folder) for folder in folders])
        after = len(target.rows())
    for kept, dropped in conflicts:
        typer.echo(
            f"{kept.cell} {kept.method} {kept.dataset}/{kept.category}: kept the row of "
            f"{kept.started}, dropped that of {dropped.started}, whose scores differ"
        )
    for shard in _missing_shards(folders):
        typer.echo(f"shard {shard} is in none of these folders")
    typer.echo(
        f"{counted(after - before, 'row')} added, {len(conflicts)} differing, {after} in all"
    )


def _missing_shards(folders: list[Path]) -> list[str]:
    """Parts of a plan that should be there too, by what the folders of the others say."""
    held = {shard for folder in folders if (shard := ResultStore(folder).shard())}
    counts = {int(shard.partition("/")[2]) for shard in held}
    every = [f"{index}/{count}" for count in sorted(counts) for index in range(1, count + 1)]
    return [shard for shard in every if shard not in held]


def _refuse_without_rows(folder: Path) -> None:
    """Refuse what holds no results files; a level too low or too high is told.

    Raises:
        StoreError: says what to name instead.
    """
    if not folder.is_dir():
        raise StoreError(f"{folder} is not a folder")
    if ResultStore(folder).files() or ResultStore(folder).shard():  # a shard may have no cell
        return
    below = [f for f in sorted(folder.iterdir()) if f.is_dir() and ResultStore(f).files()]
    hint = "rows lie in FOLDER/DATASET/METHOD.csv"
    if any(folder.glob("*.csv")):
        hint = f"its CSV files lie a level too high; did you mean {folder.resolve().parent}?"
    elif below:
        hint = f"did you mean {below[0]}?"
    raise StoreError(f"{folder} holds no rows; {hint}")


def explain_protocols() -> None:
    """The same ranking under the evaluators that papers used, in percent: why numbers differ."""
    from bench.evaluate.explain import explain_protocols as explain

    typer.echo(explain())
