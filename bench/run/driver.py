"""What `bench run` does: plan, skip what is finished, run the rest, store each row as it comes."""

from __future__ import annotations

import shlex
import shutil
import signal
import sys
from dataclasses import dataclass
from threading import Thread
from typing import TYPE_CHECKING, Any

from bench.disk import replace_file
from bench.errors import ConfigError, PluginError, StoreError
from bench.plan import discovery
from bench.plan.cells import trainings
from bench.plan.identity import differing
from bench.plan.request import asked_weights, dataset_root, plan_request
from bench.rows import provenance
from bench.rows.schema import former_id
from bench.rows.store import ResultStore
from bench.rows.text import counted
from bench.run.costs import longest_first, with_expectations
from bench.run.executors import open_executor
from bench.run.job import Done, Failure, Job
from bench.run.progress import RunProgress
from bench.run.slots import threads_of_cells
from bench.settings.speed import speed_protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from types import FrameType

    from rich.console import Console

    from bench.plan.cells import Cell
    from bench.plan.discovery import Plugin
    from bench.plan.request import Planned, Request
    from bench.rows.row import Row
    from bench.run.executors import Executor
    from bench.settings.config import Settings
    from bench.settings.speed import SpeedProtocol


@dataclass(frozen=True)
class Result:
    """What a run left."""

    rows: list[Row]
    failures: list[Failure]
    skipped: int
    interrupted: bool = False


def run_request(settings: Settings, request: Request, console: Console) -> Result:
    """Run the cells that have no row yet; every row is on disk before the next one is taken."""
    planned = plan_request(settings, request)
    store = ResultStore(settings.paths.results)
    with store.lock():
        if request.shard is not None:
            store.keep_to(str(request.shard))
        existing = {row.cell: row for row in store.rows()}
        cells = [cell for part in planned for cell in part.cells]
        if not request.force:
            refuse_changed_defaults(cells, existing)
        old = {cell.id for cell in cells_of_other_code(cells, existing)}
        again = {cell.id for cell in cells if request.force or (request.stale and cell.id in old)}
        todo = [c for c in cells if c.id in again or c.id not in existing]
        skipped = len(cells) - len(todo)
        if skipped:
            console.print(f"{skipped} of {len(cells)} cells have a row already (--force reruns)")
        wanted = {cell.id for cell in todo}
        for part in planned:
            needed = dict.fromkeys(cell.category for cell in part.cells if cell.id in wanted)
            if needed:
                part.dataset.prepare(list(needed))
        outcomes: list[Done | Failure] = []
        if todo:
            executor = open_executor(settings)
            jobs = make_jobs(settings, request, planned, wanted, executor.threads)
            jobs = with_expectations(jobs, existing.values())
            if executor.at_a_time > 1:
                jobs = longest_first(jobs)
            outcomes = execute(settings, executor, store, jobs, console)
        failures = [o for o in outcomes if isinstance(o, Failure)]
        done = {o.row.cell: o.row for o in outcomes if isinstance(o, Done)}
    if left := [cell for cell in cells if cell.id in old - again]:
        text = _other_code(left, request)
        console.print(f"WARNING {text}", markup=False, highlight=False, soft_wrap=True)
    rows = [row for cell in cells if (row := done.get(cell.id) or existing.get(cell.id))]
    return Result(rows, failures, skipped, interrupted=len(outcomes) < len(todo))


def refuse_changed_defaults(cells: Sequence[Cell], existing: Mapping[str, Row]) -> None:
    """Refuse to take a row for that of a cell whose defaults changed under the same version.

    Raises:
        ConfigError: names the field, both values and what to do.
    """
    for cell in cells:
        made = existing[cell.id].params if cell.id in existing else {}
        both = {name: value for name, value in cell.params.items() if name in made}
        for name, value in differing(both, made).items():
            raise ConfigError(
                f"{cell.label}: row {cell.id} was made with {name} = {made[name]!r}, and now the "
                f"default is {value!r}; a default that changes needs a new `version` of "
                f"{cell.method}, or --force replaces the row"
            )


def cells_of_other_code(cells: Sequence[Cell], existing: Mapping[str, Row]) -> list[Cell]:
    """Cells whose row was made by other source files of the method, under the same version."""
    code = {name: discovery.describe("methods", name).code() for name in {c.method for c in cells}}
    return [c for c in cells if c.id in existing and existing[c.id].code != code[c.method]]


def _other_code(cells: Sequence[Cell], request: Request) -> str:
    """What a reader of their rows must know, and how to make them again."""
    methods = ", ".join(dict.fromkeys(cell.method for cell in cells))
    is_run = request.command.startswith("bench run ")
    how = f"{request.command} --stale" if is_run else "bench run ... --stale"
    return (
        f"{counted(len(cells), 'row')} below {'was' if len(cells) == 1 else 'were'} made by other "
        f"code of {methods}, under the same version; make them again: {how} ; a new `version` of "
        "the method keeps the old ones"
    )


