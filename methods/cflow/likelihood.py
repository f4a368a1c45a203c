"""The likelihood of some fibers under a decoder that is being trained, in few operations."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from .decoder import log_likelihood

if TYPE_CHECKING:
    from FrEIA.framework import SequenceINN
    from FrEIA.modules import AllInOneBlock
    from torch import Tensor


def log_likelihoods(
    decoder: SequenceINN, fibers: Tensor, codes: Tensor | None, positions: Tensor
) -> Tensor:
    """log p per dimension of each fiber: that of the FrEIA module up to rounding, with gradients.

    A step is hundreds of small operations, so their number counts: the scales of all blocks are
    made at once, halves are not joined where a product reads them apart, and the last rotation is
    left out, since only |z| is used. On a CPU, where a map has fewer positions than there are
    fibers, the part of the code in a first layer is computed once for each position. Not on a GPU:
    the gradient would add up in an order that differs from run to run.

    Args:
        fibers: (N, C).
        codes: (positions, P) code of each position; None for a flow without condition.
        positions: (N,) of the fibers; unused without codes.

    Returns:
        (N,).
    """
    blocks = list(decoder)
    raw = torch.cat([block.global_scale for block in blocks])
    scales = 0.1 * functional.softplus(raw, beta=0.5)
    table: Tensor | None = codes
    at: Tensor | None = positions
    if codes is not None and (codes.is_cuda or len(codes) >= len(fibers)):
        table, at = codes[positions], None
    passive, active = blocks[0].splits
    x1, x2 = torch.split(fibers, [passive, active], 1)
    log_scales = []
    for index, (block, scale) in enumerate(zip(blocks, torch.split(scales, 1), strict=True)):
        a = 0.1 * block.subnet[2](_hidden(block, x1, table, at))
        s = block.clamp * a[:, :active].tanh()
        log_scales.append(s)
        x2 = torch.addcmul(a[:, active:], x2, s.exp())
        x = torch.addcmul(block.global_offset, torch.cat((x1, x2), 1), scale)
        if index < len(blocks) - 1:
            x1, x2 = torch.split(functional.linear(x, block.w_perm), [passive, active], 1)
    log_det = torch.stack(log_scales).sum((0, 2)) + scales.log().sum()
    return log_likelihood(x, log_det)


def _hidden(
    block: AllInOneBlock, x: Tensor, codes: Tensor | None, positions: Tensor | None
) -> Tensor:
    """The first layer of a block's network, of the fibers' passive halves and their codes."""
    first = block.subnet[0]
    if codes is None:
        return first(x).relu_()  # type: ignore[no-any-return]
    if positions is None:
        return first(torch.cat((x, codes), 1)).relu_()  # type: ignore[no-any-return]
    mine, theirs = torch.split(first.weight, [x.shape[1], codes.shape[1]], 1)
    table = functional.linear(codes, theirs, first.bias)
    return torch.addmm(table.index_select(0, positions), x, mine.T).relu_()
