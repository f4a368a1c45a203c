"""`bench compare`: methods by categories, with ranks, intervals and tests."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.commands.run import split
from bench.config import Settings, load_settings
from bench.discovery import sources
from bench.errors import ConfigError, nearest
from bench.report.quantities import depends_on_hardware, known_quantities
from bench.row import Row
from bench.store import ResultStore


def compare(
    methods: Annotated[
        list[str], typer.Option("--methods", "--method", "-m", help="Methods, by commas.")
    ],
    datasets: Annotated[
        list[str] | None,
        typer.Option("--datasets", "--dataset", "-d", help="Data sets, by commas; all if none."),
    ] = None,
    metric: Annotated[
        list[str] | None, typer.Option("--metric", help="Metrics, by commas.  [image_auroc]")
    ] = None,
    protocol: Annotated[str | None, typer.Option(help="Rows of this protocol only.")] = None,
    plot: Annotated[
        Path | None, typer.Option(help="PNG, PDF or SVG: critical-difference diagram.")
    ] = None,
    results: Annotated[Path | None, typer.Option(help="Folder of the results.")] = None,
) -> None:
    """Compare methods on the same categories; says when there is too little to conclude.

    Rows of several protocols, data-set options or (for costs) devices are kept apart.
    """
    settings = load_settings()
    folder = results or settings.paths.results
    metrics = split(metric) or ["image_auroc"]
    known = known_quantities(settings.protocols)
    for name in metrics:
        if name not in known:
            raise ConfigError(f"unknown metric {name!r}; {nearest(name, known)}")
    rows = chosen(settings, folder, split(methods), split(datasets), protocol)
    from bench.report.compare import groups, tabulate_metric, text_table
    from bench.report.diagram import critical_difference

    tables = [
        tabulate_metric(group, name, folder / "artifacts")
        for name in metrics
        for group in groups(rows, depends_on_hardware(name))
    ]
    typer.echo("\n\n".join(text_table(table) for table in tables))
    if plot is not None:
        drawn = [table for table in tables if table.comparison is not None]
        if not drawn:
            typer.echo(f"{plot} not drawn: too few methods or categories, see above", err=True)
            raise typer.Exit(3)
        critical_difference(drawn, plot)
        typer.echo(f"\n{plot}")


def chosen(
    settings: Settings, folder: Path, methods: list[str], datasets: list[str], protocol: str | None
) -> list[Row]:
    """The rows that were asked for.

    Raises:
        ConfigError: an unknown name, or no row; the message says what to run.
    """
    rows = ResultStore(folder).rows()
    _refuse_unknown("method", methods, {row.method for row in rows} | set(sources("methods")))
    _refuse_unknown("data set", datasets, {row.dataset for row in rows} | set(sources("datasets")))
    if protocol is not None:
        settings.protocol(protocol)
    found = [
        row
        for row in rows
        if (not methods or row.method in methods)
        and (not datasets or row.dataset in datasets)
        and protocol in (None, row.protocol)
    ]
    absent = [name for name in methods if name not in {row.method for row in found}]
    if absent or not found:
        selection = f" -d {','.join(datasets)}" if datasets else ""
        selection += f" --protocol {protocol}" if protocol else ""
        wanted = ",".join(absent) or "padim"
        raise ConfigError(
            f"{folder} has no row of {wanted} to compare; run: bench run -m {wanted}{selection}"
        )
    return found


def _refuse_unknown(what: str, names: list[str], known: set[str]) -> None:
    for name in names:
        if name not in known:
            raise ConfigError(f"unknown {what} {name!r}; {nearest(name, known)}")
