"""`bench check`: the regression gate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from bench.rows.check import check as compare_folders
from bench.rows.check_output import as_json, as_junit, as_text
from bench.rows.tolerances import Tolerances
from bench.settings.config import load_settings

Format = Literal["text", "json", "junit"]
WRITERS = {"text": as_text, "json": as_json, "junit": as_junit}


def check(
    baseline: Annotated[Path, typer.Option(help="Folder of the rows to compare with.")],
    results: Annotated[Path | None, typer.Option(help="Folder of the results.")] = None,
    format_: Annotated[
        Format, typer.Option("--format", help="For people, programs, or CI servers.")
    ] = "text",
    out: Annotated[
        Path | None, typer.Option(help="Write it to a file, and the text to the terminal.")
    ] = None,
    complete: Annotated[
        bool, typer.Option("--complete", help="Fail where a cell of the baseline is missing.")
    ] = False,
    new_seeds: Annotated[
        bool,
        typer.Option(
            "--new-seeds", help="Compare other seeds than the baseline's too, by their means."
        ),
    ] = False,
) -> None:
    """Compare the results with a baseline; tolerances: the table `check` of bench.toml.

    Exit code 0: every compared cell agrees. 1: scores, parameters or FLOPs changed, up or down.
    2: bad input. 3: no cell is in both folders. Speed is reported, never gated.
    """
    settings = load_settings()
    where = str(settings.file or "bench.toml")
    tolerances = Tolerances.from_table(settings.check, where)
    folder = settings.results_folder(results)
    outcome = compare_folders(baseline, folder, tolerances, new_seeds)
    text = WRITERS[format_](outcome, complete)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text + "\n", encoding="utf-8")
        text = as_text(outcome, complete)
    typer.echo(text)
    raise typer.Exit(outcome.exit_code(complete))
