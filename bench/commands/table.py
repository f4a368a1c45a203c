"""`bench table`: a paper's table, published numbers beside measured ones."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from tabulate import tabulate

from bench.commands.options import AuxiliaryRoot, TableFormat, integers, with_auxiliary
from bench.disk import replace_file, tidy
from bench.errors import BenchError, ConfigError, DataError
from bench.plan import discovery
from bench.plan.auxiliary import picture_fields
from bench.plan.identity import canonical
from bench.plan.request import Request, open_dataset
from bench.report.choice.settings_text import DEFAULTS
from bench.report.formats import render
from bench.report.paper.document import document
from bench.report.paper.matching import Matcher
from bench.report.paper.paper_table import build
from bench.report.paper.published import PublishedNumbers, load_published
from bench.report.paper.table_files import load_table, read_table, table_files
from bench.report.paper.table_spec import TableSpec
from bench.rows.row import Row
from bench.rows.store import ResultStore
from bench.rows.text import counted, listed
from bench.run.driver import command_line, run_request
from bench.settings.config import Settings, load_settings

if TYPE_CHECKING:
    from collections.abc import Sequence


def table(
    name: Annotated[
        str | None, typer.Argument(help="PAPER/TABLE, as in pyramidflow/table4; none lists them.")
    ] = None,
    format: TableFormat = "md",
    run: Annotated[bool, typer.Option("--run", help="Run the cells that are missing.")] = False,
    seeds: Annotated[str | None, typer.Option(help="Seeds wanted, as in 0,1,2.")] = None,
    out: Annotated[Path | None, typer.Option(help="File to write; else the terminal.")] = None,
    results: Annotated[Path | None, typer.Option(help="Folder of the results.")] = None,
    data_root: Annotated[Path | None, typer.Option(help="Folder of the data set.")] = None,
    auxiliary_root: AuxiliaryRoot = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads of each cell.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Cells at a time, with --run.")] = None,
    speed: Annotated[str | None, typer.Option(help="Name of a speed protocol, with --run.")] = None,
    weights: Annotated[
        Path | None,
        typer.Option(help="Backbone weights, with --run: .safetensors or a state dict."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what --run would run, and stop.")
    ] = False,
) -> None:
    """Published, measured and their difference; names the cells that are missing.

    Exit code 0, or 1 where cells failed with --run.
    """
    settings = with_auxiliary(load_settings(), auxiliary_root)
    if results is not None:
        if not (run or dry_run) and not results.is_dir():
            raise ConfigError(f"--results {results} is not a folder; --run makes it")
        settings = replace(settings, paths=replace(settings.paths, results=tidy(results)))
    published = load_published()
    if name is None:
        typer.echo(listing(settings, published))
        return
    spec = load_table(name, settings, published)
    wanted = integers(seeds) if seeds is not None else ()
    failed = 0
    if run or dry_run:
        options = {"device": device, "threads": threads, "workers": workers, "speed": speed}
        given: dict[str, Any] = {k: v for k, v in options.items() if v is not None}
        settings = replace(
            settings,
            run=replace(settings.run, protocol=spec.protocol, seeds=wanted or spec.seeds, **given),
        )
        asked = [
            (replace(r, data_root=data_root, weights_file=weights), s)
            for r, s in _missing(spec, settings, wanted)
        ]
        if dry_run:
            _print_missing(spec, asked)
            for line in lacking(spec, settings, asked):
                typer.echo(f"missing: {line}")
            return
        failed = run_missing(spec, settings, asked)
    rows = ResultStore(settings.paths.results).rows()
    text = render([document(build(spec, published, rows, settings, wanted))], format)
    if out is None:
        typer.echo(text, nl=False)
    else:
        replace_file(out.absolute(), text.encode())
        typer.echo(f"{out}")
    raise typer.Exit(1 if failed else 0)


def listing(settings: Settings, published: PublishedNumbers) -> str:
    """Every table with its title, and how much of it is measured."""
    rows = ResultStore(settings.paths.results).rows()
    lines = []
    for name, file in table_files(settings.project).items():
        spec = read_table(file, settings, published)
        lines.append([name, spec.title, _state(spec, settings, rows)])
    return tabulate(lines, ["table", "title", "cells measured"])


def _state(spec: TableSpec, settings: Settings, rows: list[Row]) -> str:
    matcher = Matcher(spec, settings)
    measured = [row for row in spec.rows if row.method]
    if not measured:
        return "published only"
    total = len(spec.wanted()) * sum(len(spec.seeds_of(row)) for row in measured)
    missing = sum(len(match.missing) for match in matcher.match(rows).values())
    return f"{total - missing} of {total}"


def requests(
    spec: TableSpec, settings: Settings, rows: list[Row], seeds: tuple[int, ...]
) -> list[tuple[Request, tuple[int, ...]]]:
    """The runs that fill the gaps: one for each set of parameters and of seeds."""
    matcher = Matcher(spec, settings)
    matched = matcher.match(rows, seeds)
    grouped: dict[tuple[str, str, tuple[int, ...]], list[str]] = {}
    overrides: dict[str, dict[str, object]] = {}
    for row in spec.rows:
        gaps: dict[str, list[int]] = {}
        for category, seed in matched[row.label].missing:
            gaps.setdefault(category, []).append(seed)
        for category, wanted in gaps.items():
            chosen = {f"{row.method}.{k}": v for k, v in matcher.overrides(row, category).items()}
            key = canonical(chosen)
            overrides[key] = chosen
            group = grouped.setdefault((row.method, key, tuple(wanted)), [])
            group += [category] if category not in group else []
    return [
        (
            Request(
                methods=[method],
                datasets=[spec.dataset],
                categories=categories,
                overrides=overrides[key],
                command=command_line(),
            ),
            wanted,
        )
        for (method, key, wanted), categories in grouped.items()
    ]


def _missing(
    spec: TableSpec, settings: Settings, seeds: tuple[int, ...]
) -> list[tuple[Request, tuple[int, ...]]]:
    """The runs that are missing.

    Raises:
        ConfigError: no row of the table is of a method of the harness.
    """
    if not any(row.method for row in spec.rows):
        raise ConfigError(f"{spec.name} has published numbers only: no method of the harness")
    return requests(spec, settings, ResultStore(settings.paths.results).rows(), seeds)


def _print_missing(spec: TableSpec, missing: Sequence[tuple[Request, tuple[int, ...]]]) -> None:
    """What --run would run: a line for each set of parameters and of seeds."""
    cells = 0
    for request, seeds in missing:
        cells += len(request.categories) * len(seeds)
        parameters = ", ".join(f"{k}={v}" for k, v in request.overrides.items()) or DEFAULTS
        typer.echo(
            f"{request.methods[0]} on {', '.join(request.categories)}; "
            f"{listed('seed', seeds)}; {parameters}"
        )
    typer.echo(f"{spec.name}: {counted(cells, 'cell')} to run")


def lacking(
    spec: TableSpec, settings: Settings, missing: Sequence[tuple[Request, tuple[int, ...]]]
) -> list[str]:
    """What the runs would stop at or do without: images, categories, auxiliary pictures."""
    if not missing:
        return []
    plugin = discovery.describe("datasets", spec.dataset)
    wanted = list(dict.fromkeys(c for request, _ in missing for c in request.categories))
    lines: list[str] = []
    try:
        dataset, _ = open_dataset(settings, plugin, {}, missing[0][0].data_root)
        there = dataset.categories()
        if absent := [category for category in wanted if category not in there]:
            lines.append(f"{spec.dataset}: no images of {', '.join(absent)}")
    except DataError as error:
        lines.append(str(error))
    for name in dict.fromkeys(request.methods[0] for request, _ in missing):
        method = discovery.describe("methods", name)
        given = [r.overrides for r, _ in missing if r.methods[0] == name]
        for key in picture_fields(method):
            if not all(overrides.get(f"{name}.{key}") for overrides in given):
                lines.append(
                    f"{name}.{key} names no folder of pictures: the method's fall-back, marked ◇"
                )
    return lines


def run_missing(
    spec: TableSpec, settings: Settings, missing: Sequence[tuple[Request, tuple[int, ...]]]
) -> int:
    """Run what is missing; returns the number of failed cells."""
    # Progress goes to stderr, so that the table alone can be piped into a file.
    console = Console(stderr=True, no_color="NO_COLOR" in os.environ)
    failed = 0
    for request, wanted in missing:
        # The table says which parameters a method has, whatever the project sets elsewhere.
        chosen = replace(settings, methods={}, run=replace(settings.run, seeds=wanted))
        try:
            result = run_request(chosen, request, console)
        except BenchError as error:
            raise type(error)(f"{spec.name}: {error}") from error
        failed += len(result.failures)
        if result.interrupted:
            raise typer.Exit(130)
    return failed
