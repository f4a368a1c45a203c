"""A clock that only moves when told to, a memory of known size, and methods of known cost."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
import torch

from bench.api import Method, Prediction
from bench.profile import Clock, Memory

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor, nn

    from bench.api import Images, Run


class FakeClock(Clock):
    """A device that works behind the host's back: work is queued, waiting lets it happen.

    `work` costs device time, `host` costs host time. Stamps are times of the device's own queue.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self.processor = 0.0
        self.device_free = 0.0

    def wall(self) -> float:
        return self.now

    def cpu(self) -> float:
        return self.processor

    def synchronise(self) -> None:
        self.now = max(self.now, self.device_free)

    def stamp(self) -> float:
        return max(self.now, self.device_free)

    def work(self, seconds: float) -> None:
        """Queue work on the device."""
        self.device_free = max(self.now, self.device_free) + seconds

    def host(self, seconds: float) -> None:
        """Work on the host."""
        self.now += seconds
        self.processor += seconds


class FakeMemory(Memory):
    """Memory whose level is set by hand; the peak follows."""

    source = "fake"

    def __init__(self, reserved: float | None = None) -> None:
        self.level = 0.0
        self.peak = 0.0
        self.restarts = 0
        self.reserved = reserved

    def hold(self, mb: float) -> None:
        """Change the level."""
        self.level = mb
        self.peak = max(self.peak, mb)

    def restart(self) -> None:
        self.restarts += 1
        self.peak = self.level

    def level_mb(self) -> float:
        return self.level

    def peak_mb(self) -> float:
        return self.peak

    def reserved_mb(self) -> float | None:
        return self.reserved


class TimedBackbone(torch.nn.Module):
    """A 1x1 convolution from 3 to 4 channels that costs 2 ms of device time per image."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 4, 1, bias=False)
        self.clock = clock

    def forward(self, images: Tensor) -> Tensor:
        self.clock.work(0.002 * len(images))
        features: Tensor = self.conv(images)
        return features


@dataclass
class TimedMethod(Method):
    """Encoder 2 ms, decoder 3 ms, rest 5 ms per image; memory grows with the batch.

    Attributes:
        room: images that fit; a larger batch raises `failure`.
        seen: batch sizes of `predict`, in order.
    """

    clock: FakeClock = field(default_factory=FakeClock)
    memory: FakeMemory = field(default_factory=FakeMemory)
    room: int = 1000
    failure: type[BaseException] = torch.cuda.OutOfMemoryError
    message: str = "CUDA out of memory"
    seen: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.backbone = TimedBackbone(self.clock)
        self.gallery = torch.zeros(250, 1000)  # one million bytes
        self.train_images: list[int] = []

    def fit(self, train: Images, run: Run) -> Iterator[Mapping[str, float]]:
        yield {}

    def raw(self, images: Tensor) -> Tensor:
        features: Tensor = self.backbone(images)
        self.clock.work(0.003 * len(images))
        return features.abs().sum(1)

    def predict(self, images: Tensor) -> Prediction:
        self.seen.append(len(images))
        if len(images) > self.room:
            raise self.failure(self.message)
        self.memory.hold(100 + 10 * len(images))
        maps = self.raw(images)
        self.clock.work(0.005 * len(images))
        self.memory.hold(100)
        return Prediction(maps)


@pytest.fixture
def fake_clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def fake_memory() -> type[FakeMemory]:
    """`fake_memory(reserved=None)`."""
    return FakeMemory


@pytest.fixture
def make_timed() -> Any:
    """`make_timed(**fields)`: a method of known cost, its clock and its memory."""
    return TimedMethod


@pytest.fixture
def backbones() -> Any:
    """The backbones of a timed method."""

    def of(method: TimedMethod) -> list[nn.Module]:
        return [method.backbone]

    return of
