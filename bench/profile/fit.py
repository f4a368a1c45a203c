"""Time and memory of training."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from bench.profile.clock import Clock, clock_of
from bench.profile.memory import Memory, memory_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch
    from typing_extensions import Self


class FitMeter:
    """Measures what lies between building a method and its first usable `predict`.

        meter = FitMeter(device)
        with meter:
            method.prepare(run)
            meter.begin()
            for epoch in method.fit(train, run):
                with meter.paused():
                    ...  # evaluation during training is not training
        meter.columns()

    Memory counts from the `with`, so that the model is in it; time counts from `begin`, so that
    reading weights is not. The meter's `memory` goes on to `profile`, which measures inference
    above the same level.

    Attributes:
        fit_s: wall seconds; 0 until the block has ended, as the others.
        fit_cpu_s: process seconds, all threads.
        fit_mb: peak memory; on the CPU above the level before the block.
        fit_reserved_mb: peak of the allocator's pool; None on the CPU.
        fit_left_mb: what stays held when the block ends.
        fit_images: images that `images` was told of.
    """

    def __init__(
        self, device: torch.device, clock: Clock | None = None, memory: Memory | None = None
    ) -> None:
        self.clock = clock or clock_of(device)
        self.memory = memory or memory_of(device)
        self.fit_s = self.fit_cpu_s = self.fit_mb = self.fit_left_mb = 0.0
        self.fit_reserved_mb: float | None = None
        self.fit_images = 0

    def __enter__(self) -> Self:
        self.memory.restart()
        self.begin()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()
        self.memory.mark()
        self.fit_left_mb = self.memory.level_mb()

    def begin(self) -> None:
        """The modules are built: training starts now."""
        self.fit_s = self.fit_cpu_s = 0.0
        self.fit_images = 0
        self._start()

    def images(self, count: int) -> None:
        """Count images that the method was given; a second epoch counts again."""
        self.fit_images += count

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave the time and the memory of a block out."""
        self._stop()
        try:
            yield
        finally:
            self.memory.restart()
            self._start()

    @property
    def fit_images_per_s(self) -> float | None:
        """Images seen per second of wall time; None where nothing was counted."""
        return self.fit_images / self.fit_s if self.fit_images and self.fit_s > 0 else None

    def columns(self) -> dict[str, Any]:
        """The columns of a row that training fills."""
        return {
            "memory": self.memory.source,
            "fit_mb": self.fit_mb,
            "fit_reserved_mb": self.fit_reserved_mb,
            "fit_left_mb": self.fit_left_mb,
            "fit_s": self.fit_s,
            "fit_cpu_s": self.fit_cpu_s,
            "fit_images_per_s": self.fit_images_per_s,
        }

    def _start(self) -> None:
        self.clock.synchronise()
        self._cpu, self._wall = self.clock.cpu(), self.clock.wall()

    def _stop(self) -> None:
        self.clock.synchronise()
        self.fit_s += self.clock.wall() - self._wall
        self.fit_cpu_s += self.clock.cpu() - self._cpu
        self.fit_mb = max(self.fit_mb, self.memory.peak_mb())
        reserved = self.memory.reserved_mb()
        if reserved is not None:
            self.fit_reserved_mb = max(self.fit_reserved_mb or 0.0, reserved)
