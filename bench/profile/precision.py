"""The switches of torch behind a precision, and their undoing."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.settings.precision import Precision


def set_precision(precision: Precision) -> None:
    """For this process. Torch's own default mixes: convolutions in TF32, products in float32."""
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    torch.backends.cudnn.allow_tf32 = precision == "tf32"


@contextmanager
def precision_of(precision: Precision) -> Iterator[None]:
    """The same for a while: on the way out both switches are where they were."""
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    try:
        set_precision(precision)
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]
