"""Numbers that a step leaves on the device, read without waiting for it."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Generic, TypeVar

import torch

if TYPE_CHECKING:
    from torch import Tensor

Context = TypeVar("Context")


class Readings(Generic[Context]):
    """Reads the numbers of a step on a GPU when the next step is on its way, else at once.

    The host runs ahead of a GPU. To read a number at once it would wait until all is done that was
    asked for, and the GPU would then wait for it. So the number is copied behind its step to pinned
    memory, and read when the GPU has the next step to do.

    Attributes:
        lag: how many steps later numbers are read.
    """

    def __init__(self, device: torch.device) -> None:
        self.lag = int(device.type == "cuda")
        self._waiting: deque[tuple[Tensor, torch.cuda.Event | None, Context]] = deque()

    def put(self, numbers: Tensor, context: Context) -> list[tuple[list[float], Context]]:
        """Note (n,) numbers of a step; what is due of them and of earlier ones, in order."""
        event = None
        copy = numbers.detach()
        if numbers.is_cuda:
            pinned = torch.empty(numbers.shape, dtype=numbers.dtype, pin_memory=True)
            copy = pinned.copy_(copy, non_blocking=True)
            event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            event.record()
        self._waiting.append((copy, event, context))
        return self._due(self.lag)

    def flush(self) -> list[tuple[list[float], Context]]:
        """All that is left."""
        return self._due(0)

    def _due(self, kept: int) -> list[tuple[list[float], Context]]:
        found = []
        while len(self._waiting) > kept:
            copy, event, context = self._waiting.popleft()
            if event is not None:
                event.synchronize()
            found.append((copy.tolist(), context))
        return found
