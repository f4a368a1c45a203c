"""What `bench run` does: plan, skip what is finished, run the rest, store each row as it comes."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import discovery, provenance
from bench.errors import ConfigError, StoreError, nearest
from bench.executors import Done, Failure, InProcessExecutor, Job, LocalExecutor
from bench.manifest import file_digest, fingerprint
from bench.plan import BACKBONE_FIELDS, Category, plan, resolve_params, split_overrides
from bench.progress import RunProgress
from bench.speed import speed_protocol
from bench.store import ResultStore, replace_file

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import FrameType

    from rich.console import Console

    from bench.api import Dataset
    from bench.config import Settings
    from bench.discovery import Plugin
    from bench.plan import Cell
    from bench.row import Row


WEIGHTS = ("pretrained", "random")
"""Choices of `[run].weights`; a file is named on the command line."""


@dataclass(frozen=True)
class Request:
    """What the user asked for, beyond the settings."""

    methods: Sequence[str]
    datasets: Sequence[str]
    categories: Sequence[str] = ()
    overrides: Mapping[str, Any] = field(default_factory=dict)
    data_root: Path | None = None
    weights_file: Path | None = None
    force: bool = False
    save_maps: bool = False
    allow_leaks: bool = False
    in_process: bool = False
    command: str = ""


@dataclass(frozen=True)
class Planned:
    """A data set's plugin, its object, and the cells planned on it."""

    plugin: Plugin
    dataset: Dataset
    cells: list[Cell]


@dataclass(frozen=True)
class Result:
    """What a run left."""

    rows: list[Row]
    failures: list[Failure]
    skipped: int
    interrupted: bool = False


def dataset_root(settings: Settings, plugin: Plugin, data_root: Path | None = None) -> Path:
    """Where a data set lies: --data-root, `[datasets.NAME].root`, or `[paths].data`/NAME."""
    if plugin.constants.get("generated"):
        return settings.paths.cache / plugin.name
    if data_root is not None:
        return data_root.expanduser().absolute()
    configured = settings.datasets.get(plugin.name, {}).get("root")
    if configured:
        return settings.project / Path(str(configured)).expanduser()
    return settings.paths.data / plugin.name


def open_dataset(
    settings: Settings,
    plugin: Plugin,
    overrides: Mapping[str, Any],
    data_root: Path | None = None,
) -> tuple[Dataset, dict[str, Any]]:
    """The data set's object and its options."""
    params = resolve_params(plugin, settings, overrides)
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in params.items()}
    root = dataset_root(settings, plugin, data_root)
    return discovery.load(plugin)(root=root, **values), params


def plan_request(settings: Settings, request: Request) -> list[Planned]:
    """Every cell that was asked for, by data set.

    Raises:
        BenchError: an unknown name or option, missing data.
    """
    _check_settings(settings)
    methods = [discovery.describe("methods", name) for name in dict.fromkeys(request.methods)]
    datasets = [discovery.describe("datasets", name) for name in dict.fromkeys(request.datasets)]
    if request.data_root is not None and len(datasets) != 1:
        raise ConfigError("--data-root names the folder of one data set; select one --dataset")
    overrides = split_overrides(request.overrides, [*methods, *datasets])
    planned = []
    for plugin in datasets:
        dataset, params = open_dataset(settings, plugin, overrides[plugin.name], request.data_root)
        for method in methods:
            _check_places(settings, method, plugin, dataset)
        names = _choose(plugin.name, list(dataset.categories()), request.categories)
        categories = [
            Category(plugin, params, name, fingerprint(dataset, name, settings.paths.cache))
            for name in names
        ]
        cells = plan(
            methods,
            categories,
            settings.run.seeds,
            settings.protocol(),
            weights_kind(settings, request),
            settings,
            overrides,
        )
        planned.append(Planned(plugin, dataset, cells))
    _refuse_unknown(request.categories, planned)
    cells = [cell for part in planned for cell in part.cells]
    if request.weights_file is not None and all(cell.pretrained == "none" for cell in cells):
        raise ConfigError(
            f"--weights {request.weights_file}: no selected method uses a pretrained network as "
            f"it is set; its field is {' or '.join(BACKBONE_FIELDS)}"
        )
    return planned


