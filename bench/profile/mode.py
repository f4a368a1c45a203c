"""The mode in which a method predicts: without gradients, unless it says that it needs them."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.api import Method


@contextmanager
def prediction_mode(method: Method) -> Iterator[None]:
    """Inference mode; outside it and with gradients, whatever is around, if the method asks."""
    if not method.needs_gradients:
        with torch.inference_mode():
            yield
        return
    with torch.inference_mode(False), torch.enable_grad():
        yield
