"""The mode in which a method predicts: evaluation, and no gradients unless it asks for them."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.api import Method


@contextmanager
def prediction_mode(method: Method) -> Iterator[None]:
    """Evaluation mode and inference mode; gradients, whatever is around, if the method asks.

    On the way out every module is in its former mode again: training may go on.
    """
    modes = [(part, part.training) for module in method.modules() for part in module.modules()]
    try:
        for part, _ in modes:
            part.training = False
        if not method.needs_gradients:
            with torch.inference_mode():
                yield
        else:
            with torch.inference_mode(False), torch.enable_grad():
                yield
    finally:
        for part, training in modes:
            part.training = training
