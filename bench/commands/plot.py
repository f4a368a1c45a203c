"""`bench plot`: figures from rows."""

from __future__ import annotations

import re
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.commands.options import split
from bench.disk import replace_file
from bench.errors import ConfigError, StoreError, nearest
from bench.report.choice.quantities import SCORES, published_metrics
from bench.report.choice.selection import Selection, results_option
from bench.report.paper.published import load_published
from bench.report.pictures.figures import save
from bench.rows.store import ResultStore
from bench.settings.config import load_settings

if TYPE_CHECKING:
    from bench.report.choice.groups import Group

app = typer.Typer(rich_markup_mode=None, help="Figures from rows.", no_args_is_help=True)


class Figures(str, Enum):
    """How a figure is written."""

    png = "png"
    pdf = "pdf"
    svg = "svg"


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
    format: Annotated[Figures, typer.Option(help="How to write the figures.")] = Figures.png,
    results: Annotated[Path | None, typer.Option(help="Folder of the results.")] = None,
) -> None:
    """Table of costs; score against speed; memory against input size; PyramidFlow's memory saving.

    Devices and speed protocols are never mixed: one table and one figure for each. Figures of this
    command that the folder holds in the same format are replaced or removed.
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
    from bench.report.cost.complexity import complexity_table, cost_groups
    from bench.report.cost.memory import RUN_SIZES, RUN_STACKS, memory_saving_curves
    from bench.report.cost.plots import memory_against_size, memory_saving, score_against_speed

    found = cost_groups(rows)
    scores = {g.title: None if g.first.protocol in skipped else metric for g in found}
    empty = settings.without_scores()
    text = "\n\n".join(complexity_table(group, scores[group.title], empty) for group in found)
    typer.echo(f"{text}\n")
    where = results_option(folder, settings)
    figures = {}
    for group, name in zip(found, _names(found), strict=True):
        score = scores[group.title]
        if score and (figure := score_against_speed(group, score)):
            figures[f"score_against_speed-{name}"] = figure
    if figure := memory_against_size(rows):
        figures["memory_against_size"] = figure
    else:
        typer.echo(
            "no memory_against_size: no method was measured at two input sizes; "
            f"run: {RUN_SIZES.format(results=where)}"
        )
    curves = memory_saving_curves(load_published(), rows)
    figures["memory_saving"] = memory_saving(curves)
    if all(curve.is_published for curve in curves):
        command = RUN_STACKS.format(results=where)
        typer.echo(f"memory_saving: published curves only; run: {command}")
    table = out / "complexity.md"
    replace_file(table.absolute(), f"{text}\n".encode())
    files = {out / f"{name}.{format.value}": figure for name, figure in figures.items()}
    for file, figure in files.items():
        save(figure, file)
    for pattern in ("score_against_speed*", "memory_against_size", "memory_saving"):
        for old in set(out.glob(f"{pattern}.{format.value}")) - set(files):
            old.unlink()
    typer.echo("\n".join(map(str, [table, *files])))


def _names(groups: list[Group]) -> list[str]:
    """Of files: data set, protocol, device and threads; numbered where that is not enough."""
    names: list[str] = []
    for group in groups:
        row = group.first
        parts = f"{row.dataset} {row.protocol} {row.device} {row.threads}t"
        name = re.sub(r"[^a-z0-9]+", "-", parts.lower()).strip("-")
        count = sum(re.fullmatch(rf"{name}(-no\d+)?", known) is not None for known in names)
        names.append(f"{name}-no{count + 1}" if count else name)
    return names
