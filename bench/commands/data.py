"""`bench data verify`: what lies on disk, against what was published."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.commands.options import pairs
from bench.plan import discovery
from bench.plan.cells import split_overrides
from bench.plan.request import open_dataset
from bench.settings.config import load_settings

app = typer.Typer(rich_markup_mode=None, help="Data sets on disk.", no_args_is_help=True)


@app.callback()
def data() -> None:
    """Data sets on disk."""


@app.command("verify")
def verify(
    dataset: Annotated[str, typer.Argument(help="Name of a data set.")],
    data_root: Annotated[Path | None, typer.Option(help="Folder of the data set.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="NAME.key=value, an option of the data set.")
    ] = None,
) -> None:
    """Check counts, masks and files of a data set; exit code 1 if something is odd."""
    from bench.files.verify import verify as check

    plugin = discovery.describe("datasets", dataset)
    overrides = split_overrides(pairs(set_), [plugin])[dataset]
    found, _ = open_dataset(load_settings(), plugin, overrides, data_root)
    found.prepare(found.categories())
    report = check(found, dataset)
    for line in report.lines:
        typer.echo(line)
    raise typer.Exit(0 if report.ok else 1)
