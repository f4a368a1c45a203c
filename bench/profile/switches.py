"""The state in which speed is measured, and its undoing."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from torch import nn

    from bench.settings.speed import SpeedProtocol


@contextmanager
def switches(modules: Iterable[nn.Module], speed: SpeedProtocol) -> Iterator[None]:
    """Evaluation mode, and the numeric switches of a speed protocol.

    On the way out every module is in its former mode again, and every switch where it was.
    """
    modes = [(part, part.training) for module in modules for part in module.modules()]
    precision = torch.get_float32_matmul_precision()
    cudnn = torch.backends.cudnn
    before = cudnn.allow_tf32, cudnn.benchmark
    try:
        for part, _ in modes:
            part.training = False
        torch.set_float32_matmul_precision("high" if speed.tf32 else "highest")
        cudnn.allow_tf32, cudnn.benchmark = speed.tf32, speed.cudnn_benchmark
        yield
    finally:
        for part, training in modes:
            part.training = training
        torch.set_float32_matmul_precision(precision)
        cudnn.allow_tf32, cudnn.benchmark = before
