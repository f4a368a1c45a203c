"""Values of the host brought to a device without a wait.

A plain copy from the host's memory makes the host wait until a GPU has done all that it was asked
before, and the GPU then has nothing to do.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

Numbers = tuple[float, ...] | tuple[tuple[float, ...], ...]


def constant(numbers: Numbers, like: Tensor) -> Tensor:
    """The numbers as a tensor of the type and on the device of `like`; shared, so never changed.

    They are copied there once.
    """
    return _made(numbers, like.dtype, like.device)


@lru_cache(maxsize=128)
def _made(numbers: Numbers, dtype: torch.dtype, device: torch.device) -> Tensor:
    # The cache outlives the caller's mode: a tensor made under inference mode would not serve all.
    with torch.inference_mode(False):
        return torch.tensor(numbers, dtype=dtype, device=device)


def sent(values: Tensor, device: torch.device) -> Tensor:
    """Values of the host, as random draws, on their way to a GPU: from pinned memory."""
    if device.type != "cuda":
        return values.to(device)
    return values.pin_memory().to(device, non_blocking=True)
