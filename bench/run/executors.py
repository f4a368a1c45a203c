"""What runs cells: one protocol, and the table of those that there are."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Protocol

from bench.errors import ConfigError, nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from bench.run.job import Done, Failure, Job
    from bench.settings.config import Settings

    OnEvent = Callable[[Job, Mapping[str, Any]], None]

EXECUTORS = {
    "local": "bench.run.local:LocalExecutor",
    "in-process": "bench.run.in_process:InProcessExecutor",
    "ray": "bench.run.on_ray:RayExecutor",
}
"""Module and class of each executor by the name that `--executor` takes."""


def ignore(_job: Job, _event: Mapping[str, Any]) -> None:
    """For whoever does not ask how far cells are."""


class Executor(Protocol):
    """Runs cells, those of a job in a process of their own, and hands back how each ended."""

    @property
    def at_a_time(self) -> int:
        """Cells that run at a time, at most."""

    @property
    def threads(self) -> int:
        """CPU threads of each cell."""

    @property
    def runs_beside(self) -> bool:
        """Whether cells run beside this process, so that Ctrl-C may let them finish."""

    @property
    def takes_address(self) -> bool:
        """Whether it runs on the cluster at `[run].address`."""

    @classmethod
    def of(cls, settings: Settings) -> Executor:
        """As set in `[run]`, or by options.

        Raises:
            ConfigError: it cannot run so, or is not there.
        """

    def check(self, jobs: Sequence[Job]) -> str:
        """Refuse what no cell could run with: a device or weights that are not there.

        Returns:
            a warning, or an empty text.

        Raises:
            ConfigError: what the first cell would say, once.
        """

    def map(self, jobs: Sequence[Job], on_event: OnEvent = ignore) -> Iterator[Done | Failure]:
        """Outcomes, in the order in which cells finish; `on_event` is told how far each is."""

    def stop(self) -> None:
        """Start no further cell; those that run go on."""

    def kill(self) -> None:
        """End the running cells now, and wait until they are gone."""


def open_executor(settings: Settings) -> Executor:
    """The executor that `[run].executor` names.

    Raises:
        ConfigError: an unknown name, or an executor that cannot run as set.
    """
    run = settings.run
    if run.executor not in EXECUTORS:
        raise ConfigError(f"unknown executor {run.executor!r}; {nearest(run.executor, EXECUTORS)}")
    module, _, name = EXECUTORS[run.executor].partition(":")
    chosen: type[Executor] = getattr(importlib.import_module(module), name)
    executor = chosen.of(settings)
    if run.address and not executor.takes_address:
        raise ConfigError(
            f"--address {run.address}: the executor {run.executor!r} runs cells on this machine; "
            "--executor ray takes the address of a cluster"
        )
    return executor
