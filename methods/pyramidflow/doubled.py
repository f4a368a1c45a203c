"""Convolution of an image whose pixels were doubled, without doubling them.

After nearest-neighbour doubling, the taps of a k x k kernel fall in pairs on the same source pixel.
Adding them up first leaves four kernels of side (k + 1) / 2, one for each pixel of a 2x2 cell, that
run on the source: 16 products in place of 49 for k = 7, and no doubled image in memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from bench.blocks.on_device import constant

if TYPE_CHECKING:
    from collections.abc import Sequence


def _phase(kernel: int, phase: int) -> tuple[int, tuple[tuple[float, ...], ...]]:
    """First source offset of a phase, and which taps of a row it adds up: (offsets, kernel)."""
    reach = kernel // 2
    offsets = [(phase + tap) // 2 for tap in range(-reach, reach + 1)]
    rows = range(offsets[0], offsets[-1] + 1)
    return offsets[0], tuple(tuple(float(at == row) for at in offsets) for row in rows)


def phase_kernels(weight: Tensor) -> tuple[Tensor, ...]:
    """The four kernels that take the place of `weight`, in the order of `doubled_conv`.

    Args:
        weight: (O, C, k, k), k odd.

    Returns:
        four tensors (O, C, (k+1)/2, (k+1)/2).
    """
    sums = [constant(_phase(weight.shape[-1], phase)[1], weight) for phase in (0, 1)]
    return tuple(
        torch.einsum("ocij,ai,bj->ocab", weight, rows, columns) for rows in sums for columns in sums
    )


def doubled_conv(x: Tensor, kernels: Sequence[Tensor], kernel: int) -> Tensor:
    """Equals conv2d(doubled x, weight, padding=kernel // 2) to rounding.

    Args:
        x: (B, C, h, w).
        kernels: from `phase_kernels`.
        kernel: side of the weight that they were made from.

    Returns:
        (B, O, 2 h, 2 w).
    """
    height, width = x.shape[-2:]
    margin = (kernel // 2 + 1) // 2
    padded = functional.pad(x, (margin,) * 4)
    starts = [margin + _phase(kernel, phase)[0] for phase in (0, 1)]
    cells = []
    for weights, (top, left) in zip(kernels, [(a, b) for a in starts for b in starts], strict=True):
        rows, columns = weights.shape[-2:]
        window = padded[..., top : top + height + rows - 1, left : left + width + columns - 1]
        cells.append(functional.conv2d(window, weights))
    whole: Tensor = _Interleave.apply(*cells)
    return whole


class _Interleave(torch.autograd.Function):
    """Four (B, O, h, w) tensors as the corners of the 2x2 cells of one (B, O, 2 h, 2 w)."""

    @staticmethod
    def forward(ctx: Any, *cells: Tensor) -> Tensor:
        first = cells[0]
        layout = torch.channels_last if _is_channels_last(first) else torch.contiguous_format
        batch, channels, height, width = first.shape
        whole = torch.empty(
            (batch, channels, 2 * height, 2 * width),
            dtype=first.dtype,
            device=first.device,
            memory_format=layout,
        )
        for corner, cell in zip(_corners(whole), cells, strict=True):
            corner.copy_(cell)
        return whole

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        return tuple(_corners(grad))


def _corners(whole: Tensor) -> list[Tensor]:
    return [whole[..., row::2, column::2] for row in (0, 1) for column in (0, 1)]


def _is_channels_last(x: Tensor) -> bool:
    return x.is_contiguous(memory_format=torch.channels_last)
