"""Runs cells on a Ray cluster, each still in a process of its own, on whichever machine is free.

Ray finds the machine: a cell asks for CPUs, a GPU and memory. A lost machine or process reruns its
cell; a cell that fails does not. The driver alone writes.
"""

from __future__ import annotations

import importlib.util
import socket
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from bench.errors import ConfigError
from bench.rows.text import counted
from bench.run.executors import ignore
from bench.run.job import failed
from bench.run.node import (
    Ended,
    Event,
    Home,
    Refused,
    Started,
    problem_on_node,
    run_on_node,
    unpack,
)
from bench.run.ray_cluster import Needs, Node, described, join, machines
from bench.run.slots import named_threads

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bench.run.executors import OnEvent
    from bench.run.job import Done, Failure, Job
    from bench.run.node import Message
    from bench.settings.config import RunSettings, Settings

RETRIES = 3
"""Times that a cell is run again because its machine or its process was lost."""

WORKER_MB = 1500
"""Memory of a cell without what its method holds: Python, torch and the test images."""

UNKNOWN_MB = 4000
"""Memory that a cell asks for where no earlier row of its method says how much it takes."""

AHEAD = 1.1
"""Cells handed to Ray over those that can run at a time: none waits for the driver, and yet their
order is kept and Ctrl-C has few to call back."""

LOOK_S = 10.0
"""Seconds between two looks at which machines there are."""

GONE_S = 300.0
"""Seconds that a cell waits while no machine could take it, after which it has failed."""


@dataclass
class _Task:
    """A job that Ray has: a cell, or those that share a training."""

    job: Job
    lost: int  # times that it was lost before
    node: Started | None = None  # None while it waits

    @property
    def place(self) -> str:
        """What a machine may be unfit for: method and images."""
        cell = self.job.cell
        return f"{cell.method} {cell.dataset}/{cell.category}"

    @property
    def where(self) -> str:
        """The machine in a message."""
        return f"{self.node.name} ({self.node.id[:8]})" if self.node else "no machine yet"


