"""Times of calls that alternate in one process, and the ratio of two."""

from __future__ import annotations

import gc
import statistics
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import torch


def seconds(call: Callable[[], object], device: torch.device | str = "cpu") -> float:
    """CPU time of a call; on a GPU wall time to its end."""
    gc.collect()  # what others left behind is not this call's
    if str(device) == "cpu":
        start = time.process_time()
        call()
        return time.process_time() - start
    import torch

    torch.cuda.synchronize(device)
    start = time.perf_counter()
    call()
    torch.cuda.synchronize(device)
    return time.perf_counter() - start


def alternate(
    calls: Mapping[str, Callable[[], object]], device: torch.device | str = "cpu", rounds: int = 3
) -> dict[str, list[float]]:
    """Seconds of each call in each round; in a round the calls take turns."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            found[name].append(seconds(call, device))
    return found


def ratio(
    slow: Callable[[], object], fast: Callable[[], object], device: str, rounds: int = 3
) -> float:
    """Median over alternating rounds of the time of `slow` over that of `fast`."""
    slow()
    fast()
    found = alternate({"slow": slow, "fast": fast}, device, rounds)
    return statistics.median(s / f for s, f in zip(found["slow"], found["fast"], strict=True))
