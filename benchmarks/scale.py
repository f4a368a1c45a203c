"""What it costs to run many cells: workers that share the work, the driver, and one cell.

    python benchmarks/scale.py [--executor local|ray] [--sleep 10] [--rows 100000]

Three measurements, each with its goal:

- **efficiency**: cells that sleep, three for each worker, on 1, 2, 4 and 8 workers. Efficiency is
  the time that one worker takes for its three, over that of all workers for theirs. The cells are
  real ones, each in a process of its own; what they do beside sleeping needs a core.
- **throughput**: rows per second that the driver stores, artifacts and progress with them, in a
  store that holds 100,000 rows of 17 methods on 8 data sets already; from the first to the last,
  with the last rewriting of the files.
- **overhead**: seconds of a cell that does nothing, from its start to its row.
"""

from __future__ import annotations

import argparse
import io
import os
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from bench.plan.cells import Cell
from bench.plan.identity import NAMES, plain
from bench.plan.request import Request, plan_request
from bench.rows.csv_file import sort_rows, write_csv
from bench.rows.store import ResultStore
from bench.run.driver import execute, make_jobs
from bench.run.executors import EXECUTORS, ignore, open_executor
from bench.run.job import Done, Failure, Job
from bench.settings.config import Paths, Settings, load_settings
from bench.settings.protocol import Protocol
from bench.settings.speed import SpeedProtocol
from bench.weights.choice import Weights

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bench.rows.row import Row
    from bench.run.executors import OnEvent

RESULTS = Path(__file__).parents[1] / "results"
WORKERS = (1, 2, 4, 8)
CELLS = 3
"""Cells of each worker."""
EFFICIENCY, ROWS_PER_S = 0.94, 1000.0
"""The goals: at the most workers, and with a full store."""

SLEEPER = '''"""Sleeps."""
import time
from dataclasses import dataclass

from bench.api import Method, Prediction


@dataclass
class Sleeper(Method):
    seconds: float = 0.0

    def fit(self, train, run):
        time.sleep(self.seconds)
        yield {}

    def predict(self, images):
        return Prediction(images.mean(1))
'''
SETTINGS = """
[run]
speed = "once"
protocol = "tiny"
threads = 1
device = "cpu"
weights = "random"
[protocols.tiny]
resize = [32, 32]
[speed.once]
warmup_steps_cpu = 1
min_steps_cpu = 1
min_s_cpu = 0
max_batch = 1
[datasets.synthetic]
size = 64
train = 2
good = 1
bad = 1
"""


def main() -> int:
    """Print the three parts; 1 where a goal is missed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--executor", choices=list(EXECUTORS), default="local")
    parser.add_argument("--sleep", type=float, default=20.0, help="seconds of a cell")
    parser.add_argument("--rows", type=int, default=100_000, help="rows that the store holds")
    parser.add_argument("--new", type=int, default=20_000, help="rows that the driver stores")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        reached = [
            throughput(Path(folder, "store"), given.rows, given.new),
            scaling(Path(folder, "project"), given.executor, given.sleep),
        ]
    return 0 if all(reached) else 1


def scaling(project: Path, executor: str, sleep: float) -> bool:
    """Efficiency on 1, 2, 4 and 8 workers, and the overhead of a cell; whether the goal is met."""
    (project / "methods").mkdir(parents=True)
    (project / "methods" / "sleeper.py").write_text(SLEEPER, encoding="utf-8")
    (project / "bench.toml").write_text(SETTINGS, encoding="utf-8")
    os.environ["BENCH_PROJECT"] = str(project)
    idle, _ = run_cells(project, executor, 1, 0.0)
    later = [outcome.seconds for outcome in idle[1:]]
    print(
        f"overhead of a cell, {executor}: first {idle[0].seconds:.2f} s, then "
        f"{statistics.median(later):.2f} s ({', '.join(f'{s:.2f}' for s in later)})"
    )
    alone = 0.0
    for workers in WORKERS:
        outcomes, wall = run_cells(project, executor, workers, sleep)
        alone = alone or wall
        efficiency = alone / wall
        print(
            f"efficiency, {workers} workers: {efficiency:.3f} ({len(outcomes)} cells of "
            f"{sleep:g} s in {wall:.1f} s on {os.cpu_count()} cores)"
        )
    return efficiency >= EFFICIENCY


def run_cells(project: Path, executor: str, workers: int, sleep: float) -> tuple[list[Done], float]:
    """Outcomes of `CELLS` cells for each worker, and seconds of all."""
    settings = load_settings(project)
    run = replace(settings.run, executor=executor, workers=workers)
    run = replace(run, seeds=tuple(range(CELLS * workers)))
    settings = replace(settings, run=run)
    request = Request(["sleeper"], ["synthetic"], ["weave"], {"seconds": sleep})
    planned = plan_request(settings, request)
    for part in planned:
        part.dataset.prepare(["weave"])
    wanted = {cell.id for part in planned for cell in part.cells}
    chosen = open_executor(settings)
    jobs = make_jobs(settings, request, planned, wanted, chosen.threads)
    start = time.perf_counter()
    outcomes = list(chosen.map(jobs))
    wall = time.perf_counter() - start
    done = [outcome for outcome in outcomes if isinstance(outcome, Done)]
    for failure in outcomes:
        if isinstance(failure, Failure):
            sys.exit(f"{failure.cause}\n{failure.log}")
    return done, wall


METHODS, DATASETS, CATEGORIES = 17, 8, 15


class Instant:
    """An executor whose cells are over before they begin: what is left is the driver's."""

    at_a_time = 1
    threads = 1
    runs_beside = False
    takes_address = False

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = rows

    @classmethod
    def of(cls, settings: Settings) -> Instant:
        """Without any row."""
        return cls([])

    def check(self, jobs: Sequence[Job]) -> str:
        """Nothing can be wrong."""
        return ""

    def map(self, jobs: Sequence[Job], on_event: OnEvent = ignore) -> Iterator[Done | Failure]:
        """A row for each cell, with events as a worker sends them."""
        for job, row in zip(jobs, self.rows, strict=True):
            for phase in ("reading", "fitting", "scoring", "profiling"):
                on_event(job, {"phase": phase})
            yield Done(job, row, {"device": "none"}, 1.0)

    def stop(self) -> None:
        """Nothing runs."""

    def kill(self) -> None:
        """Nothing runs."""


