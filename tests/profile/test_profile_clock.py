"""Steps, warm-up, percentiles and the noise flag, on a clock that moves when told to."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from bench.profile.clock import Lap, Timing, lap, measure, warm_up
from bench.settings.speed import SPEEDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

SPEED = SPEEDS["speed-1"]


def stepper(clock: Any, seconds: Iterable[float]) -> Callable[[], Lap]:
    """Steps that take the given times."""
    times = iter(seconds)
    return lambda: lap(lambda: clock.work(next(times)), clock)


def test_a_lap_waits_for_the_device_before_and_after(fake_clock: Any) -> None:
    fake_clock.work(7.0)  # left over from what came before
    timed = lap(lambda: fake_clock.work(0.25), fake_clock)
    assert timed.wall_s == 0.25


def test_a_lap_counts_process_time_apart(fake_clock: Any) -> None:
    def work() -> None:
        fake_clock.host(0.5)
        fake_clock.work(1.0)

    assert lap(work, fake_clock) == Lap(wall_s=1.5, cpu_s=0.5)


def test_a_steady_cpu_is_warm_after_three_steps(fake_clock: Any) -> None:
    assert warm_up(stepper(fake_clock, repeat(0.1)), SPEED, SPEED.pace("cpu"), fake_clock) == 3


def test_a_steady_gpu_is_warm_after_two_seconds(fake_clock: Any) -> None:
    steps = warm_up(stepper(fake_clock, repeat(0.125)), SPEED, SPEED.pace("cuda"), fake_clock)
    assert steps == 16


def test_a_slow_gpu_is_warmed_by_ten_steps(fake_clock: Any) -> None:
    assert warm_up(stepper(fake_clock, repeat(1.0)), SPEED, SPEED.pace("cuda"), fake_clock) == 10


def test_warm_up_goes_on_while_the_median_moves(fake_clock: Any) -> None:
    # Each step 5 % faster until the 30th; the median of ten follows until it has stopped too.
    times = chain((0.1 * 0.95**k for k in range(30)), repeat(0.1 * 0.95**29))
    steps = warm_up(stepper(fake_clock, times), SPEED, SPEED.pace("cpu"), fake_clock)
    assert steps >= 30


def test_warm_up_ends_after_sixty_seconds_even_when_it_never_settles(fake_clock: Any) -> None:
    times = (1.1**k for k in range(10_000))
    warm_up(stepper(fake_clock, times), SPEED, SPEED.pace("cpu"), fake_clock)
    assert 60 <= fake_clock.now < 60 * 1.2 * 2


@pytest.mark.parametrize(
    ("device", "step_s", "steps"),
    [
        ("cpu", 0.5, 20),  # ten seconds
        ("cpu", 2.0, 10),  # ten steps
        ("cpu", 8.0, 8),  # sixty seconds come first
        ("cpu", 100.0, 1),  # one step at least
        ("cuda", 0.03125, 160),  # five seconds
        ("cuda", 0.5, 50),  # fifty steps
        ("cuda", 4.0, 15),  # sixty seconds come first
    ],
)
def test_a_measurement_is_as_long_as_the_protocol_says(
    device: str, step_s: float, steps: int, fake_clock: Any
) -> None:
    timing = measure(stepper(fake_clock, repeat(step_s)), SPEED, device, fake_clock)
    assert timing.steps == steps
    assert timing.median_s == step_s
    assert timing.total_s == pytest.approx(steps * step_s)


def test_warm_up_steps_are_not_measured(fake_clock: Any) -> None:
    times = chain([9.0, 3.0], repeat(0.5))
    timing = measure(stepper(fake_clock, times), SPEED, "cpu", fake_clock)
    assert max(x.wall_s for x in timing.laps) == 0.5


def test_work_that_takes_no_time_still_ends(fake_clock: Any) -> None:
    speed = replace(SPEED, min_s_cpu=0.0)
    timing = measure(stepper(fake_clock, repeat(0.0)), speed, "cpu", fake_clock)
    assert timing.steps == 10
    assert timing.iqr is None


def of(times: Iterable[float]) -> Timing:
    return Timing(tuple(Lap(t) for t in times))


def test_percentiles_are_those_of_numpy() -> None:
    times = np.random.default_rng(0).gamma(3.0, size=150)
    timing = of(times)
    for percent in (50, 90, 95, 99):
        assert timing.percentile_s(percent) == pytest.approx(np.percentile(times, percent))
    low, high = np.percentile(times, [25, 75])
    assert timing.iqr == pytest.approx((high - low) / np.median(times))


def test_the_99th_percentile_needs_a_hundred_steps() -> None:
    assert of([1.0] * 99).percentile_s(99) is None
    assert of([1.0] * 100).percentile_s(99) == 1.0
    assert of([1.0] * 99).percentile_s(95) == 1.0


def test_one_step_has_no_spread() -> None:
    assert of([1.0]).iqr is None
