"""The precision of products and convolutions: one for a whole cell."""

from __future__ import annotations

from typing import Literal, get_args

Precision = Literal["float32", "tf32", "bfloat16"]
"""`tf32`: an NVIDIA GPU may round factors to 10 bits of mantissa; elsewhere it changes nothing.
`bfloat16`: in scoring, encoders compute with 7 bits of mantissa; training stays in float32."""

FULL: Precision = "float32"
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
