"""Speed, memory, FLOPs and size of a fitted method: the complexity columns of a row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from bench.errors import DataError, MethodError
from bench.profile.clock import Clock, Lap, Timing, clock_of, lap, measure
from bench.profile.flops import count_flops
from bench.profile.full import Feed, Sizes, predict_full
from bench.profile.memory import Memory, is_memory_error, memory_of, release
from bench.profile.mode import prediction_mode
from bench.profile.size import size_of
from bench.profile.spans import Spans
from bench.profile.switches import switches
from bench.profile.unit import unit_s
from bench.settings.precision import FULL, Precision

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor, nn

    from bench.api import Method
    from bench.settings.speed import SpeedProtocol

COMMON_BATCH = 8
"""A batch that every device takes, so that FPS of small and large ones stand side by side."""


def profile(
    method: Method,
    images: Tensor,
    backbones: Sequence[nn.Module],
    sizes: Sequence[tuple[int, int]] | tuple[int, int],
    speed: SpeedProtocol,
    device: torch.device,
    preprocess: Callable[[], object] | None = None,
    clock: Clock | None = None,
    memory: Memory | None = None,
    precision: Precision = FULL,
) -> dict[str, Any]:
    """Measure a fitted method under a speed protocol.

    Args:
        method: fitted, its tensors and modules on `device`.
        images: (N, 3, H, W) float32 in host memory: real test images, resized and normalised. They
            are cycled through.
        backbones: the networks that the method got from `Run.backbone`.
        sizes: (height, width) at which maps are evaluated, one for all images or one for each.
        preprocess: decodes and transforms one more image; None: that part is not measured.
        clock: None: that of the device.
        memory: `FitMeter.memory`, whose level was taken before the model was built. None: on CUDA
            the allocator's counters need no level; on the CPU inference memory stays unknown.
        precision: of the cell; that of training and scores is that of speed.

    Returns:
        every column that docs/speed.md lists but those of `FitMeter.columns`; where nothing is
        timed, parameters, FLOPs and state.

    Raises:
        DataError: no image, or another number of sizes than of images.
        MethodError: one image does not fit in memory, or maps of a wrong shape.
    """
    if memory is None and device.type == "cuda":
        memory = memory_of(device)
    if memory is not None:
        memory.discount()
    feed = Feed(images, _each(sizes, len(images)), device)
    bench = _Bench(method, feed, speed, device, clock or clock_of(device), memory)
    with switches([*method.modules(), *backbones], speed, precision), prediction_mode(method):
        if not speed.is_timed:
            return {"speed": "", **_cost(method, backbones, feed, device)}
        single = bench.single()
        many = bench.throughput(single)
        return {
            "speed": speed.label(),
            **_speed(single, many, speed, has_one_thread=_has_one_thread(device)),
            "fps_b8": bench.fps_b8(many),
            **bench.parts(backbones, 1),
            **bench.parts(backbones, many.batch, "_batch"),
            "preprocess_ms": None if preprocess is None else bench.preprocess_ms(preprocess),
            **_cost(method, backbones, feed, device),
            "unit_ms": unit_s(speed, device, bench.clock) * 1e3,
        }


def _each(sizes: Sequence[Any], count: int) -> Sizes:
    pairs = [sizes] * count if isinstance(sizes[0], int) else list(sizes)
    if count == 0 or len(pairs) != count:
        raise DataError(
            f"speed is measured on the test images: {count} images but {len(pairs)} map sizes"
        )
    return [(int(height), int(width)) for height, width in pairs]


@dataclass(frozen=True)
class _Run:
    """One batch size: its timing, and peak memory in MB where it is known."""

    batch: int
    timing: Timing
    peak_mb: float | None
    reserved_mb: float | None

    @property
    def fps(self) -> float:
        """Images per second of the median step."""
        return self.batch / self.timing.median_s


@dataclass(frozen=True)
class _Bench:
    """A fitted method on its device, and what it is measured with."""

    method: Method
    feed: Feed
    speed: SpeedProtocol
    device: torch.device
    clock: Clock
    memory: Memory | None

    def single(self) -> _Run:
        """Batch 1: latency."""
        try:
            return self._full(1)
        except (MemoryError, RuntimeError) as error:
            if is_memory_error(error):
                raise MethodError(
                    f"{type(self.method).__name__}: predict on one image of "
                    f"{tuple(self.feed.images.shape[1:])} does not fit in the memory of "
                    f"{self.device}; use smaller images or a larger device"
                ) from error
            raise

    def throughput(self, single: _Run) -> _Run:
        """The largest power of two up to `max_batch` that fits; batch 1 is known to."""
        batch = 1 << (self.speed.max_batch.bit_length() - 1)
        while batch > 1:
            try:
                return self._full(batch)
            except (MemoryError, RuntimeError) as error:
                if not is_memory_error(error):
                    raise
            # Outside the handler: the traceback would keep the tensors of the failed step alive.
            release()
            batch //= 2
        return single

    def fps_b8(self, many: _Run) -> float | None:
        """FPS at batch 8; None where the throughput batch is smaller."""
        if many.batch < COMMON_BATCH:
            return None
        run = many if many.batch == COMMON_BATCH else self._full(COMMON_BATCH)
        return run.fps

    def parts(
        self, backbones: Sequence[nn.Module], batch: int, suffix: str = ""
    ) -> dict[str, float | None]:
        """On the device, up to the raw scores; and the backbones' share of it. For each image."""
        with Spans(backbones, self.clock) as spans:

            def step() -> Lap:
                images = self.feed.host(batch)[0].to(self.device)
                self.clock.synchronise()
                start = self.clock.stamp()
                self.method.raw(images)
                end = self.clock.stamp()
                self.clock.synchronise()
                return Lap(self.clock.between(start, end), encoder_s=spans.take())

            timing = measure(step, self.speed, self.device.type, self.clock)
            return {
                f"encoder{suffix}_ms": timing.encoder_s * 1e3 / batch if spans.calls else None,
                f"decoder{suffix}_ms": timing.median_s * 1e3 / batch,
            }

    def preprocess_ms(self, preprocess: Callable[[], object]) -> float:
        """Decoding and transforming one image on the host."""
        timing = measure(
            lambda: lap(preprocess, self.clock), self.speed, self.device.type, self.clock
        )
        return timing.median_s * 1e3

    def _full(self, batch: int) -> _Run:
        def step() -> Lap:
            images, sizes = self.feed.host(batch)
            return lap(lambda: predict_full(self.method, images, sizes, self.device), self.clock)

        if self.memory is not None:
            self.memory.restart()
        timing = measure(step, self.speed, self.device.type, self.clock)
        if self.memory is None:
            return _Run(batch, timing, None, None)
        return _Run(batch, timing, self.memory.peak_mb(), self.memory.reserved_mb())