@dataclass
class RayExecutor:
    """Cells as Ray tasks.

    Args:
        run: the settings of the run.
        home: where the driver has what cells read.
        nodes: the machines that there are at the start.
        has_joined: the connection is this executor's to close.
    """

    run: RunSettings
    home: Home
    nodes: Sequence[Node]
    has_joined: bool = True
    _share: float = 1.0  # of a GPU, that the smallest cell takes
    _tasks: dict[Any, _Task] = field(default_factory=dict)
    _refused: dict[str, dict[str, str]] = field(default_factory=dict)  # place: node id: reason
    _looked: float = field(default_factory=time.monotonic)
    _had_room: float = field(default_factory=time.monotonic)
    _stopping: bool = False
    _killing: bool = False
    runs_beside: ClassVar[bool] = True
    takes_address: ClassVar[bool] = True

    @classmethod
    def of(cls, settings: Settings) -> RayExecutor:
        """On the cluster at `[run].address`; without one, a Ray of this machine alone.

        Raises:
            ConfigError: Ray is not installed, there is no cluster, or a device is not Ray's to
                choose.
        """
        run = settings.run
        if importlib.util.find_spec("ray") is None:
            raise ConfigError("--executor ray: Ray is not installed; pip install 'flawbench[ray]'")
        if ":" in run.device:
            raise ConfigError(
                f"--device {run.device} names a GPU of one machine; with --executor ray say cuda"
            )
        has_joined = join(run.address)
        return cls(run, Home.of(settings), machines(), has_joined)

    @property
    def gpus(self) -> int:
        """GPUs of a cell."""
        has_gpus = any(node.gpus for node in self.nodes)
        return int(self.run.device == "cuda" or (self.run.device == "auto" and has_gpus))

    @property
    def threads(self) -> int:
        """As set, else as many as every machine has for each of its cells."""
        shares = [
            node.cpus // (node.gpus if self.gpus else self.run.workers)
            for node in self.nodes
            if node.cpus and (node.gpus or not self.gpus)
        ]
        return self.run.threads or named_threads() or max(1, int(min(shares, default=1)))

    @property
    def at_a_time(self) -> int:
        """What fits into the cluster."""
        needs = Needs(self.threads, self.gpus * self._share, 0.0)
        return max(1, sum(needs.fit_into(node) for node in self.nodes))

    def needs(self, job: Job) -> Needs:
        """What a cell asks for; never more memory than the largest machine has.

        A GPU is a cell's alone where it measures speed: two on one would time each other.
        """
        known = WORKER_MB + 1.25 * job.expected_mb if job.expected_mb else UNKNOWN_MB
        most = max((node.memory_mb for node in self.nodes), default=0.0)
        return Needs(job.threads, self.gpus * job.gpu_share, min(known, most))

    def plan(self, jobs: Sequence[Job]) -> None:
        """Count how many run at a time by the smallest share of a GPU."""
        self._share = min((job.gpu_share for job in jobs), default=1.0)

    def check(self, jobs: Sequence[Job]) -> str:
        """Refuse cells that fit nowhere, and weights that a machine lacks.

        Raises:
            ConfigError: says what is asked for, and what the machines have.
        """
        import ray

        self.plan(jobs)
        for needs in {self.needs(job) for job in jobs}:
            if not any(needs.fit_into(node) for node in self.nodes):
                raise ConfigError(
                    f"no machine of the cluster has {needs.text()} for a cell; "
                    f"{described(self.nodes)}; lower --threads, or add machines"
                )
        ask = ray.remote(problem_on_node).options(num_gpus=self.gpus, max_retries=RETRIES)
        try:
            problem = ray.get(ask.remote(list(jobs), self.home))
        except ray.exceptions.RayError as error:
            last = str(error).strip().splitlines()[-1]
            raise ConfigError(f"a machine of the cluster cannot run cells: {last}") from error
        if problem:
            raise ConfigError(problem)
        return ""

    def map(self, jobs: Sequence[Job], on_event: OnEvent = ignore) -> Iterator[Done | Failure]:
        """Outcomes, in the order in which cells finish; handed to Ray in the order given."""
        import ray

        waiting = deque(_Task(job, 0) for job in jobs)
        try:
            while (waiting and not self._stopping) or (self._tasks and not self._killing):
                while waiting and not self._stopping and len(self._tasks) < self._most():
                    yield from self._submit(waiting.popleft())
                for stream in _ready(list(self._tasks)):
                    yield from self._take(stream, waiting, on_event)
                if time.monotonic() - self._looked >= LOOK_S:
                    yield from self._look(waiting)
        finally:
            self.kill()
            if self.has_joined:
                ray.shutdown()

    def stop(self) -> None:
        """Call back what has not started; what runs goes on."""
        import ray

        self._stopping = True
        for stream, task in list(self._tasks.items()):
            if not task.node:
                ray.cancel(stream)

    def kill(self) -> None:
        """End the running cells now."""
        import ray

        self._stopping = self._killing = True
        for stream in list(self._tasks):
            with suppress(ray.exceptions.RayError):
                ray.cancel(stream, force=True)

    def _most(self) -> int:
        """Cells that Ray may have."""
        return 1 + int(AHEAD * self.at_a_time)

    def _look(self, waiting: deque[_Task]) -> Iterator[Failure]:
        """Which machines are there now; cells that none has taken for long have failed."""
        import ray

        self.nodes, self._looked = machines(), time.monotonic()
        queued = [(stream, task) for stream, task in self._tasks.items() if task.node is None]
        stuck = [(s, task) for s, task in queued if not self._is_fit_somewhere(task)]
        if not stuck:
            self._had_room = self._looked
        elif self._looked - self._had_room >= GONE_S:
            for stream, task in stuck:
                ray.cancel(stream)
                self._tasks.pop(stream)
                cause = f"no machine of the cluster is left that has {self.needs(task.job).text()}"
                yield from failed(task.job, cause, "", 0.0)

    def _is_fit_somewhere(self, task: _Task) -> bool:
        """Whether a machine has room for a cell, and has not refused its like."""
        needs, unfit = self.needs(task.job), self._refused.get(task.place, {})
        return any(needs.fit_into(node) and node.id not in unfit for node in self.nodes)

    def _submit(self, task: _Task) -> Iterator[Failure]:
        """Hand a cell to Ray, unless every machine has refused its like."""
        import ray

        unfit = self._refused.get(task.place, {})
        if unfit and not self._is_fit_somewhere(task):
            reason = next(reversed(unfit.values()))
            yield from failed(task.job, f"no machine is fit: {reason}", "", 0.0)
            return
        needs = self.needs(task.job)
        options: dict[str, Any] = {
            "num_cpus": needs.cpus,
            "num_gpus": needs.gpus,
            "memory": int(needs.memory_mb * 1e6),
            "name": task.job.label,
            "max_retries": 0,  # ours, so that they are told
            "num_returns": "streaming",
        }
        if unfit:
            options["label_selector"] = {"ray.io/node-id": f"!in({','.join(unfit)})"}
        remote = ray.remote(_task_body).options(**options)
        self._tasks[remote.remote(task.job, self.run.timeout, self.home)] = task

    def _take(
        self, stream: Any, waiting: deque[_Task], on_event: OnEvent
    ) -> Iterator[Done | Failure]:
        """The next message of a task."""
        import ray
        from ray import exceptions

        task = self._tasks[stream]
        try:
            message: Message = ray.get(next(stream))
        except StopIteration:
            self._tasks.pop(stream)
        except exceptions.TaskCancelledError:
            self._tasks.pop(stream)
        except exceptions.RayTaskError as error:
            self._tasks.pop(stream)
            cause = str(error.cause).partition("\n")[0]
            name = type(error.cause).__name__
            yield from failed(task.job, f"{name}: {cause}", str(error), 0.0)
        except exceptions.RayError as error:
            self._tasks.pop(stream)
            yield from self._lose(task, error, waiting, on_event)
        else:
            yield from self._heed(message, task, waiting, on_event)

    def _lose(
        self, task: _Task, error: Exception, waiting: deque[_Task], on_event: OnEvent
    ) -> Iterator[Failure]:
        """Its machine or process is gone: once more, but not for ever."""
        reason = f"{type(error).__name__} on {task.where}"
        if self._killing:
            return
        if task.lost >= RETRIES:
            times = counted(task.lost + 1, "time")
            yield from failed(task.job, f"lost {times}, the last by {reason}", str(error), 0.0)
            return
        text = f"lost by {reason}; runs again, {task.lost + 1} of {RETRIES}"
        on_event(task.job, {"warning": text})
        yield from self._look(waiting)
        waiting.appendleft(_Task(task.job, task.lost + 1))

    def _heed(
        self, message: Message, task: _Task, waiting: deque[_Task], on_event: OnEvent
    ) -> Iterator[Done | Failure]:
        if isinstance(message, Started):
            task.node = message
        elif isinstance(message, Event):
            on_event(task.job, message.values)
        elif isinstance(message, Ended):
            unpack(message.files, task.job.artifacts)
            yield from message.outcomes
        else:
            self._avoid(message, task, waiting, on_event)

    def _avoid(
        self, message: Refused, task: _Task, waiting: deque[_Task], on_event: OnEvent
    ) -> None:
        """Send no cell of this place to that machine again."""
        assert task.node is not None
        unfit = self._refused.setdefault(task.place, {})
        if task.node.id not in unfit:
            unfit[task.node.id] = message.reason
            on_event(task.job, {"warning": f"not on {task.where}: {message.reason}"})
        waiting.appendleft(_Task(task.job, task.lost))


def _task_body(job: Job, timeout: float, home: Home) -> Iterator[Message]:
    """What Ray runs on a machine."""
    import ray

    yield Started(ray.get_runtime_context().get_node_id(), socket.gethostname())
    yield from run_on_node(job, timeout, home)


def _ready(streams: Sequence[Any]) -> list[Any]:
    """The tasks that have said something; waits a little for the first."""
    import ray

    if not streams:
        return []
    first, _ = ray.wait(list(streams), num_returns=1, timeout=0.2)
    if not first:
        return []
    ready, _ = ray.wait(list(streams), num_returns=len(streams), timeout=0)
    return list(ready)
