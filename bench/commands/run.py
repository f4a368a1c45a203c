"""`bench run`: train and score methods on data sets."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from bench.commands.options import (
    AuxiliaryRoot,
    checked_precision,
    integers,
    pairs,
    split,
    with_auxiliary,
)
from bench.disk import tidy
from bench.errors import ConfigError
from bench.plan.cells import trainings
from bench.plan.identity import canonical
from bench.plan.request import Planned, Request, plan_request
from bench.plan.shard import Shard
from bench.report.choice.selection import results_option
from bench.report.choice.summary import tables
from bench.report.formats import render
from bench.rows.store import ResultStore
from bench.rows.text import counted
from bench.run.driver import Result, cells_of_other_code, command_line, run_request
from bench.run.executors import EXECUTORS
from bench.settings.config import Settings, load_settings

if TYPE_CHECKING:
    from bench.plan.cells import Cell


def run(
    method: Annotated[
        list[str], typer.Option("--method", "-m", help="Methods, separated by commas.")
    ],
    dataset: Annotated[
        list[str] | None,
        typer.Option("--dataset", "-d", help="Data sets, separated by commas.  [synthetic]"),
    ] = None,
    category: Annotated[
        list[str] | None, typer.Option("--category", "-c", help="Categories; all if not given.")
    ] = None,
    seeds: Annotated[
        str | None, typer.Option("--seeds", "--seed", help="Seeds, as in 0,1,2.")
    ] = None,
    protocol: Annotated[
        list[str] | None,
        typer.Option(
            help="Protocols, separated by commas; what they share until prediction is done once."
        ),
    ] = None,
    preset: Annotated[
        str | None, typer.Option(help="A [presets.NAME] of bench.toml, as in quick.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="key=value for a method; NAME.key=value for one plugin. "
            "Several values: layers=[1,2].",
        ),
    ] = None,
    data_root: Annotated[Path | None, typer.Option(help="Folder of the data set.")] = None,
    auxiliary_root: AuxiliaryRoot = None,
    results: Annotated[Path | None, typer.Option(help="Folder of the results.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N.")] = None,
    weights: Annotated[
        Path | None, typer.Option(help="Backbone weights: .safetensors or a state dict.")
    ] = None,
    random_weights: Annotated[
        bool, typer.Option("--random-weights", help="Random encoder weights: for tests, marked.")
    ] = False,
    workers: Annotated[int | None, typer.Option(min=1, help="Cells at a time.")] = None,
    threads: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="CPU threads of each cell; by default OMP_NUM_THREADS, else cores over cells.",
        ),
    ] = None,
    timeout: Annotated[float | None, typer.Option(min=0, help="Seconds for each cell.")] = None,
    speed: Annotated[str | None, typer.Option(help="Name of a speed protocol.")] = None,
    precision: Annotated[
        str | None, typer.Option(help="float32; tf32 on a GPU; bfloat16: of encoders in scoring.")
    ] = None,
    feature_cache: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="MB",
            help="Disk for features of frozen networks, which later cells read; they then have no "
            "costs of training. 0: none.",
        ),
    ] = None,
    save_maps: Annotated[bool, typer.Option(help="Keep every anomaly map as .npy.")] = False,
    keep_maps: Annotated[
        bool, typer.Option(help="Keep the maps in 16 bits, 2 bytes a pixel, for `bench rescore`.")
    ] = False,
    allow_leaks: Annotated[
        bool, typer.Option(help="Run although test images are training images too; counted.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and stop.")] = False,
    shard: Annotated[
        str | None,
        typer.Option(help="Part of the plan, as in 3/16; the same command makes the others."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Run finished cells again.")] = False,
    stale: Annotated[
        bool, typer.Option("--stale", help="Run cells again whose rows other code made.")
    ] = False,
    executor: Annotated[
        str | None, typer.Option(help=f"What runs cells: {', '.join(EXECUTORS)}.  [local]")
    ] = None,
    address: Annotated[
        str | None, typer.Option(help="Ray cluster, HOST:PORT; else this machine alone.")
    ] = None,
    in_process: Annotated[
        bool, typer.Option("--in-process", help="No child processes: for debuggers.")
    ] = False,
) -> None:
    """Train and score methods on data sets; one CSV row for each cell.

    Exit code 0: every cell has its row. 1: cells failed. 2: bad input. 3: nothing ran.
    130: stopped by Ctrl-C; finished rows are kept, and the same command resumes.
    """
    if weights is not None and random_weights:
        raise ConfigError("--weights and --random-weights exclude each other")
    if in_process and executor not in (None, "in-process"):
        raise ConfigError(f"--in-process and --executor {executor} exclude each other")
    settings = load_settings(preset=preset)
    options = {
        "seeds": integers(seeds) if seeds is not None else None,
        "device": device,
        "workers": workers,
        "threads": threads,
        "timeout": timeout,
        "speed": speed,
        "precision": checked_precision(precision),
        "feature_cache_mb": feature_cache,
        "weights": "random" if random_weights else None,
        "executor": "in-process" if in_process else executor,
        "address": address,
    }
    given: dict[str, Any] = {k: v for k, v in options.items() if v is not None}
    settings = with_auxiliary(replace(settings, run=replace(settings.run, **given)), auxiliary_root)
    if results is not None:
        settings = replace(settings, paths=replace(settings.paths, results=tidy(results)))
    request = Request(
        methods=split(method),
        datasets=split(dataset) or ["synthetic"],
        categories=split(category),
        overrides=pairs(set_),
        protocols=split(protocol),
        data_root=data_root,
        weights_file=weights,
        force=force,
        stale=stale,
        save_maps=save_maps,
        keep_maps=keep_maps,
        allow_leaks=allow_leaks,
        shard=Shard.of(shard) if shard is not None else None,
        command=command_line(),
    )
    if not request.methods:
        raise ConfigError("--method names no method; see `bench list`")
    if protocol is not None and not request.protocols:
        raise ConfigError("--protocol names no protocol; see `bench list`")
    console = Console()
    if dry_run:
        _print_plan(settings, request, console)
        return
    result = run_request(settings, request, console)
    if request.shard is not None and not (result.rows or result.failures or result.interrupted):
        console.print(f"shard {request.shard} has no cell of this plan", highlight=False)
    _print_result(settings, result, console)
    raise typer.Exit(exit_code(result))


def exit_code(result: Result) -> int:
    """The exit code of a run."""
    if result.interrupted:
        return 130
    if result.failures:
        return 1
    return 0 if result.rows else 3


def _print_plan(settings: Settings, request: Request, console: Console) -> None:
    from tabulate import tabulate

    existing = {row.cell: row for row in ResultStore(settings.paths.results).rows()}
    planned = plan_request(settings, request)
    cells = [cell for part in planned for cell in part.cells]
    old = {cell.id for cell in cells_of_other_code(cells, existing)}
    finished = existing.keys() - old if request.stale else existing.keys()
    finished = set() if request.force else finished
    lines = [
        [
            c.id,
            c.method,
            f"{c.dataset}/{c.category}",
            c.seed,
            c.protocol.name,
            c.pretrained,
            _state(c.id in finished, c.id in old),
        ]
        for c in cells
    ]
    headers = ["cell", "method", "category", "seed", "protocol", "weights", "state"]
    console.print(tabulate(lines, headers), markup=False, highlight=False, soft_wrap=True)
    for text in _parameters(cells):
        console.print(f"\n{text}", markup=False, highlight=False, soft_wrap=True)
    for text in _folders(planned):
        console.print(text, markup=False, highlight=False, soft_wrap=True)
    todo = [c for c in cells if c.id not in finished]
    count = len(trainings(todo))
    shared = f" in {counted(count, 'training')}" if count < len(todo) else ""
    text = f"{counted(len(cells), 'cell')}, {len(todo)} to run{shared}"
    console.print(f"\n{text}; results in {settings.paths.results}")


def _folders(planned: list[Planned]) -> list[str]:
    """Where the auxiliary pictures of each method lie, once."""
    return list(
        dict.fromkeys(
            f"{cell.method}.{name}: {folder}"
            for part in planned
            for cell in part.cells
            for name, folder in part.folders.get(cell.id, {}).items()
        )
    )


def _state(is_finished: bool, is_old: bool) -> str:
    if is_finished:
        return "finished, by other code" if is_old else "finished"
    return "to run"


def _parameters(cells: list[Cell]) -> list[str]:
    """One text for each method and set of its parameters; with the places, where they differ."""
    places: dict[str, dict[str, list[str]]] = {}
    for cell in cells:
        found = places.setdefault(cell.method, {}).setdefault(canonical(dict(cell.params)), [])
        found.append(f"{cell.dataset}/{cell.category}")
    return [
        f"{method}{' on ' + ', '.join(dict.fromkeys(on)) if len(sets) > 1 else ''}: {params}"
        for method, sets in places.items()
        for params, on in sets.items()
    ]


def _print_result(settings: Settings, result: Result, console: Console) -> None:
    if result.rows:
        console.print()
        text = render(tables(result.rows, settings.without_scores()), "txt")
        console.print(text, end="", markup=False, highlight=False, soft_wrap=True)
        store = ResultStore(settings.paths.results)
        files = dict.fromkeys(store.file(r.dataset, r.method) for r in result.rows)
        console.print("\nrows: " + ", ".join(map(_short, files)), highlight=False, soft_wrap=True)
        folder = results_option(settings.paths.results, load_settings())
        text = f"look at the maps of a cell: bench show {result.rows[-1].cell}{folder}"
        console.print(text, markup=False, highlight=False, soft_wrap=True)
    for failure in result.failures:
        log = settings.paths.results / "failures" / f"{failure.job.cell.id}.txt"
        text = f"FAILED {failure.job.label}: {failure.cause}\n       log: {_short(log)}"
        console.print(text, markup=False, highlight=False, soft_wrap=True)


def _short(path: Path) -> str:
    """Relative to the working directory where that is shorter."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
