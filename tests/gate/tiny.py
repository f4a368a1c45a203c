"""A gate of one cell of sixteen small images, trained in this process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.plan.request import Request, plan_request
from bench.rows.changes import Environments
from bench.rows.check import Comparison, compare
from bench.rows.tolerances import Tolerances
from bench.run.driver import make_jobs
from bench.run.in_process import InProcessExecutor
from bench.run.job import Done

if TYPE_CHECKING:
    from bench.rows.row import Row
    from bench.settings.config import Settings


def train(settings: Settings, method: str) -> Row:
    """One cell, in this process."""
    request = Request(methods=[method], datasets=["synthetic"], categories=["bolt"])
    planned = plan_request(settings, request)
    planned[0].dataset.samples("bolt", "train")
    (job,) = make_jobs(settings, request, planned, {planned[0].cells[0].id})
    (outcome,) = InProcessExecutor().map([job])
    assert isinstance(outcome, Done), outcome
    return outcome.row


def gate(settings: Settings, old: Row, now: Row) -> Comparison:
    """The two rows under the shipped tolerances."""
    tolerances = Tolerances.from_table(settings.check, "bench.toml")
    return compare([old], [now], tolerances, Environments([]))


def changed(found: Comparison) -> set[str]:
    """Figures that moved."""
    return {d.metric for cell in found.changed for d in cell.changed}
