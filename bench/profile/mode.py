"""The mode in which a method predicts: evaluation, and no gradients unless it asks for them."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn

    from bench.api import Method


@contextmanager
def prediction_mode(method: Method) -> Iterator[None]:
    """Evaluation mode and inference mode; gradients, whatever is around, if the method asks.

    Encoders are told that it is scoring, which has a precision of its own. On the way out every
    module is in its former mode again: training may go on.
    """
    modes = [(part, part.training) for module in method.modules() for part in module.modules()]
    encoders = [part for part, _ in modes if hasattr(part, "is_scoring")]
    try:
        for part, _ in modes:
            part.training = False
        _tell(encoders, is_scoring=True)
        if not method.needs_gradients:
            with torch.inference_mode():
                yield
        else:
            with torch.inference_mode(False), torch.enable_grad():
                yield
    finally:
        _tell(encoders, is_scoring=False)
        for part, training in modes:
            part.training = training


def _tell(encoders: list[nn.Module], *, is_scoring: bool) -> None:
    for encoder in encoders:
        encoder.is_scoring = is_scoring  # type: ignore[assignment]
