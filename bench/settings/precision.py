"""The precision of products and convolutions on a GPU: one for a whole cell."""

from __future__ import annotations

from typing import Literal, get_args

Precision = Literal["float32", "tf32"]
"""`tf32`: an NVIDIA GPU may round factors to 10 bits of mantissa; elsewhere it changes nothing."""

FULL: Precision = "float32"
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
