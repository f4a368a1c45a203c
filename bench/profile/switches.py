"""The state in which speed is measured, and its undoing."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from bench.profile.precision import precision_of
from bench.settings.precision import FULL, Precision

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from torch import nn

    from bench.settings.speed import SpeedProtocol


@contextmanager
def switches(
    modules: Iterable[nn.Module], speed: SpeedProtocol, precision: Precision = FULL
) -> Iterator[None]:
    """Evaluation mode, the precision of the cell, and the numeric switch of a speed protocol.

    On the way out every module is in its former mode again, and every switch where it was.
    """
    modes = [(part, part.training) for module in modules for part in module.modules()]
    cudnn = torch.backends.cudnn
    benchmark = cudnn.benchmark
    try:
        for part, _ in modes:
            part.training = False
        cudnn.benchmark = speed.cudnn_benchmark
        with precision_of(precision):
            yield
    finally:
        for part, training in modes:
            part.training = training
        cudnn.benchmark = benchmark
