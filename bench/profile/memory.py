"""Peak memory: the allocator's own counters on CUDA, the resident set on the CPU. MB = 10^6 bytes.

Peaks can be asked for again and again: `restart` begins a phase, `peak_mb` ends none.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import sys
import threading
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import psutil
import torch

if TYPE_CHECKING:
    from collections.abc import Callable

MB = 1_000_000
_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")


class Memory(ABC):
    """Peak memory of the phases of a cell.

    Attributes:
        source: how memory was read, for the row.
    """

    source: ClassVar[str]

    @abstractmethod
    def restart(self) -> None:
        """Begin a phase: from here on the peak is counted anew."""

    @abstractmethod
    def level_mb(self) -> float:
        """What is held now, without what was freed."""

    @abstractmethod
    def peak_mb(self) -> float:
        """The most that was held since `restart`."""

    def reserved_mb(self) -> float | None:
        """The most that the allocator kept since `restart`; None where no one counts it."""
        return None

    def mark(self) -> None:  # noqa: B027 - allocators count the method's tensors alone
        """Training has ended: what is held now is the method's."""

    def discount(self) -> None:  # noqa: B027
        """What is held beyond `mark` is the harness's now (test images, maps): leave it out."""

    def close(self) -> None:  # noqa: B027 - only the sampler holds something
        """Let go of what watches."""


class CudaMemory(Memory):
    """Tensors (`max_memory_allocated`) and the allocator's pool (`max_memory_reserved`).

    Neither sees the CUDA context or libraries that allocate for themselves.
    """

    source = "cuda allocator"

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def restart(self) -> None:
        gc.collect()
        torch.cuda.synchronize(self.device)
        torch.cuda.empty_cache()  # what an earlier phase left in the pool is not this one's
        torch.cuda.reset_peak_memory_stats(self.device)

    def level_mb(self) -> float:
        return torch.cuda.memory_allocated(self.device) / MB

    def peak_mb(self) -> float:
        return torch.cuda.max_memory_allocated(self.device) / MB

    def reserved_mb(self) -> float:
        return torch.cuda.max_memory_reserved(self.device) / MB


def _trim() -> None:
    """Free what is unreachable, and give freed heap back to the system where libc can."""
    gc.collect()
    if sys.platform.startswith("linux"):
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


class _Resident(Memory):
    """The process's resident set above its level when this object was made."""

    def __init__(self) -> None:
        self._base = 0.0
        self._base = self.level_mb()
        self._marked: tuple[float, float] | None = None  # level and base

    @abstractmethod
    def _set_mb(self) -> float:
        """The resident set now, heap that libc keeps for reuse included."""

    def level_mb(self) -> float:
        _trim()
        return self._set_mb() - self._base

    def mark(self) -> None:
        self._marked = self.level_mb(), self._base

    def discount(self) -> None:
        if self._marked is not None:
            level, self._base = self._marked
            self._base += max(0.0, self.level_mb() - level)


class HighWater(_Resident):
    """The kernel's own high-water mark of the resident set: no peak is missed (Linux).

    Pages of mapped files, such as libraries, are left out: the kernel takes them back when it
    likes. Where it does so during a phase the peak is a lower bound.
    """

    source = "anonymous high-water mark"

    def __init__(self) -> None:
        super().__init__()
        self._files = _status("RssFile")

    def restart(self) -> None:
        _trim()
        _reset_mark()
        self._files = _status("RssFile")

    def _set_mb(self) -> float:
        return _status("RssAnon") + _status("RssShmem")

    def peak_mb(self) -> float:
        files = max(self._files, _status("RssFile"))
        return max(_status("VmHWM") - files, self._set_mb()) - self._base


def _reset_mark() -> None:
    """Bring VmHWM down to the present level (proc(5): write 5 to clear_refs)."""
    _CLEAR.write_text("5")


def _status(key: str) -> float:
    for line in _STATUS.read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024 / MB
    raise OSError(f"{_STATUS} has no {key}")


def has_high_water() -> bool:
    """Whether the kernel counts a high-water mark and lets this process reset it."""
    try:
        _reset_mark()
        return _status("VmHWM") > 0 and _status("RssAnon") > 0 and _status("RssFile") > 0
    except OSError:
        return False


def _resident_mb() -> float:
    return float(psutil.Process().memory_info().rss) / MB


class SampledResident(_Resident):
    """The resident set, read every `interval_s` by a thread: shorter peaks can be missed."""

    source = "sampled resident set"

    def __init__(self, read: Callable[[], float] = _resident_mb, interval_s: float = 0.005) -> None:
        self._read = read
        super().__init__()
        self._interval_s = interval_s
        self._lock = threading.Lock()
        self._peak = self._read()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="resident set", daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._stop.wait(self._interval_s):
            self._look()

    def _look(self) -> None:
        with self._lock:
            self._peak = max(self._peak, self._read())

    def restart(self) -> None:
        _trim()
        with self._lock:
            self._peak = self._read()

    def _set_mb(self) -> float:
        return self._read()

    def peak_mb(self) -> float:
        self._look()
        return self._peak - self._base

    def close(self) -> None:
        self._stop.set()
        self._thread.join()


def memory_of(device: torch.device) -> Memory:
    """The best counter that this machine has for a device; its `source` says which."""
    if device.type == "cuda":
        return CudaMemory(device)
    return HighWater() if has_high_water() else SampledResident()


def is_memory_error(error: BaseException) -> bool:
    """Whether a device or the host ran out of memory.

    CUDA has a class for it; the CPU allocator, cuDNN and cuBLAS raise a plain RuntimeError.
    """
    if isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)):
        return True
    text = str(error).lower()
    signs = ("out of memory", "not enough memory", "can't allocate memory", "alloc_failed")
    return isinstance(error, RuntimeError) and any(sign in text for sign in signs)


def release() -> None:
    """After a memory error: drop what hangs on the traceback, empty the allocator's pool."""
    gc.collect()
    if torch.cuda.is_available():
        with contextlib.suppress(RuntimeError):  # a device in error refuses; the retry will say so
            torch.cuda.empty_cache()