def throughput(folder: Path, stored: int, new: int) -> bool:
    """Rows per second of the driver in a full store; whether the goal is met."""
    like = ResultStore(RESULTS).rows()[0]
    rows = [made(planned_cell(number), like) for number in range(stored)]
    by_file: dict[Path, list[Row]] = {}
    store = ResultStore(folder)
    for row in rows:
        by_file.setdefault(store.file(row.dataset, row.method), []).append(row)
    for file, own in by_file.items():
        write_csv(file, sort_rows(own))
    jobs = [job_of(planned_cell(number), folder) for number in range(stored, stored + new)]
    executor = Instant([made(job.cell, like) for job in jobs])
    settings = Settings(folder, paths=Paths(results=folder))
    console = Console(file=io.StringIO())
    start, busy = time.perf_counter(), time.process_time()
    with store.lock():
        execute(settings, executor, store, jobs, console)
        streamed = time.perf_counter() - start
    whole, busy = time.perf_counter() - start, time.process_time() - busy
    assert len(store.rows()) == stored + new
    print(
        f"throughput of the driver, {stored:,} rows in the store: {new / whole:,.0f} rows per "
        f"second ({new:,} in {whole:.1f} s, {busy:.1f} s of processor; "
        f"{new / streamed:,.0f} before the last rewriting)"
    )
    return new / whole >= ROWS_PER_S


def planned_cell(number: int) -> Cell:
    """The cell of a number: all methods, data sets and categories in turn, then the next seed."""
    rest, method = divmod(number, METHODS)
    rest, dataset = divmod(rest, DATASETS)
    seed, category = divmod(rest, CATEGORIES)
    return Cell(
        method=f"method{method:02}",
        method_version=1,
        params={"backbone": "resnet18", "layers": [1, 2, 3], "width": 100},
        dataset=f"dataset{dataset}",
        dataset_version=1,
        dataset_params={},
        category=f"category{category:02}",
        seed=seed,
        protocol=PROTOCOL,
        pretrained="pretrained",
        data="0123456789abcdef",
    )


PROTOCOL = Protocol("standard")


def made(cell: Cell, like: Row) -> Row:
    """A row of the cell with the figures of another, a real one."""
    names = {name: getattr(cell, name) for name in NAMES}
    return replace(like, cell=cell.id, params=plain(cell.params), **names)


def job_of(cell: Cell, results: Path) -> Job:
    """As the driver makes it; what a worker writes lies there already."""
    weights, speed = Weights("random"), SpeedProtocol()
    job = Job((cell,), results, "cpu", 1, 0, 8, weights, speed, results / "artifacts")
    job.folder(cell).mkdir(parents=True)
    (job.folder(cell) / "scores.csv").write_text("image,score\n", encoding="ascii")
    return job


if __name__ == "__main__":
    sys.exit(main())
