"""`bench plot`: figures from rows."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from bench.commands.options import split
from bench.disk import replace_file
from bench.errors import ConfigError, StoreError, nearest
from bench.report.choice.quantities import SCORES, published_metrics
from bench.report.choice.selection import Selection, results_option
from bench.report.formats import render
from bench.report.paper.published import load_published
from bench.report.paper.table_files import tables_with_figures
from bench.report.pictures.figures import save
from bench.report.rerun import rerun
from bench.rows.store import ResultStore
from bench.settings.config import load_settings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.figure import Figure

    from bench.report.choice.groups import Group
    from bench.report.compare.distributions import Distribution
    from bench.rows.row import Row

Out = Annotated[Path, typer.Option(help="Folder for the figures and the table.")]
Datasets = Annotated[
    list[str] | None, typer.Option("--datasets", "--dataset", "-d", help="All if none.")
]
Protocol = Annotated[str | None, typer.Option(help="Rows of this protocol only.")]
Results = Annotated[Path | None, typer.Option(help="Folder of the results.")]

app = typer.Typer(rich_markup_mode=None, help="Figures from rows.", no_args_is_help=True)


Figures = Literal["png", "pdf", "svg"]
"""How a figure is written."""
ScoreOf = Literal["images", "pixels"]
"""What has a score."""
Format = Annotated[Figures, typer.Option(help="How to write the figures.")]


@app.callback()
def plot() -> None:
    """Figures from rows."""


@app.command("complexity")
def complexity(
    out: Out = Path("plots"),
    metric: Annotated[str, typer.Option(help="Score on the vertical axis.")] = "image_auroc",
    datasets: Datasets = None,
    protocol: Protocol = None,
    format: Format = "png",
    results: Results = None,
) -> None:
    """Table of costs; score against cost; memory against input size; figures of papers' tables.

    Devices and speed protocols are never mixed: one table and one figure for each; operations are
    counted, so that all methods stand in one figure. Figures of this command that the folder holds
    in the same format are replaced or removed.
    """
    settings = load_settings()
    known = [*SCORES, *published_metrics(settings.protocols)]
    if metric not in known:
        raise ConfigError(f"unknown score {metric!r}; {nearest(metric, known)}")
    folder = settings.results_folder(results)
    skipped = settings.without_scores() if protocol is None else ()
    selection = Selection(datasets=split(datasets), protocol=protocol)
    wanted = f"bench run -m padim,pyramidflow{selection.run_options(folder, settings)}"
    if not ResultStore(folder).files():
        raise StoreError(f"{folder} holds no row with timings to plot; run: {wanted}")
    rows = selection.rows(folder, settings)
    if not any(row.speed for row in rows):
        raise StoreError(f"{folder} holds no row with timings to plot; run: {wanted}")
    from bench.report.cost.complexity import complexity_table, cost_groups, counted_groups
    from bench.report.cost.memory import RUN_SIZES
    from bench.report.cost.plots import (
        OPERATIONS,
        SPEED,
        along,
        memory_against_size,
        score_against,
    )
    from bench.report.cost.series import measured, printed

    found = cost_groups(rows)
    scores = {g.title: None if g.first.protocol in skipped else metric for g in found}
    empty = settings.without_scores()
    text = render([complexity_table(group, scores[group.title], empty) for group in found], "md")
    typer.echo(text)
    where = results_option(folder, settings)
    figures = {}
    for group, name in zip(found, _names(found), strict=True):
        score = scores[group.title]
        if score and (figure := score_against(SPEED, group, score)):
            figures[f"score_against_speed-{name}"] = figure
    counted = [group for group in counted_groups(rows) if group.first.protocol not in skipped]
    for group, name in zip(counted, _names(counted, machines=False), strict=True):
        if figure := score_against(OPERATIONS, group, metric):
            figures[f"score_against_operations-{name}"] = figure
    if figure := memory_against_size(rows):
        figures["memory_against_size"] = figure
    else:
        typer.echo(
            "no memory_against_size: no method was measured at two input sizes; "
            f"run: {RUN_SIZES.format(results=where)}"
        )
    published = load_published()
    patterns = ["score_against_speed*", "score_against_operations*", "memory_against_size"]
    for spec, of_table in tables_with_figures(settings, published):
        found_rows = list(measured(spec, of_table, rows))
        curves = [*printed(spec, of_table, published), *found_rows]
        figures[of_table.file] = along(of_table, curves)
        patterns.append(of_table.file)
        if not found_rows:
            command = f"bench table {spec.name} --run{where}"
            typer.echo(f"{of_table.file}: published curves only; run: {command}")
    table = out / "complexity.md"
    replace_file(table.absolute(), text.encode())
    typer.echo("\n".join(map(str, [table, *_write(figures, out, format, patterns)])))


@app.command("scores")
def scores(
    out: Out = Path("plots"),
    of: Annotated[
        ScoreOf, typer.Option(help="What has a score; pixels of images that `bench show` draws.")
    ] = "images",
    methods: Annotated[
        list[str] | None, typer.Option("--methods", "--method", "-m", help="All if none.")
    ] = None,
    datasets: Datasets = None,
    protocol: Protocol = None,
    format: Format = "png",
    results: Results = None,
) -> None:
    """Distributions of the scores of normal and anomalous images, for each method and category.

    CFLOW-AD's Figure 4, from the scores that lie beside the rows. Figures of this command that the
    folder holds in the same format are replaced or removed.
    """
    settings = load_settings()
    folder = settings.results_folder(results)
    selection = Selection(methods=split(methods), datasets=split(datasets), protocol=protocol)
    skipped = settings.without_scores() if protocol is None else ()
    rows = [row for row in selection.rows(folder, settings) if row.protocol not in skipped]
    if not rows:
        raise ConfigError(
            f"the rows are of protocol {', '.join(skipped)}, whose scores say nothing; "
            "--protocol shows them"
        )
    from bench.report.choice.groups import groups
    from bench.report.compare.distributions import bars, distributions, figure

    found: list[tuple[Group, Sequence[Distribution]]] = []
    missing: dict[str, Row] = {}
    for group in groups(rows):
        drawn, absent = distributions(group, folder / "artifacts", of)
        missing |= absent
        if drawn:
            found.append((group, drawn))
    where = results_option(folder, settings)
    for text, row in missing.items():
        again = rerun(row, where)
        typer.echo(f"left out: {text}{f'; run again: {again}' if again else ''}", err=True)
    if not found:
        raise StoreError(f"{folder} holds no scores of {of} to plot: see above")
    names = _names([group for group, _ in found], machines=False)
    figures = {
        f"{of[:-1]}_scores-{name}": figure(group, drawn, of)
        for name, (group, drawn) in zip(names, found, strict=True)
    }
    table = out / f"{of[:-1]}_scores.csv"
    text = render([bars(group, drawn, of) for group, drawn in found], "csv")
    replace_file(table.absolute(), text.encode())
    files = _write(figures, out, format, (f"{of[:-1]}_scores-*",))
    typer.echo("\n".join(map(str, [table, *files])))


def _write(
    figures: Mapping[str, Figure], out: Path, format: Figures, patterns: Sequence[str]
) -> list[Path]:
    """Save figures by name; others of these patterns and of the format are removed."""
    files = {out / f"{name}.{format}": figure for name, figure in figures.items()}
    for file, figure in files.items():
        save(figure, file)
    for pattern in patterns:
        for old in set(out.glob(f"{pattern}.{format}")) - set(files):
            old.unlink()
    return list(files)


def _names(groups: Sequence[Group], machines: bool = True) -> list[str]:
    """Of files: data set, protocol, device and threads; numbered where that is not enough."""
    names: list[str] = []
    for group in groups:
        row = group.first
        machine = f" {row.device} {row.threads}t" if machines else ""
        parts = f"{row.dataset} {row.protocol}{machine}"
        name = re.sub(r"[^a-z0-9]+", "-", parts.lower()).strip("-")
        count = sum(re.fullmatch(rf"{name}(-no\d+)?", known) is not None for known in names)
        names.append(f"{name}-no{count + 1}" if count else name)
    return names
