"""Cells on a machine of a cluster: in its own folders, after a look at its data and code.

What a cell writes comes back as bytes, so that the driver alone writes results and no file system
need be shared. A machine that has not what the cell was planned with refuses it.
"""

from __future__ import annotations

import os
import queue
import tempfile
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.errors import BenchError
from bench.files.manifest import fingerprint
from bench.plan import discovery
from bench.run.job import Done, Failure, Job
from bench.run.local import LocalExecutor, clear_leftovers
from bench.run.preflight import check_machine

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping, Sequence

    from bench.settings.config import Settings

FOLDERS = ("data", "cache", "auxiliary", "weights")
"""Folders of `[paths]` that a machine may have elsewhere: it says so by BENCH_DATA, ..."""

EVENT_S = 0.5
"""Seconds between two events of a cell that are passed on; warnings always are."""


@dataclass(frozen=True)
class Home:
    """Where the driver has what cells read.

    Attributes:
        project: its folder of bench.toml.
        folders: of `FOLDERS`, those that are set.
    """

    project: str
    folders: Mapping[str, str]

    @classmethod
    def of(cls, settings: Settings) -> Home:
        """That of the driver's settings."""
        places = {name: getattr(settings.paths, name) for name in FOLDERS}
        folders = {name: str(path) for name, path in places.items() if path is not None}
        return cls(str(settings.project), folders)

    def here(self, path: Path) -> Path:
        """Where a path of the driver's lies on this machine, by its own BENCH_DATA, ..."""
        for name, folder in self.folders.items():
            own = os.environ.get(f"BENCH_{name.upper()}")
            if own and path.is_relative_to(folder):
                return Path(own, path.relative_to(folder))
        return path


@dataclass(frozen=True)
class Started:
    """The cell left the queue; the machine that runs it."""

    id: str
    name: str


@dataclass(frozen=True)
class Event:
    """How far the cell is."""

    values: Mapping[str, Any]


@dataclass(frozen=True)
class Refused:
    """This machine is not fit for the cell; another may be."""

    reason: str  # one line


@dataclass(frozen=True)
class Ended:
    """How the cells ended, and the files that they wrote, by name below the artifacts."""

    outcomes: Sequence[Done | Failure]
    files: Mapping[str, bytes]


Message = Started | Event | Refused | Ended


def problem_on_node(jobs: Sequence[Job], home: Home) -> str:
    """What no cell could run with here: the device, or the weights; empty if nothing is wrong."""
    try:
        check_machine([_with_own_folders(job, home) for job in jobs])
    except BenchError as error:
        return str(error)
    return ""


def run_on_node(job: Job, timeout: float, home: Home) -> Iterator[Message]:
    """Run the cells of a job in a process of their own on this machine.

    Args:
        job: with the driver's paths.
        timeout: seconds for the cell; 0: none.
        home: where the driver has what cells read.
    """
    try:
        here = _with_own_folders(job, home)
        _look(here, home.here(Path(home.folders["cache"])))
    except (BenchError, OSError) as error:
        yield Refused(str(error))
        return
    with tempfile.TemporaryDirectory(prefix="bench-artifacts-") as folder:
        here = replace(here, artifacts=Path(folder, "artifacts"))
        outcomes = yield from _run(here, timeout)
        files = {
            file.relative_to(here.artifacts).as_posix(): file.read_bytes()
            for outcome in outcomes
            for file in sorted(here.folder(outcome.job.cell).rglob("*"))
            if file.is_file() and isinstance(outcome, Done)
        }
        yield Ended([replace(o, job=job.alone(o.job.cell)) for o in outcomes], files)


def unpack(files: Mapping[str, bytes], folder: Path) -> None:
    """Write what cells wrote elsewhere into a folder of the driver's."""
    for name, content in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)


def _with_own_folders(job: Job, home: Home) -> Job:
    """The job with this machine's paths; discovery and the worker look into its project.

    Raises:
        BenchError: there is no such project here.
    """
    project = os.environ.get("BENCH_PROJECT") or home.project
    if not Path(project).is_dir():
        raise BenchError(f"there is no project {project}; give it the folder, or BENCH_PROJECT")
    os.environ["BENCH_PROJECT"] = project

    def here(path: Path | None) -> Path | None:
        return None if path is None else home.here(path)

    return replace(
        job,
        root=home.here(job.root),
        cache=here(job.cache),
        auxiliary={name: home.here(folder) for name, folder in job.auxiliary.items()},
        weights=replace(job.weights, file=here(job.weights.file), folder=here(job.weights.folder)),
    )


def _look(job: Job, cache: Path) -> None:
    """Whether method and images are those that the cell was planned with; generated ones are made.

    Raises:
        BenchError: they are missing, or others.
    """
    cell = job.cell
    if discovery.describe("methods", cell.method).code() != job.code:
        raise BenchError(f"other code of {cell.method} than the driver's; give it the same version")
    plugin = discovery.describe("datasets", cell.dataset)
    dataset = discovery.make(plugin, cell.dataset_params, root=job.root)
    if plugin.constants.get("generated"):
        with _alone(job.root):
            dataset.prepare([cell.category])
    found = fingerprint(dataset, cell.category, cache)
    if found != cell.data:
        raise BenchError(
            f"other images of {cell.dataset}/{cell.category} in {job.root}: they hash to {found}, "
            f"the driver's to {cell.data}; copy them again, or name their folder by BENCH_DATA"
        )


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Nobody else on this machine makes the images of this folder meanwhile."""
    import fcntl

    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f".{folder.name}.lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


_executor: LocalExecutor | None = None
"""Kept from cell to cell, and with it the process that forks workers."""


def _run(job: Job, timeout: float) -> Generator[Event, None, list[Done | Failure]]:
    """Events while the cells run; returns their outcomes."""
    global _executor
    if _executor is None:
        clear_leftovers()
        _executor = LocalExecutor([{}])
    executor = _executor
    executor.timeout = timeout
    told: queue.Queue[Event | list[Done | Failure]] = queue.Queue()

    def work() -> None:
        told.put(executor.run(job, {}, lambda _, values: told.put(Event(dict(values)))))

    threading.Thread(target=work, daemon=True).start()
    shown = -EVENT_S
    try:
        while isinstance(found := told.get(), Event):
            if "warning" in found.values or time.monotonic() - shown >= EVENT_S:
                shown = time.monotonic()
                yield found
    except BaseException:  # the driver wants no more of it
        executor.kill()
        _executor = None
        raise
    return found
