"""How long a cell will take and how much memory it will need, by the rows that there are."""

from __future__ import annotations

import statistics
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from bench.rows.row import Row
    from bench.run.job import Job


def with_expectations(jobs: Sequence[Job], rows: Iterable[Row]) -> list[Job]:
    """The jobs with what the most similar earlier rows measured: seconds and host memory."""
    seconds: dict[tuple[str, ...], list[float]] = {}
    memory: dict[tuple[str, ...], list[float]] = {}
    for row in rows:
        for key in _keys(row.method, row.dataset, row.category):
            if taken := seconds_of(row):
                seconds.setdefault(key, []).append(taken)
            if held := memory_of(row):
                memory.setdefault(key, []).append(held)
    return [
        replace(job, expected_s=_nearest(seconds, job), expected_mb=_nearest(memory, job))
        for job in jobs
    ]


def longest_first(jobs: Sequence[Job]) -> list[Job]:
    """So that no long cell is left over when all others are done; like ones keep their order.

    Cells that nobody knows come first, those of many epochs before the others: any of them may be
    the longest.
    """
    return sorted(jobs, key=lambda job: (job.expected_s > 0, -job.expected_s, -_epochs(job)))


def seconds_of(row: Row) -> float:
    """Training and the scoring of the test images; 0 where it was not measured."""
    scoring = row.n_test / row.fps if row.n_test and row.fps else 0.0
    return (row.fit_s or 0.0) + scoring


def memory_of(row: Row) -> float:
    """Peak of host memory in MB; 0 where it was not measured, as on a GPU."""
    if "cuda" in row.memory:
        return 0.0
    return max(row.fit_mb or 0.0, row.infer_batch_mb or 0.0)


def _keys(method: str, dataset: str, category: str) -> list[tuple[str, ...]]:
    """From the most similar on: the same cell with another seed or setting, the data set, all."""
    return [(method, dataset, category), (method, dataset), (method,)]


def _nearest(known: Mapping[tuple[str, ...], Sequence[float]], job: Job) -> float:
    """Median over the most similar rows; 0: there is none."""
    cell = job.cell
    found = [known[k] for k in _keys(cell.method, cell.dataset, cell.category) if k in known]
    return statistics.median(found[0]) if found else 0.0


def _epochs(job: Job) -> float:
    """What the method's parameters say; 1 where it has no such field."""
    epochs = job.cell.params.get("epochs", 1)
    return float(epochs) if isinstance(epochs, (int, float)) else 1.0
