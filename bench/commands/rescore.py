"""`bench rescore`: evaluate kept maps again, without a training."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from tabulate import tabulate

from bench.commands.options import find_row, split
from bench.errors import StoreError
from bench.report.choice.quantities import SCORES
from bench.rows.store import ResultStore
from bench.rows.text import counted
from bench.settings.config import load_settings

if TYPE_CHECKING:
    from bench.run.rescoring import Rescored


def rescore(
    cell: Annotated[
        list[str] | None,
        typer.Option("--cell", help="A cell, or the start of one; else all with kept maps."),
    ] = None,
    results: Annotated[Path | None, typer.Option(help="Folder of the results.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print; change no row.")] = False,
) -> None:
    """Evaluate the maps that `bench run --keep-maps` kept again, by the present evaluator.

    The row keeps its cell and gets new scores, the evaluator's version, and the largest error that
    16 bits can have made in each.
    """
    from bench.run.kept_maps import FOLDER
    from bench.run.rescoring import rescore as rescored

    settings = load_settings()
    folder = settings.results_folder(results)
    store = ResultStore(folder)
    with store.lock():
        rows = store.rows()
        kept = [row for row in rows if (store.artifacts(row) / FOLDER).is_dir()]
        chosen = [find_row(rows, text, folder) for text in split(cell)] or kept
        if not chosen:
            raise StoreError(f"{folder} holds no kept maps; `bench run --keep-maps` keeps them")
        for row in chosen:
            found = rescored(row, store.artifacts(row), settings.run.map_budget_mb)
            typer.echo(_text(found))
            if not dry_run:
                store.put(found.new)
    typer.echo(f"\n{counted(len(chosen), 'row')} {'unchanged' if dry_run else 'rescored'}")


def _text(found: Rescored) -> str:
    """The scores before and after, with the bounds of their errors."""
    old, new = found.old, found.new
    lines = [
        [name, getattr(old, name), value, found.bounds.get(name, 0.0)]
        for name in SCORES
        if (value := getattr(new, name)) is not None
    ]
    head = f"\n{new.cell} {new.method} {new.dataset}/{new.category} seed {new.seed}"
    table = tabulate(lines, ["metric", "before", "now", "error at most"], floatfmt=".6g")
    return f"{head}\n{table}"