def _check_settings(settings: Settings) -> None:
    """Refuse what no cell could run with, and tables that no plugin would read."""
    run = settings.run
    least = {"workers": 1, "batch": 1, "threads": 0, "loaders": 0, "timeout": 0}
    for name, value in least.items():
        if getattr(run, name) < value:
            raise ConfigError(f"[run].{name} = {getattr(run, name)}; at least {value} is needed")
    speed_protocol(run.speed, settings.speed)
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", run.device):
        raise ConfigError(f"device {run.device!r}: not a device; use auto, cpu, cuda or cuda:N")
    if run.weights not in WEIGHTS:
        raise ConfigError(f"[run].weights = {run.weights!r}; {nearest(run.weights, WEIGHTS)}")
    for kind in discovery.KINDS:
        known = discovery.sources(kind)
        for name in getattr(settings, kind):
            if name not in known:
                raise ConfigError(
                    f"{settings.file}: [{kind}.{name}] is of no {kind.removesuffix('s')}; "
                    f"{nearest(name, known)}"
                )


def _check_places(settings: Settings, method: Plugin, plugin: Plugin, dataset: Dataset) -> None:
    """Refuse `[methods.NAME."dataset/category"]` where no such data set or category is published.

    Where the options or the root decide what there is, others may well have that category.
    """
    fixed = dataset.expected() and not plugin.constants.get("generated")
    known = {*dataset.expected(), *dataset.categories()} if fixed else set()
    sources = discovery.sources("datasets")
    for place, table in settings.methods.get(method.name, {}).items():
        if not isinstance(table, dict):
            continue
        name, _, category = place.partition("/")
        where = f'{settings.file}: [methods.{method.name}."{place}"]'
        if name not in sources:
            raise ConfigError(f"{where}: unknown dataset {name!r}; {nearest(name, sources)}")
        if name == plugin.name and known and category not in known:
            raise ConfigError(f"{where}: unknown category; {nearest(category, known)}")


def weights_kind(settings: Settings, request: Request) -> str:
    """The `pretrained` part of a cell's identity."""
    if request.weights_file is None:
        return settings.run.weights
    if not request.weights_file.is_file():
        raise ConfigError(f"--weights {request.weights_file} is not a file")
    return f"file:{file_digest(request.weights_file)[:12]}"


def run_request(settings: Settings, request: Request, console: Console) -> Result:
    """Run the cells that have no row yet; every row is on disk before the next one is taken."""
    planned = plan_request(settings, request)
    store = ResultStore(settings.paths.results)
    with store.lock():
        existing = {row.cell: row for row in store.rows()}
        cells = [cell for part in planned for cell in part.cells]
        todo = [c for c in cells if request.force or c.id not in existing]
        skipped = len(cells) - len(todo)
        if skipped:
            console.print(f"{skipped} of {len(cells)} cells have a row already (--force reruns)")
        wanted = {cell.id for cell in todo}
        for part in planned:
            needed = dict.fromkeys(cell.category for cell in part.cells if cell.id in wanted)
            if needed:
                part.dataset.prepare(list(needed))
        jobs = _jobs(settings, request, planned, wanted)
        outcomes = _execute(settings, request, store, jobs, console)
        failures = [o for o in outcomes if isinstance(o, Failure)]
        done = {o.row.cell: o.row for o in outcomes if isinstance(o, Done)}
    rows = [row for cell in cells if (row := done.get(cell.id) or existing.get(cell.id))]
    return Result(rows, failures, skipped, interrupted=len(outcomes) < len(jobs))


def _choose(dataset: str, known: list[str], wanted: Sequence[str]) -> list[str]:
    if not wanted:
        return known
    chosen = [w.removeprefix(f"{dataset}/") for w in wanted]
    return [name for name in known if name in chosen]


def _refuse_unknown(wanted: Sequence[str], planned: Sequence[Planned]) -> None:
    found = {
        name for p in planned for c in p.cells for name in (c.category, f"{c.dataset}/{c.category}")
    }
    for name in wanted:
        if name not in found:
            known = [str(c) for p in planned for c in p.dataset.categories()]
            raise ConfigError(f"unknown category {name!r}; {nearest(name, known)}")


