"""Clocks, laps, and when a measurement is warm and long enough."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.settings.speed import Pace, SpeedProtocol

P99_STEPS = 100
"""Fewer steps hold no hundredth: the 99th percentile is then undefined."""


class Clock:
    """Wall time, process time, and the own time of a device that works at once (the CPU)."""

    def wall(self) -> float:
        """Seconds of a monotonic clock."""
        return time.perf_counter()

    def cpu(self) -> float:
        """Seconds of processor time, all threads of this process."""
        return time.process_time()

    def synchronise(self) -> None:
        """Wait until the device has done what it was given."""

    def stamp(self) -> Any:
        """A point in the device's own order of work; costs no waiting."""
        return self.wall()

    def between(self, start: Any, end: Any) -> float:
        """Seconds from one stamp to another, after `synchronise`."""
        return float(end - start)


class CudaClock(Clock):
    """The clock of a CUDA device: stamps are events on the current stream."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def synchronise(self) -> None:
        torch.cuda.synchronize(self.device)

    def stamp(self) -> Any:
        event: Any = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call, unused-ignore]
        event.record(torch.cuda.current_stream(self.device))
        return event

    def between(self, start: Any, end: Any) -> float:
        return float(start.elapsed_time(end)) / 1000  # events count milliseconds


def clock_of(device: torch.device) -> Clock:
    """The real clock of a device."""
    return CudaClock(device) if device.type == "cuda" else Clock()


@dataclass(frozen=True)
class Lap:
    """One step: wall and process seconds; `encoder_s` where the backbone was timed apart."""

    wall_s: float
    cpu_s: float = 0.0
    encoder_s: float = 0.0


def lap(work: Callable[[], object], clock: Clock) -> Lap:
    """Time one piece of work from an idle device to an idle device."""
    clock.synchronise()
    cpu, wall = clock.cpu(), clock.wall()
    work()
    clock.synchronise()
    return Lap(clock.wall() - wall, clock.cpu() - cpu)


@dataclass(frozen=True)
class Timing:
    """The laps that were kept; never empty."""

    laps: tuple[Lap, ...]

    @property
    def steps(self) -> int:
        """Number of laps."""
        return len(self.laps)

    @property
    def total_s(self) -> float:
        """Sum of the laps' wall time."""
        return sum(x.wall_s for x in self.laps)

    @property
    def median_s(self) -> float:
        """Median wall time of a lap."""
        return float(np.median([x.wall_s for x in self.laps]))

    @property
    def cpu_s(self) -> float:
        """Median process time of a lap."""
        return float(np.median([x.cpu_s for x in self.laps]))

    @property
    def encoder_s(self) -> float:
        """Median time inside the backbones."""
        return float(np.median([x.encoder_s for x in self.laps]))

    def percentile_s(self, percent: float) -> float | None:
        """Wall time by linear interpolation; above 95 % None where there are under 100 laps."""
        if percent > 95 and self.steps < P99_STEPS:
            return None
        return float(np.percentile([x.wall_s for x in self.laps], percent))

    @property
    def iqr(self) -> float | None:
        """Interquartile range over the median; None where a single lap cannot tell."""
        if self.steps < 2 or self.median_s == 0:
            return None
        low, high = np.percentile([x.wall_s for x in self.laps], [25, 75])
        return float(high - low) / self.median_s

    @property
    def waiting(self) -> float | None:
        """Median wall over median process time, less 1: on one thread what other programs took.

        None where the process clock is too coarse to move.
        """
        return self.median_s / self.cpu_s - 1 if self.cpu_s > 0 else None


def warm_up(step: Callable[[], Lap], speed: SpeedProtocol, pace: Pace, clock: Clock) -> int:
    """Run steps until the median of the last `window` of them stops changing.

    Warm: the median moved by less than `change` from one step to the next, and the least number of
    steps and seconds is reached; or `max_warmup_s` is over.

    Returns:
        the number of steps thrown away.
    """
    begin = clock.wall()
    recent: deque[float] = deque(maxlen=speed.window)
    steps, before = 0, float("nan")
    while True:
        recent.append(step().wall_s)
        steps += 1
        elapsed = clock.wall() - begin
        median = float(np.median(recent))
        # The comparison with NaN is false: one step alone is stable only where one step is enough.
        still = median == before or abs(median - before) < speed.change * before
        stable = still or pace.warmup_steps <= 1
        if stable and steps >= pace.warmup_steps and elapsed >= pace.warmup_s:
            return steps
        if elapsed >= speed.max_warmup_s:
            return steps
        before = median


def measure(step: Callable[[], Lap], speed: SpeedProtocol, device: str, clock: Clock) -> Timing:
    """Warm up, then keep laps until there are enough of them or `max_s` is over.

    Args:
        step: prepares its input outside the lap, and times the rest.
        device: "cpu" or another device type; decides the bounds.
    """
    pace = speed.pace(device)
    warm_up(step, speed, pace, clock)
    begin = clock.wall()
    laps: list[Lap] = []
    while True:
        laps.append(step())
        elapsed = clock.wall() - begin
        if len(laps) >= pace.min_steps and elapsed >= pace.min_s:
            return Timing(tuple(laps))
        if elapsed >= speed.max_s:
            return Timing(tuple(laps))
