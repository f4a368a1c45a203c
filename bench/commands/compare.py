"""`bench compare`: methods by categories, with ranks, intervals and tests."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.commands.options import TableFormat, integers, pairs, split
from bench.errors import ConfigError, nearest
from bench.report.choice.quantities import conditions, is_score, known_quantities
from bench.report.choice.selection import Selection
from bench.report.pictures.figures import check_suffix, save
from bench.rows.text import counted, listed
from bench.settings.config import load_settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.rows.row import Row


def compare(
    methods: Annotated[
        list[str], typer.Option("--methods", "--method", "-m", help="Methods, by commas, in order.")
    ],
    datasets: Annotated[
        list[str] | None,
        typer.Option("--datasets", "--dataset", "-d", help="Data sets, by commas; all if none."),
    ] = None,
    metric: Annotated[
        list[str] | None, typer.Option("--metric", help="Metrics, by commas.  [image_auroc]")
    ] = None,
    protocol: Annotated[str | None, typer.Option(help="Rows of this protocol only.")] = None,
    param: Annotated[
        list[str] | None,
        typer.Option("--param", help="key=value: of methods that have it, only these rows."),
    ] = None,
    pretrained: Annotated[
        list[str] | None,
        typer.Option("--pretrained", help="Rows of these weights only: pretrained, random, none."),
    ] = None,
    seeds: Annotated[
        str | None, typer.Option(help="Rows of these seeds only, as in 0,1,2.")
    ] = None,
    format: TableFormat = "md",
    transpose: Annotated[
        bool | None,
        typer.Option("--transpose/--no-transpose", help="Categories as lines; from 9 on."),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(help="PNG, PDF or SVG: critical-difference diagram.")
    ] = None,
    results: Annotated[Path | None, typer.Option(help="Folder of the results.")] = None,
) -> None:
    """Compare methods on the same categories; says when there is too little to conclude.

    Rows of several protocols, data-set options, states of the data or (for costs) devices are kept
    apart.
    """
    settings = load_settings()
    if plot is not None:
        check_suffix(plot)
    folder = settings.results_folder(results)
    metrics = list(dict.fromkeys(split(metric))) or ["image_auroc"]
    known = known_quantities(settings.protocols)
    for name in metrics:
        if name not in known:
            raise ConfigError(f"unknown metric {name!r}; {nearest(name, known)}")
    selection = Selection(
        methods=split(methods),
        datasets=split(datasets),
        protocol=protocol,
        params=pairs(param, "--param"),
        pretrained=split(pretrained),
    )
    if not selection.methods:
        raise ConfigError("--methods names no method; see `bench list`")
    rows = selection.rows(folder, settings)
    if seeds is not None:
        rows = of_seeds(rows, integers(seeds))
    from bench.report.choice.groups import groups
    from bench.report.compare.compare import tabulate_metric
    from bench.report.compare.diagram import critical_difference
    from bench.report.compare.document import document
    from bench.report.formats import render

    skipped = settings.without_scores() if protocol is None else ()
    scored = [row for row in rows if row.protocol not in skipped]
    if not scored and any(is_score(name) for name in metrics):
        raise ConfigError(
            f"the rows are of protocol {', '.join(skipped)}, whose scores say nothing; "
            "--protocol shows them"
        )
    tables = [
        tabulate_metric(group, name, folder / "artifacts", settings.without_scores())
        for name in metrics
        for group in groups(scored if is_score(name) else rows, conditions(name))
    ]
    typer.echo(render([document(table, transpose) for table in tables], format), nl=False)
    if len(scored) < len(rows) and any(is_score(name) for name in metrics):
        left = counted(len(rows) - len(scored), "row")
        text = f"\n{left} of protocol {', '.join(skipped)} left out: scores that say nothing"
        typer.echo(text, err=format != "md")
    if plot is not None:
        drawn = [table for table in tables if table.comparison is not None]
        if not drawn:
            typer.echo(f"{plot} not drawn: too few methods or categories, see above", err=True)
            raise typer.Exit(3)
        save(critical_difference(drawn), plot)
        typer.echo(f"\n{plot}", err=format != "md")


def of_seeds(rows: Sequence[Row], seeds: Sequence[int]) -> list[Row]:
    """Rows of the seeds that were asked for.

    Raises:
        ConfigError: a method has none.
    """
    kept = [row for row in rows if row.seed in seeds]
    lost = sorted({row.method for row in rows} - {row.method for row in kept})
    if lost:
        found = listed("seed", (row.seed for row in rows if row.method in lost))
        wanted = ",".join(map(str, seeds))
        raise ConfigError(f"--seeds {wanted}: {', '.join(lost)} has no such row; there are {found}")
    return kept
