"""The soft clamp of log-scales in the flows that descend from FrEIA's glow coupling."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

# Close to 2 / pi, and written so in the published codes: log-scales stay below 0.999 of the clamp.
_SLOPE = 0.636


def soft_clamp(raw: Tensor, clamp: float) -> Tensor:
    """clamp * 0.636 * atan(raw / clamp) elementwise: inside (-clamp, clamp), slope 0.636 at 0."""
    clamped: Tensor = (raw / clamp).atan() * (clamp * _SLOPE)
    return clamped
