"""`bench export` and `bench score`: anomaly maps in the layout of MVTec's evaluation script."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.commands.options import MapFormat, find_row, pairs, split
from bench.disk import tidy
from bench.errors import ConfigError, DataError, StoreError, counted, nearest
from bench.files.manifest import fingerprint
from bench.files.map_layout import export_maps
from bench.plan import discovery
from bench.plan.cells import Cell, split_overrides
from bench.plan.request import open_dataset
from bench.report.choice.summary import tables
from bench.report.formats import render
from bench.rows import provenance
from bench.rows.row import DEGENERATE, Row
from bench.rows.settings import Likeness
from bench.rows.store import ResultStore
from bench.run.driver import command_line
from bench.settings.config import Settings, load_settings

if TYPE_CHECKING:
    from bench.api import Dataset
    from bench.files.map_layout import Problem
    from bench.run.submission import Submitted

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def export(
    out: Annotated[Path, typer.Option(help="Folder to write to.")],
    cell: Annotated[
        list[str] | None,
        typer.Option(
            "--cell", help="A cell, or the start of one; all with kept maps if not given."
        ),
    ] = None,
    format_: Annotated[
        MapFormat, typer.Option("--format", help="tiff: float32; npy: the maps' own type.")
    ] = "tiff",
    results: Annotated[Path | None, typer.Option(help="Folder of the results.")] = None,
) -> None:
    """Write maps that `bench run --save-maps` kept as OUT/CATEGORY/test/DEFECT/NAME.tiff."""
    folder = results or load_settings().paths.results
    store = ResultStore(folder)
    rows = store.rows()
    kept = [row for row in rows if (store.artifacts(row) / "maps").is_dir()]
    chosen = [find_row(rows, text, folder) for text in split(cell)] or kept
    if not chosen:
        raise StoreError(f"{folder} holds no maps; `bench run --save-maps` keeps them")
    _refuse_mixture(chosen)
    for row in chosen:
        if row.maps == "none":
            raise StoreError(f"{row.cell}: {row.method} gives no maps; there is nothing to export")
        done = export_maps(store.artifacts(row), row.category, out, f".{format_}")
        sizes = ", ".join(f"{width} x {height}" for height, width in sorted(done.sizes))
        typer.echo(
            f"{out / row.category}: {done.maps} maps of {sizes} pixels from cell {row.cell}, "
            f"protocol {row.protocol}"
        )
        if done.rounded:
            typer.echo(
                f"note: {done.rounded} maps were rounded to float32; --format npy keeps them",
                err=True,
            )
        if row.last_epoch:
            typer.echo(
                f"note: the maps of {row.cell} are those of the last epoch; its row holds the best",
                err=True,
            )


def score(
    folder: Annotated[Path, typer.Argument(help="Folder of the maps.")],
    dataset: Annotated[str, typer.Option("--dataset", "-d", help="The data set.")],
    category: Annotated[
        list[str] | None, typer.Option("--category", "-c", help="Categories; all if not given.")
    ] = None,
    protocol: Annotated[str | None, typer.Option(help="Name of a protocol.")] = None,
    name: Annotated[
        str | None, typer.Option(help="Of the submission.  [the folder's name]")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="The seed that the maps belong to.")] = 0,
    preset: Annotated[str | None, typer.Option(help="A [presets.NAME] of bench.toml.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="NAME.key=value for the data set.")
    ] = None,
    data_root: Annotated[Path | None, typer.Option(help="Folder of the data set.")] = None,
    results: Annotated[Path | None, typer.Option(help="Folder of the results.")] = None,
) -> None:
    """Evaluate anomaly maps or image scores made elsewhere; rows are marked as submitted.

    Every missing, surplus, unreadable, misshapen or not finite map is listed before anything is
    scored. Exit code 2 if there is one.
    """
    settings = load_settings(preset=preset)
    if results is not None:
        settings = replace(settings, paths=replace(settings.paths, results=tidy(results)))
    run = replace(settings.run, protocol=protocol or settings.run.protocol)
    settings = replace(settings, run=run)
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder")
    name = _checked_name(name or folder.resolve().name)
    plugin = discovery.describe("datasets", dataset)
    overrides = split_overrides(pairs(set_), [plugin])[plugin.name]
    source, params = open_dataset(settings, plugin, overrides, data_root)
    categories = _categories(source, split(category))
    source.prepare(categories)
    parts = _checked_maps(folder, source, categories, settings, alone=bool(category))
    from bench.run.submission import maps_digest

    cell = Cell(
        method=name,
        method_version=1,
        params={"maps": maps_digest(parts)},
        dataset=plugin.name,
        dataset_version=plugin.version,
        dataset_params=params,
        category="",
        seed=seed,
        protocol=settings.protocol(),
        pretrained="unknown",
        data="",
    )
    rows = _store(settings, source, cell, parts)
    typer.echo(render(tables(rows, settings.without_scores()), "txt"))
    typer.echo(f"rows: {ResultStore(settings.paths.results).file(plugin.name, name)}")


def _refuse_mixture(rows: Sequence[Row]) -> None:
    """One folder holds the maps of one method on one data set, each category once."""
    likeness = Likeness(rows)
    columns = ("dataset_params", "protocol_fields")
    kinds = {(r.dataset, r.protocol, *(likeness.key(r, name) for name in columns)) for r in rows}
    methods = {row.method for row in rows}
    repeated = [r.category for r in rows if sum(r.category == o.category for o in rows) > 1]
    if len(kinds) > 1 or len(methods) > 1 or repeated:
        names = ", ".join(f"{r.cell} ({r.method} {r.dataset}/{r.category})" for r in rows[:6])
        raise ConfigError(
            f"one folder takes one method, data set and protocol, and each category once; choose "
            f"by --cell among {names}{', ...' if len(rows) > 6 else ''}"
        )


def _checked_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ConfigError(f"--name {name!r}: write letters, digits, '.', '_' and '-', 64 at most")
    if name in discovery.sources("methods"):
        raise ConfigError(
            f"--name {name} is a method of this project, whose rows are measured here; give the "
            "submission a name of its own"
        )
    return name


def _categories(source: Dataset, wanted: Sequence[str]) -> list[str]:
    known = list(source.categories())
    for name in wanted:
        if name not in known:
            raise ConfigError(f"unknown category {name!r}; {nearest(name, known)}")
    return [name for name in known if not wanted or name in wanted]


def _checked_maps(
    folder: Path, source: Dataset, categories: Sequence[str], settings: Settings, *, alone: bool
) -> list[Submitted]:
    """The maps of every category; all problems are printed before the first is raised."""
    from bench.run.submission import check_maps

    problems: list[Problem] = []
    parts = []
    for category in categories:
        part, found = check_maps(
            folder, source, category, settings.protocol(), is_only=len(categories) == 1
        )
        problems += found
        if part is not None:
            parts.append(part)
    if not alone:
        problems += _surplus(folder, source.categories())
    for problem in problems:
        typer.echo(str(problem), err=True)
    if problems:
        raise DataError(
            f"{folder}: {counted(len(problems), 'problem')}, listed above; nothing was scored"
        )
    for part in parts:
        if not part.files:
            typer.echo(
                f"note: {part.category}: no maps; the image scores of scores.csv alone are scored",
                err=True,
            )
        if part.resized:
            typer.echo(
                f"note: {part.category}: {part.resized} of {len(part.files)} maps are brought "
                "bilinearly to the size of their masks",
                err=True,
            )
        if part.files and part.scores is not None and settings.protocol().image_score == "max":
            typer.echo(
                f"note: {part.category}: scores.csv is not used; protocol "
                f"{settings.protocol().name} takes the maximum of each map",
                err=True,
            )
    return parts


def _surplus(folder: Path, known: Sequence[str]) -> list[Problem]:
    """Folders that look like a category, but are none."""
    from bench.files.map_layout import TEST, Problem

    return [
        Problem("extra", f"{path}: the data set has no category {path.name}")
        for path in sorted(folder.iterdir())
        if (path / TEST).is_dir() and path.name not in (*known, TEST)
    ]


def _store(
    settings: Settings, source: Dataset, base: Cell, parts: Sequence[Submitted]
) -> list[Row]:
    """Score each category, and put its row into the store."""
    from bench.run.submission import make_row, score_maps

    store = ResultStore(settings.paths.results)
    environment = provenance.environment()
    commit = provenance.commit(settings.project)
    rows = []
    with store.lock():
        for part in parts:
            data = fingerprint(source, part.category, settings.paths.cache)
            cell = replace(base, category=part.category, data=data)
            scores = score_maps(part, cell.protocol, settings.run.map_budget_mb)
            if DEGENERATE in scores["suspect"]:
                text = "degenerate: all pixel scores are equal; the row is marked"
                typer.echo(f"WARNING {part.category}: {text}", err=True)
            row = make_row(cell, scores, environment, commit=commit, command=command_line())
            store.put(row, environment)
            rows.append(row)
    return rows
