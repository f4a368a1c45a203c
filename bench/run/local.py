"""Runs cells on this machine, each in a child process of its own."""

from __future__ import annotations

import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import psutil

from bench.rows.row import Row
from bench.run.executors import ignore
from bench.run.forkserver import ForkServer, ForkServerError, can_fork
from bench.run.job import EVENT, Done, Failure, Job, failed
from bench.run.preflight import check_machine
from bench.run.slots import crowding, device_slots, threads_of_cells

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from bench.run.executors import OnEvent
    from bench.run.forkserver import ForkedWorker
    from bench.settings.config import Settings

    Worker = subprocess.Popen[str] | ForkedWorker

LOG_LINES = 2000
"""Lines of a worker's output that are kept, the last ones."""

_PREFIX = "bench-"
"""Start of the names of folders for results on their way; the number of the driver follows."""

GRACE_S = 5.0
"""Seconds between asking a worker to end and killing it."""


@dataclass
class LocalExecutor:
    """One child process for each training: its own memory counters, CUDA context and log.

    Args:
        slots: environment changes of each cell that runs at a time, one dict a slot.
        timeout: seconds for a cell; 0: none. Cells that share a training have them together.
        threads: CPU threads of each cell.
        fork: fork workers from a process that has imported what they need; else, and for a
            single job, each worker imports it anew.
    """

    slots: Sequence[Mapping[str, str]]
    timeout: float = 0.0
    threads: int = 1
    fork: bool = field(default_factory=can_fork)
    _children: dict[int, Worker] = field(default_factory=dict)
    _server: ForkServer | None = None
    _starting: threading.Lock = field(default_factory=threading.Lock)
    _stopping: bool = False
    runs_beside: ClassVar[bool] = True
    takes_address: ClassVar[bool] = False

    @classmethod
    def of(cls, settings: Settings) -> LocalExecutor:
        """One cell for each visible GPU; on a CPU `[run].workers` of them."""
        run = settings.run
        slots = device_slots(run)
        return cls(slots, run.timeout, threads_of_cells(run, len(slots)))

    @property
    def at_a_time(self) -> int:
        """One for each slot."""
        return len(self.slots)

    def check(self, jobs: Sequence[Job]) -> str:
        """Refuse a device or weights that this machine lacks; warn of too few cores."""
        check_machine(jobs)
        return crowding(self.threads, min(self.at_a_time, len(jobs)))

    def map(self, jobs: Sequence[Job], on_event: OnEvent = ignore) -> Iterator[Done | Failure]:
        """Outcomes, in the order in which cells finish."""
        self.fork = self.fork and len(jobs) > 1
        clear_leftovers()
        waiting: queue.Queue[Job] = queue.Queue()
        for job in jobs:
            waiting.put(job)
        outcomes: queue.Queue[Done | Failure | None] = queue.Queue()
        threads = [
            threading.Thread(
                target=self._serve, args=(slot, waiting, outcomes, on_event), daemon=True
            )
            for slot in self.slots
        ]
        for thread in threads:
            thread.start()
        open_slots = len(threads)
        try:
            while open_slots:
                # A timeout, so that Ctrl-C reaches this thread on every platform.
                try:
                    outcome = outcomes.get(timeout=0.2)
                except queue.Empty:
                    continue
                if outcome is None:
                    open_slots -= 1
                else:
                    yield outcome
        finally:
            self.stop()
            self.kill()
            self.close()

    def run(self, job: Job, slot: Mapping[str, str], on_event: OnEvent) -> list[Done | Failure]:
        """Run the cells of a job, with the environment changes of their slot."""
        try:
            return self._run(job, slot, on_event)
        except OSError as error:  # no room for its files, no more processes
            return [*failed(job, f"the worker could not be run: {error}", "", 0.0)]

    def close(self) -> None:
        """End the process that forks workers."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def stop(self) -> None:
        """Start no further cell; those that run go on."""
        self._stopping = True

    def kill(self) -> None:
        """End the running cells now, and wait until they are gone."""
        self._stopping = True
        for child in list(self._children.values()):
            _end(child)

    def _serve(
        self,
        slot: Mapping[str, str],
        waiting: queue.Queue[Job],
        outcomes: queue.Queue[Done | Failure | None],
        on_event: OnEvent,
    ) -> None:
        try:
            while not self._stopping:
                try:
                    job = waiting.get_nowait()
                except queue.Empty:
                    break
                for outcome in self.run(job, slot, on_event):
                    # A cell that we ended ourselves did not fail.
                    if not (self._stopping and isinstance(outcome, Failure)):
                        outcomes.put(outcome)
        finally:
            outcomes.put(None)  # whatever happened: the driver must not wait for this slot

    def _run(self, job: Job, slot: Mapping[str, str], on_event: OnEvent) -> list[Done | Failure]:
        start = time.monotonic()
        with tempfile.TemporaryDirectory(prefix=f"{_PREFIX}{os.getpid()}-") as folder:
            result = Path(folder) / "result.json"
            environment = {**os.environ, **slot, **_thread_limits(job.threads)}
            child = self._start(job, result, environment, on_event)
            self._children[child.pid] = child
            limit = self.timeout * len(job.cells)
            log, timed_out = self._watch(job, child, limit, on_event)
            self._children.pop(child.pid, None)
            seconds = time.monotonic() - start
            late = f"no result within {limit:g} s ([run].timeout); it was ended"
            cause = late if timed_out else describe_exit(child.returncode)
            return _outcomes(job, result, cause, log, seconds)

    def _start(
        self, job: Job, result: Path, environment: Mapping[str, str], on_event: OnEvent
    ) -> Worker:
        """A worker: forked where that is possible, else a new process."""
        if self.fork:
            try:
                with self._starting:
                    self._server = self._server or ForkServer({**environment, **_thread_limits(1)})
                return self._server.fork(result, environment)
            except ForkServerError as error:
                self.fork = False
                on_event(job, {"warning": f"{error}; each cell starts a process of its own"})
        return _spawn(result, environment)

    def _watch(self, job: Job, child: Worker, limit: float, on_event: OnEvent) -> tuple[str, bool]:
        """Pass the job on, collect the log and the events until the worker ends."""
        expired = threading.Event()

        def expire() -> None:
            expired.set()
            _end(child)

        timer = threading.Timer(limit, expire) if limit > 0 else None
        if timer is not None:
            timer.daemon = True
            timer.start()
        threading.Thread(target=_reap, args=(child,), daemon=True).start()
        lines: deque[str] = deque(maxlen=LOG_LINES)
        assert child.stdin is not None
        assert child.stdout is not None
        with suppress(BrokenPipeError):  # a worker that died at once: its exit status says why
            child.stdin.write(job.to_json() + "\n")
            child.stdin.flush()
        for line in child.stdout:
            if line.startswith(EVENT):
                # Anything else is a line that a plugin made up.
                with suppress(ValueError, TypeError):
                    on_event(job, dict(json.loads(line[len(EVENT) :])))
            else:
                lines.append(line)
        child.wait()
        child.stdout.close()
        with suppress(BrokenPipeError):
            child.stdin.close()
        if timer is not None:
            timer.cancel()
        return "".join(lines), expired.is_set()


def _spawn(result: Path, environment: Mapping[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "bench.run.worker", str(result)],
        stdin=subprocess.PIPE,  # kept open: the worker ends when its driver is gone
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
        env=dict(environment),
        start_new_session=os.name == "posix",  # Ctrl-C is the driver's to handle
    )


def _end(child: Worker) -> None:
    """End a worker and the processes that it started."""
    for name in ("SIGTERM", "SIGKILL"):
        if child.poll() is not None and name == "SIGTERM":
            return
        with suppress(ProcessLookupError, PermissionError):
            if os.name == "posix":
                os.killpg(child.pid, getattr(signal, name))
            else:
                child.kill()
        try:
            child.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            continue


def _reap(child: Worker) -> None:
    """Once a worker is over, end what it started: a process left behind holds its output open."""
    child.wait()
    if os.name == "posix":
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)


def _outcomes(job: Job, result: Path, cause: str, log: str, seconds: float) -> list[Done | Failure]:
    """Of each cell by its line of the result; why those failed that have none is the cause."""
    lines = result.read_text("utf-8", "replace").splitlines() if result.exists() else []
    share = seconds / len(job.cells)
    return [
        _outcome(job.alone(cell), line, log, share)
        if line is not None
        else Failure(job.alone(cell), cause, log, share)
        for cell, line in zip_longest(job.cells, lines[: len(job.cells)])
    ]


def _outcome(job: Job, line: str, log: str, seconds: float) -> Done | Failure:
    try:
        values = json.loads(line)
    except ValueError as error:
        return Failure(job, f"the worker's result cannot be read: {error}", log, seconds)
    if "error" in values:
        return Failure(job, values["error"], values["traceback"] + "\n" + log, seconds)
    return Done(job, Row(**values["row"]), values["environment"], seconds)


def describe_exit(status: int | None) -> str:
    """What a worker's exit status means, in words; None: nobody knows it."""
    if status is None:
        return "the worker ended without a result, and the process that forked it was ended too"
    if status < 0:
        try:
            name = signal.Signals(-status).name
        except ValueError:
            name = f"signal {-status}"
        hint = {
            "SIGKILL": "; the system may have run out of memory",
            "SIGSEGV": "; native code crashed",
            "SIGABRT": "; native code gave up",
        }.get(name, "")
        return f"the worker was ended by {name}{hint}"
    return f"the worker exited with status {status} and left no result"


def clear_leftovers() -> None:
    """Remove the folders of drivers that were killed: nobody else will."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*-*"):
        pid = folder.name.removeprefix(_PREFIX).partition("-")[0]
        if pid.isdecimal() and not psutil.pid_exists(int(pid)):
            shutil.rmtree(folder, ignore_errors=True)  # of another user: his to clear


def _thread_limits(threads: int) -> dict[str, str]:
    # Passive waiting: spinning threads starve whatever else runs on a small machine.
    count = str(threads)
    return {
        "OMP_NUM_THREADS": count,
        "MKL_NUM_THREADS": count,
        "OPENBLAS_NUM_THREADS": count,
        "OMP_WAIT_POLICY": "PASSIVE",
        "PYTHONUNBUFFERED": "1",
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # needed for repeatable results on a GPU
    }
