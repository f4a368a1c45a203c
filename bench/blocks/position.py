"""Sine and cosine codes of 2-D positions."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bench.errors import MethodError


def position_code(channels: int, height: int, width: int) -> Tensor:
    """A fixed code for each pixel of a map (CFLOW-AD, arXiv:2107.12571, section 3.3).

    With D = channels / 2 and omega_k = 10000^(-2k/D): channels 2k and 2k + 1 hold the sine and
    cosine of omega_k times the column, channels D + 2k and D + 2k + 1 those of the row. Positions
    are pixel indices of the map, from 0; they are not scaled to its size.

    Returns:
        (channels, height, width) float32, in [-1, 1].

    Raises:
        MethodError: if `channels` is not a positive multiple of 4.
    """
    if channels <= 0 or channels % 4:
        raise MethodError(f"a position code has a multiple of 4 channels, not {channels}")
    half = channels // 2
    omega = torch.exp(torch.arange(0, half, 2, dtype=torch.float64) * -(math.log(10000.0) / half))
    rows = _waves(torch.arange(height), omega)[:, :, None].expand(-1, -1, width)
    columns = _waves(torch.arange(width), omega)[:, None, :].expand(-1, height, -1)
    return torch.cat([columns, rows]).float()


def _waves(positions: Tensor, omega: Tensor) -> Tensor:
    """(n,) positions and (k,) frequencies -> (2k, n), sine and cosine alternating."""
    angle = omega[:, None] * positions
    return torch.stack([angle.sin(), angle.cos()], dim=1).flatten(0, 1)
