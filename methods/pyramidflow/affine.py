"""From a network's output to scale and shift, with little kept for the backward pass.

The formula is scale = exp(s - mean(s)), s = 1.272 atan(a / 2), where a is the first half of the
channels and the shift is the second half. Autograd would keep three maps; this keeps the scale
alone, as s and the slope of the clamp follow from it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# The code's constant, close to 2 * 2 / pi: log-scales stay within +-1.998, slope 0.636 at zero.
CLAMP = 2 * 0.636


def scale_and_shift(
    output: Tensor, dims: tuple[int, ...], running_mean: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Affine parameters of a coupling.

    Args:
        output: (B, 2 C, h, w); raw log-scales, then shifts.
        dims: dimensions over which the mean of the log-scales is taken.
        running_mean: subtracted in place of the batch's own mean, where given.

    Returns:
        scale and shift, (B, C, h, w), and the mean that was subtracted, without gradient.
    """
    result: tuple[Tensor, Tensor, Tensor] = _Affine.apply(output, dims, running_mean)
    return result


class _Affine(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, output: Tensor, dims: tuple[int, ...], running_mean: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        raw, shift = output.chunk(2, dim=1)
        log_scale = (raw / 2).atan_().mul_(CLAMP)
        own = running_mean is None
        mean = log_scale.mean(dims, keepdim=True) if running_mean is None else running_mean.clone()
        scale = log_scale.sub_(mean).exp_()
        ctx.dims = dims if own else ()
        ctx.save_for_backward(scale, mean)
        ctx.mark_non_differentiable(mean)
        # A copy, so that the whole output is not kept for half of it.
        return scale, shift.clone(memory_format=torch.preserve_format), mean

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, grad_scale: Tensor, grad_shift: Tensor, _: Tensor
    ) -> tuple[Tensor, None, None]:
        scale, mean = ctx.saved_tensors
        grad = torch.cat([grad_scale, grad_shift], dim=1)
        raw = grad[:, : scale.shape[1]].mul_(scale)
        if ctx.dims:
            raw -= raw.mean(ctx.dims, keepdim=True)
        # d atan(a / 2) / d a = cos^2(atan(a / 2)) / 2.
        angle = scale.log().add_(mean).div_(CLAMP)
        raw.mul_(angle.cos_().square_()).mul_(CLAMP / 2)
        return grad, None, None