def _has_one_thread(device: torch.device) -> bool:
    """Whether the work of a step is that of one thread, so that process and wall time agree."""
    return device.type == "cpu" and torch.get_num_threads() == 1


def _speed(single: _Run, many: _Run, speed: SpeedProtocol, has_one_thread: bool) -> dict[str, Any]:
    def ms(percent: float) -> float | None:
        seconds = single.timing.percentile_s(percent)
        return None if seconds is None else seconds * 1e3

    spreads = [r.timing.iqr for r in (single, many) if r.timing.iqr is not None]
    if has_one_thread:
        spreads += [w for r in (single, many) if (w := r.timing.waiting) is not None]
    pools = [r.reserved_mb for r in (single, many) if r.reserved_mb is not None]
    return {
        "fps": many.fps,
        "fps_batch": many.batch,
        "fps_mean": many.batch * many.timing.steps / many.timing.total_s,
        "fps_b1": single.fps,
        "latency_p50_ms": ms(50),
        "latency_p90_ms": ms(90),
        "latency_p95_ms": ms(95),
        "latency_p99_ms": ms(99),
        "latency_iqr": single.timing.iqr,
        "noisy": max(spreads) > speed.noise if spreads else None,
        "steps": single.timing.steps,
        "cpu_ms": single.timing.cpu_s * 1e3,
        "infer_mb": single.peak_mb,
        "infer_batch_mb": many.peak_mb,
        "infer_reserved_mb": max(pools) if pools else None,
    }


def _cost(
    method: Method, backbones: Sequence[nn.Module], feed: Feed, device: torch.device
) -> dict[str, Any]:
    image = feed.host(1)[0].to(device)
    flops = count_flops(lambda: method.predict(image))
    size = size_of(method, backbones)
    return {
        "params_m": size.params_m,
        "params_trainable_m": size.params_trainable_m,
        "gflops": flops.total / 1e9,
        "flops_uncounted": list(flops.uncounted),
        "state_mb": size.state_mb,
        "state_backbone_mb": size.state_backbone_mb,
        "state_fitted_mb": size.state_fitted_mb,
    }