def _jobs(
    settings: Settings, request: Request, planned: Sequence[Planned], wanted: set[str]
) -> list[Job]:
    run = settings.run
    slots = max(1, run.workers)
    threads = run.threads or max(1, provenance.usable_cores() // slots)
    file = request.weights_file
    kind = "file" if file else run.weights
    folder = settings.paths.weights
    commit = provenance.commit(settings.project)
    speed = asdict(speed_protocol(run.speed, settings.speed))
    code = {name: discovery.describe("methods", name).code() for name in request.methods}
    return [
        Job(
            cell=cell,
            root=dataset_root(settings, part.plugin, request.data_root),
            device=run.device,
            threads=threads,
            loaders=run.loaders,
            batch=run.batch,
            weights={
                "kind": kind,
                "file": str(file.absolute()) if file else None,
                "folder": str(folder) if folder else None,
            },
            speed=speed,
            artifacts=_artifacts(settings, cell.id).with_suffix(".part"),
            save_maps=request.save_maps,
            allow_leaks=request.allow_leaks,
            command=request.command,
            commit=commit,
            code=code[cell.method],
        )
        for part in planned
        for cell in part.cells
        if cell.id in wanted
    ]


def _artifacts(settings: Settings, cell: str) -> Path:
    return settings.paths.results / "artifacts" / cell


def _execute(
    settings: Settings,
    request: Request,
    store: ResultStore,
    jobs: Sequence[Job],
    console: Console,
) -> list[Done | Failure]:
    slots = device_slots(settings)
    outcomes: list[Done | Failure] = []
    with RunProgress(jobs, len(slots), console) as progress:
        executor: LocalExecutor | InProcessExecutor = (
            InProcessExecutor(on_event=progress.event)
            if request.in_process
            else LocalExecutor(slots, settings.run.timeout, progress.event)
        )
        with _Interrupts(executor, console):
            for outcome in executor.map(jobs):
                _keep(settings, store, outcome)
                outcomes.append(outcome)
                progress.outcome(outcome)
    return outcomes


def _keep(settings: Settings, store: ResultStore, outcome: Done | Failure) -> None:
    """A row goes to its CSV, a failure to a text file; artifacts move into place."""
    results = settings.paths.results
    cell = outcome.job.cell.id
    log = results / "failures" / f"{cell}.txt"
    part = outcome.job.artifacts
    if isinstance(outcome, Failure):
        head = f"{outcome.job.cell.label}\n{outcome.cause}\n\n"
        replace_file(log, (head + outcome.log).encode(errors="backslashreplace"))
        shutil.rmtree(part, ignore_errors=True)
        return
    target = _artifacts(settings, cell)
    if part.is_dir():
        try:
            shutil.rmtree(target, ignore_errors=True)
            part.replace(target)
        except OSError as error:
            raise StoreError(f"{target} cannot be written: {error.strerror}") from error
    environment = results / "env" / f"{outcome.row.env}.json"
    if not environment.exists():
        text = json.dumps(outcome.environment, indent=1, sort_keys=True) + "\n"
        replace_file(environment, text.encode())
    store.put(outcome.row)
    log.unlink(missing_ok=True)


def device_slots(settings: Settings) -> list[dict[str, str]]:
    """One slot for each cell that runs at a time: one for each GPU, else `[run].workers`."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    ids = [part for part in visible.split(",") if part]
    if settings.run.device in ("auto", "cuda") and len(ids) > 1:
        return [{"CUDA_VISIBLE_DEVICES": part} for part in ids]
    return [{} for _ in range(max(1, settings.run.workers))]


class _Interrupts:
    """Ctrl-C once: finish what runs, start nothing new. Twice: end the workers now."""

    def __init__(self, executor: LocalExecutor | InProcessExecutor, console: Console) -> None:
        self.executor = executor
        self.console = console
        self.count = 0
        self.previous: Any = None

    def __enter__(self) -> _Interrupts:
        if not isinstance(self.executor, InProcessExecutor):
            self.previous = signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        if self.previous is not None:
            signal.signal(signal.SIGINT, self.previous)

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        self.count += 1
        if self.count == 1:
            self.console.print("finishing the cells that run; Ctrl-C again to stop now")
            self.executor.stop()
        else:
            self.executor.kill()


def command_line() -> str:
    """The command as typed, for the row."""
    return shlex.join(["bench", *sys.argv[1:]])


def require(names: Sequence[str], what: str) -> Sequence[str]:
    """The names, or an error that says which option is missing."""
    if not names:
        raise ConfigError(f"no {what} given; see `bench list`")
    return names
