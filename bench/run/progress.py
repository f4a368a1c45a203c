"""Progress of a run: a bar on a terminal, plain lines elsewhere. Both with the time left."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from dataclasses import InitVar, dataclass, field
from typing import TYPE_CHECKING, Any

from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn

from bench.rows.text import percent
from bench.run.job import Done, Failure

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

    from rich.console import Console

    from bench.run.job import Job


def duration(seconds: float) -> str:
    """Seconds as people say them."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"


@dataclass
class TimeLeft:
    """Estimates the rest of a run from the cells that are over, method by method."""

    jobs: InitVar[Sequence[Job]]
    slots: int
    _rest: Counter[str] = field(init=False)  # cells of each method that are not over
    _over: Counter[str] = field(default_factory=Counter)
    _taken: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))

    def __post_init__(self, jobs: Sequence[Job]) -> None:
        self._rest = Counter(cell.method for job in jobs for cell in job.cells)

    def note(self, job: Job, seconds: float) -> None:
        """One cell is over."""
        method = job.cell.method
        self._rest[method] -= 1
        self._over[method] += 1
        self._taken[method] += seconds

    def seconds(self) -> float | None:
        """Seconds left; None before the first cell is over."""
        if not self._over:
            return None
        overall = sum(self._taken.values()) / sum(self._over.values())
        mean = {method: self._taken[method] / count for method, count in self._over.items()}
        left = (count * mean.get(method, overall) for method, count in self._rest.items())
        return sum(left) / self.slots

    def text(self) -> str:
        """Ready to print."""
        left = self.seconds()
        return "" if left is None else f"{duration(left)} left"


class RunProgress:
    """Shows what runs, what is over, and the time left."""

    def __init__(self, jobs: Sequence[Job], slots: int, console: Console) -> None:
        self.console = console
        self.left = TimeLeft(jobs, slots)
        self.total = sum(len(job.cells) for job in jobs)
        protocols = {cell.protocol.name for job in jobs for cell in job.cells}
        self.has_several = len(protocols) > 1  # then lines name the protocol too
        self.count = 0
        self.bar: Progress | None = None
        self.tasks: dict[str, TaskID] = {}
        self.announced: dict[str, float] = {}
        if console.is_terminal:
            self.bar = Progress(
                SpinnerColumn(),
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=24),
                TextColumn("{task.fields[note]}", markup=False),
                console=console,
            )
            self.overall = self.bar.add_task("cells", total=self.total, note=f"0/{self.total}")

    def __enter__(self) -> RunProgress:
        if self.bar is not None:
            self.bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.bar is not None:
            self.bar.stop()

    def event(self, job: Job, event: Mapping[str, Any]) -> None:
        """A worker said how far it is."""
        if "warning" in event:
            self._say(f"      {self._name(job)}: {event['warning']}")
            return
        epoch, epochs = event.get("epoch"), event.get("epochs")
        loss = f", loss {event['loss']:.4g}" if "loss" in event else ""
        if epoch is not None:
            note = f"epoch {epoch}{f'/{epochs}' if epochs else ''}{loss}"
        else:
            note = str(event.get("phase", ""))
        if self.bar is not None:
            key = job.cell.training
            if key not in self.tasks:
                self.tasks[key] = self.bar.add_task(self._name(job), total=epochs, note=note)
            self.bar.update(self.tasks[key], completed=epoch or 0, total=epochs, note=note)
        elif self._is_due(job):
            self._say(f"      {self._name(job)}: {note}")

    def outcome(self, outcome: Done | Failure) -> None:
        """A cell is over."""
        self.count += 1
        self.left.note(outcome.job, outcome.seconds)
        head = f"[{self.count}/{self.total}] {self._name(outcome.job)}"
        if isinstance(outcome, Done):
            row = outcome.row
            text = (
                f"{head}: image AUROC {percent(row.image_auroc) or 'n/a'}, "
                f"pixel AUROC {percent(row.pixel_auroc) or 'n/a'}, "
                f"AUPRO 0.3 {percent(row.aupro_30) or 'n/a'} ({duration(outcome.seconds)})"
            )
        else:
            text = f"{head}: FAILED: {outcome.cause}"
        left = self.left.text() if self.count < self.total else ""
        if self.bar is not None:
            task = self.tasks.pop(outcome.job.cell.training, None)
            if task is not None:
                self.bar.remove_task(task)
            self.bar.update(
                self.overall, completed=self.count, note=f"{self.count}/{self.total} {left}"
            )
        elif left:
            text += f", {left}"
        self._say(text)

    def _name(self, job: Job) -> str:
        return job.label if self.has_several else job.cell.label

    def _say(self, text: str) -> None:
        """A line: above the bar, or as it is where there is none, a tenth of the work."""
        if self.bar is not None:
            self.console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            print(text, file=self.console.file, flush=True)

    def _is_due(self, job: Job) -> bool:
        """Plain logs get a cell's start, and then a line every half minute."""
        now = time.monotonic()
        if now - self.announced.get(job.cell.id, -60.0) < 30.0:
            return False
        self.announced[job.cell.id] = now
        return True
