"""How often one side's time is the other's, both alternating in one process."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable


def seconds(call: Callable[[], object], device: str) -> float:
    """CPU time of a call; on a GPU wall time to its end."""
    if device == "cpu":
        start = time.process_time()
        call()
        return time.process_time() - start
    torch.cuda.synchronize()
    start = time.perf_counter()
    call()
    torch.cuda.synchronize()
    return time.perf_counter() - start


def ratio(
    slow: Callable[[], object], fast: Callable[[], object], device: str, rounds: int = 3
) -> float:
    """Median over alternating rounds of the time of `slow` over that of `fast`."""
    slow()
    fast()
    return statistics.median(seconds(slow, device) / seconds(fast, device) for _ in range(rounds))
