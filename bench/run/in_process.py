"""Runs cells in this process, for debuggers."""

from __future__ import annotations

import functools
import gc
import importlib
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from bench.errors import BenchError
from bench.run.executors import ignore
from bench.run.forkserver import PRELOADED
from bench.run.job import Done, Failure, failed
from bench.run.preflight import check_machine
from bench.run.slots import threads_of_cells

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bench.run.executors import OnEvent
    from bench.run.job import Job
    from bench.settings.config import Settings


@dataclass
class InProcessExecutor:
    """One cell after the other; memory figures then include everything else."""

    threads: int = 1
    at_a_time: ClassVar[int] = 1
    runs_beside: ClassVar[bool] = False
    takes_address: ClassVar[bool] = False

    @classmethod
    def of(cls, settings: Settings) -> InProcessExecutor:
        """With all threads for the one cell."""
        return cls(threads_of_cells(settings.run, 1))

    def check(self, jobs: Sequence[Job]) -> str:
        """Refuse a device or weights that this machine lacks."""
        check_machine(jobs)
        return ""

    def map(self, jobs: Sequence[Job], on_event: OnEvent = ignore) -> Iterator[Done | Failure]:
        """Outcomes in order; an error that is not a BenchError is raised, for the debugger."""
        _settle()
        for job in jobs:
            yield from self._outcomes(job, on_event)

    def _outcomes(self, job: Job, on_event: OnEvent) -> Iterator[Done | Failure]:
        """Of one training, which is let go before the next: else its memory would count there."""
        from bench.run.cell import train

        start = time.monotonic()
        try:
            trained = train(job, partial(on_event, job))
        except BenchError as error:
            yield from failed(job, str(error), "", time.monotonic() - start)
            return
        for cell in job.cells:
            try:
                row, environment = trained.row(cell)
            except BenchError as error:
                yield Failure(job.alone(cell), str(error), "", time.monotonic() - start)
            else:
                yield Done(job.alone(cell), row, environment, time.monotonic() - start)
            start = time.monotonic()

    def stop(self) -> None:
        """Nothing runs beside this process."""

    def kill(self) -> None:
        """Nothing runs beside this process."""


@functools.cache
def _settle() -> None:
    """Import what cells need, and let no collection of garbage look through it again.

    Memory is read after collections, six in a cell; each would take a fifth of a second.
    """
    for module in PRELOADED:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()
