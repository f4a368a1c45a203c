"""`bench plot`: figures from rows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.commands.run import split
from bench.config import load_settings
from bench.errors import ConfigError, StoreError, nearest
from bench.report.published import load_published
from bench.report.quantities import SCORES, published_metrics
from bench.store import ResultStore, replace_file

app = typer.Typer(help="Figures from rows.", no_args_is_help=True)


@app.callback()
def plot() -> None:
    """Figures from rows."""


@app.command("complexity")
def complexity(
    out: Annotated[Path, typer.Option(help="Folder for the figures and the table.")] = Path(
        "plots"
    ),
    metric: Annotated[str, typer.Option(help="Score on the vertical axis.")] = "image_auroc",
    datasets: Annotated[
        list[str] | None, typer.Option("--datasets", "--dataset", "-d", help="All if none.")
    ] = None,
    protocol: Annotated[str | None, typer.Option(help="Rows of this protocol only.")] = None,
    results: Annotated[Path | None, typer.Option(help="Folder of the results.")] = None,
) -> None:
    """Table of costs; score against speed; memory against input size; PyramidFlow's memory saving.

    Devices and speed protocols are never mixed: one table and one figure for each.
    """
    settings = load_settings()
    known = [*SCORES, *published_metrics(settings.protocols)]
    if metric not in known:
        raise ConfigError(f"unknown score {metric!r}; {nearest(metric, known)}")
    folder = results or settings.paths.results
    wanted = split(datasets)
    rows = [
        row
        for row in ResultStore(folder).rows()
        if (not wanted or row.dataset in wanted) and protocol in (None, row.protocol)
    ]
    if not any(row.speed for row in rows):
        raise StoreError(
            f"{folder} holds no row with timings to plot; run: bench run -m padim,pyramidflow"
        )
    from bench.report.complexity import complexity_table, cost_groups, memory_saving_curves
    from bench.report.plots import memory_against_size, memory_saving, score_against_speed

    found = cost_groups(rows)
    text = "\n\n".join(complexity_table(group, metric) for group in found)
    typer.echo(text)
    written = [out / "complexity.md"]
    replace_file(written[0].absolute(), f"{text}\n".encode())
    for number, group in enumerate(found, 1):
        file = out / f"score_against_speed{f'_{number}' if len(found) > 1 else ''}.png"
        if score_against_speed(group, metric, file):
            written.append(file)
    file = out / "memory_against_size.png"
    if memory_against_size(rows, file):
        written.append(file)
    else:
        typer.echo("\nno memory_against_size.png: no method was measured at two input sizes")
    file = out / "memory_saving.png"
    memory_saving(memory_saving_curves(load_published(), rows), file)
    typer.echo("\n" + "\n".join(map(str, [*written, file])))
