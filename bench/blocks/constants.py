"""Small constants where they are needed: copied to a device once, and not in every step.

A copy of numbers of Python makes the host wait until a GPU has done all that it was asked before.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

Numbers = tuple[float, ...] | tuple[tuple[float, ...], ...]


def constant(numbers: Numbers, like: Tensor) -> Tensor:
    """The numbers as a tensor of the type and on the device of `like`; shared, so never changed."""
    return _made(numbers, like.dtype, like.device)


@lru_cache(maxsize=128)
def _made(numbers: Numbers, dtype: torch.dtype, device: torch.device) -> Tensor:
    # The cache outlives the caller's mode: a tensor made under inference mode would not serve all.
    with torch.inference_mode(False):
        return torch.tensor(numbers, dtype=dtype, device=device)