def make_jobs(
    settings: Settings,
    request: Request,
    planned: Sequence[Planned],
    wanted: set[str],
    threads: int | None = None,
) -> list[Job]:
    """The wanted cells of a plan, those of one training together, as a worker needs them here.

    Args:
        threads: of each cell; None: as for one cell at a time.
    """
    run = settings.run
    commit = provenance.commit(settings.project)
    speed = speed_protocol(run.speed, settings.speed)
    methods = {name: discovery.describe("methods", name) for name in request.methods}
    code = {name: method.code() for name, method in methods.items()}
    share = {name: gpu_share(method, speed) for name, method in methods.items()}
    return [
        Job(
            cells=cells,
            root=dataset_root(settings, part.plugin, request.data_root),
            device=run.device,
            threads=threads or threads_of_cells(run, 1),
            loaders=run.loaders,
            batch=run.batch,
            weights=asked_weights(settings, request),
            speed=speed,
            artifacts=settings.paths.results / "artifacts",
            cache=settings.paths.cache,
            auxiliary=part.folders.get(cells[0].id, {}),
            save_maps=request.save_maps,
            keep_maps=request.keep_maps,
            map_budget_mb=run.map_budget_mb,
            feature_cache_mb=run.feature_cache_mb,
            allow_leaks=request.allow_leaks,
            gpu_share=share[cells[0].method],
            command=request.command,
            commit=commit,
            code=code[cells[0].method],
        )
        for part in planned
        for cells in trainings(c for c in part.cells if c.id in wanted)
    ]


def gpu_share(method: Plugin, speed: SpeedProtocol) -> float:
    """What a cell of the method takes of a GPU: all of it where speed is measured.

    Raises:
        PluginError: the method declares no share.
    """
    share = method.constants.get("gpu_share", 1.0)
    if not isinstance(share, (int, float)) or not 0 < share <= 1:
        raise PluginError(f"{method.path}: gpu_share = {share!r}; a number above 0 and up to 1")
    return 1.0 if speed.is_timed else float(share)


def execute(
    settings: Settings,
    executor: Executor,
    store: ResultStore,
    jobs: Sequence[Job],
    console: Console,
) -> list[Done | Failure]:
    """Run jobs, and store what each brings before the next is taken; the store is locked."""
    outcomes: list[Done | Failure] = []
    if warning := executor.check(jobs):
        console.print(f"WARNING {warning}", markup=False, highlight=False, soft_wrap=True)
    with (
        RunProgress(jobs, executor.at_a_time, console) as progress,
        _Interrupts(executor, console),
    ):
        for outcome in executor.map(jobs, progress.event):
            _keep(settings, store, outcome)
            outcomes.append(outcome)
            progress.outcome(outcome)
    return outcomes


def _keep(settings: Settings, store: ResultStore, outcome: Done | Failure) -> None:
    """A row goes to its CSV, a failure to a text file; artifacts move into place."""
    results = settings.paths.results
    cell = outcome.job.cell.id
    log = results / "failures" / f"{cell}.txt"
    part = outcome.job.folder(outcome.job.cell)
    if isinstance(outcome, Failure):
        head = f"{outcome.job.label}\n{outcome.cause}\n\n"
        replace_file(log, (head + outcome.log).encode(errors="backslashreplace"))
        _former(log, outcome.job.cell).unlink(missing_ok=True)
        shutil.rmtree(part, ignore_errors=True)
        return
    target = results / "artifacts" / cell
    if part.is_dir():
        try:
            shutil.rmtree(target, ignore_errors=True)
            part.replace(target)
        except OSError as error:
            raise StoreError(f"{target} cannot be written: {error.strerror}") from error
    store.put(outcome.row, outcome.environment)
    if log.parent.is_dir():
        for file in (log, _former(log, outcome.job.cell)):
            file.unlink(missing_ok=True)


def _former(log: Path, cell: Cell) -> Path:
    """The log of a failure under the cell's older id."""
    return log.with_name(f"{former_id(cell)}.txt")


class _Interrupts:
    """Ctrl-C once: finish what runs, start nothing new. Twice: end the workers now."""

    def __init__(self, executor: Executor, console: Console) -> None:
        self.executor = executor
        self.console = console
        self.count = 0
        self.previous: Any = None

    def __enter__(self) -> _Interrupts:
        if self.executor.runs_beside:
            self.previous = signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        if self.previous is not None:
            signal.signal(signal.SIGINT, self.previous)

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        self.count += 1
        if self.count == 1:
            self.executor.stop()
            # By another thread: the signal may interrupt this one while it prints.
            text = "finishing the cells that run; Ctrl-C again to stop now"
            Thread(target=self.console.print, args=(text,)).start()
        else:
            self.executor.kill()


def command_line() -> str:
    """The command as typed, for the row."""
    return shlex.join(["bench", *sys.argv[1:]])
