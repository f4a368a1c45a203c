"""Peaks of the resident set, the meter of training, and what counts as out of memory."""

from __future__ import annotations

import mmap
import threading
from typing import TYPE_CHECKING, Any

import pytest
import torch

from bench.profile import FitMeter, memory_of
from bench.profile.memory import HighWater, SampledResident, has_high_water, is_memory_error

if TYPE_CHECKING:
    from pathlib import Path

CPU = torch.device("cpu")
needs_mark = pytest.mark.skipif(
    not has_high_water(), reason="this kernel has no high-water mark that can be reset"
)


def spend(mb: int) -> None:
    """Touch memory and let it go."""
    torch.ones(mb * 250_000).sum()


@needs_mark
def test_a_peak_that_is_gone_again_is_seen() -> None:
    memory = HighWater()
    memory.restart()
    spend(96)
    assert memory.peak_mb() == pytest.approx(96, abs=16)
    assert memory.level_mb() < 48


@needs_mark
def test_heap_that_libc_keeps_after_a_tensor_was_freed_is_not_held() -> None:
    torch.ones(4_000_000)  # its release raises the size from which libc maps memory of its own
    parts = [torch.ones(250_000) for _ in range(192)]
    fence = [bytearray(50_000) for _ in range(8)]  # above the hole: the heap cannot shrink past it
    del parts
    memory = HighWater()
    memory.restart()
    spend(96)
    assert memory.peak_mb() == pytest.approx(96, abs=16)
    assert memory.level_mb() == pytest.approx(0, abs=8)
    assert len(fence) == 8


@needs_mark
def test_a_new_phase_forgets_the_peak_of_the_last() -> None:
    memory = HighWater()
    spend(96)
    memory.restart()
    assert memory.peak_mb() < 48


@needs_mark
@pytest.mark.skipif(not hasattr(mmap, "MADV_DONTNEED"), reason="no way to give pages back")
def test_pages_of_files_that_the_kernel_takes_back_change_no_level(tmp_path: Path) -> None:
    file = tmp_path / "library"
    file.write_bytes(bytes(64_000_000))
    with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, prot=mmap.PROT_READ) as pages:
        assert not any(pages[:: mmap.PAGESIZE])
        memory = HighWater()
        memory.restart()
        pages.madvise(mmap.MADV_DONTNEED)
        assert memory.level_mb() == pytest.approx(0, abs=8)
        assert memory.peak_mb() == pytest.approx(0, abs=8)
        assert not any(pages[:: mmap.PAGESIZE])
        assert memory.peak_mb() == pytest.approx(0, abs=8)


def test_the_sampler_keeps_the_highest_level_it_saw() -> None:
    levels, looked = [100.0], threading.Event()

    def read() -> float:
        looked.set()
        return levels[0]

    memory = SampledResident(read, interval_s=0.001)
    levels[0] = 180.0
    looked.clear()
    assert looked.wait(5)
    looked.clear()
    assert looked.wait(5)  # one whole look since the level rose
    levels[0] = 130.0
    assert memory.peak_mb() == 80.0
    assert memory.level_mb() == 30.0
    memory.restart()
    assert memory.peak_mb() == 30.0
    memory.close()


def test_what_the_harness_takes_after_training_is_left_out() -> None:
    levels = [100.0]
    memory = SampledResident(lambda: levels[0])
    levels[0] = 150.0
    memory.mark()
    levels[0] = 450.0
    memory.discount()
    assert memory.level_mb() == 50.0
    levels[0] = 460.0
    assert memory.peak_mb() == 60.0
    memory.close()


def test_maps_that_the_harness_gave_back_are_no_longer_left_out() -> None:
    levels = [100.0]
    memory = SampledResident(lambda: levels[0])
    levels[0] = 150.0
    memory.mark()
    for taken in (300.0, 20.0):
        levels[0] = 150.0 + taken
        memory.discount()
        assert memory.level_mb() == 50.0
    memory.close()


def test_memory_that_was_given_back_after_training_is_not_made_up_for() -> None:
    levels = [100.0]
    memory = SampledResident(lambda: levels[0])
    levels[0] = 150.0
    memory.mark()
    levels[0] = 120.0
    memory.discount()
    assert memory.level_mb() == 20.0
    memory.close()


def test_the_sampler_reads_the_process() -> None:
    memory = SampledResident()
    kept = torch.ones(24_000_000)
    assert memory.peak_mb() > 64
    assert len(kept)
    memory.close()


def test_the_row_says_how_memory_was_read() -> None:
    memory = memory_of(CPU)
    assert memory.source in ("anonymous high-water mark", "sampled resident set")
    memory.close()


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.cuda.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"),
    ],
)
def test_running_out_of_memory_is_recognised(error: BaseException) -> None:
    assert is_memory_error(error)


@pytest.mark.parametrize("error", [RuntimeError("size mismatch"), ValueError("out of memory")])
def test_other_errors_are_not_about_memory(error: BaseException) -> None:
    assert not is_memory_error(error)


def test_training_is_timed_from_begin_and_without_evaluation(
    fake_clock: Any, fake_memory: Any
) -> None:
    memory = fake_memory(reserved=512.0)
    meter = FitMeter(CPU, fake_clock, memory)
    with meter:
        fake_clock.host(5.0)  # reading weights
        memory.hold(40)
        meter.begin()
        for _ in range(2):
            fake_clock.host(1.0)
            fake_clock.work(3.0)
            memory.hold(70)
            meter.images(8)
            memory.hold(60)
            with meter.paused():
                fake_clock.host(100.0)
                memory.hold(900)
                memory.hold(60)
    assert meter.columns() == {
        "memory": "fake",
        "fit_mb": 70,
        "fit_reserved_mb": 512.0,
        "fit_left_mb": 60,
        "fit_s": 8.0,
        "fit_cpu_s": 2.0,
        "fit_images_per_s": 2.0,
    }


def test_the_peak_of_building_the_model_counts(fake_clock: Any, fake_memory: Any) -> None:
    memory = fake_memory()
    with FitMeter(CPU, fake_clock, memory) as meter:
        memory.hold(300)
        memory.hold(20)
        meter.begin()
    assert meter.fit_mb == 300
    assert meter.fit_reserved_mb is None


def test_training_that_counted_no_image_has_no_rate(fake_clock: Any, fake_memory: Any) -> None:
    with FitMeter(CPU, fake_clock, fake_memory()) as meter:
        fake_clock.host(1.0)
    assert meter.columns()["fit_images_per_s"] is None


def test_the_real_meter_measures_this_process() -> None:
    with FitMeter(CPU) as meter:
        kept = torch.ones(24_000_000)
    meter.memory.close()
    assert meter.fit_mb > 64
    assert meter.fit_left_mb > 64
    assert meter.fit_s > 0
    assert len(kept)
