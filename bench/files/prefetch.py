"""Batches that are copied to a GPU while it works on those before."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from torch import Tensor


def prefetched(batches: Iterable[Tensor], device: torch.device) -> Iterator[Tensor]:
    """The batches on a GPU, the copy of the next one under way.

    Copies leave from pinned memory on a stream of their own, so neither the host nor the work on
    the device waits for them; whoever uses a batch waits for that batch alone.

    Args:
        batches: in host memory.
        device: a CUDA device.
    """
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    ahead: deque[tuple[Tensor, torch.cuda.Event]] = deque()
    for batch in batches:
        with torch.cuda.stream(stream):
            copy = batch.pin_memory().to(device, non_blocking=True)
            ahead.append((copy, stream.record_event()))
        if len(ahead) > 1:
            yield _arrived(*ahead.popleft())
    for started in ahead:
        yield _arrived(*started)


def _arrived(copy: Tensor, event: torch.cuda.Event) -> Tensor:
    """The copy, for what is asked of the present stream from here on."""
    user = torch.cuda.current_stream(copy.device)
    user.wait_event(event)
    # Its memory belongs to the stream of copies, which must not take it back too early.
    copy.record_stream(user)
    return copy
