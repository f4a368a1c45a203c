"""The flow with everything precomputed that does not depend on the image: for inference.

The 1x1 matrices are multiplied out, the kernels of doubled levels are summed, and the last
convolution of a block whose output is decimated computes the kept pixels only. No
log-determinants, no gradients. Same latents as the flow in evaluation mode, to rounding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from .affine import CLAMP
from .coupling import SLOPE, PyramidCoupling, every, mix, same_conv

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .flow import PyramidFlowNet


class FoldedCoupling:
    """One block with fixed weights."""

    def __init__(self, block: PyramidCoupling) -> None:
        self.block = block
        self.kernels = block.kernels()
        self.weight = block.conv.weight()
        mean = block.norm.running_mean
        # A mean for each pixel is decimated with the log-scales; one for each channel is not.
        self.mean = every(mean, block.decimation) if mean.shape[-1] > 1 else mean

    def __call__(self, x: Tensor, *sources: Tensor) -> Tensor:
        """The new value of the block's target level, from its old value and its sources."""
        hidden = functional.leaky_relu_(self.block.hidden(self.kernels, *sources), SLOPE)
        raw, shift = same_conv(hidden, self.block.last, self.block.decimation).chunk(2, dim=1)
        log_scale = (raw / 2).atan_().mul_(CLAMP).sub_(self.mean)
        return mix(torch.addcmul(shift, log_scale.exp_(), x), self.weight)


class FoldedFlow:
    """All blocks of a flow with fixed weights; stale as soon as the flow's parameters change."""

    @torch.no_grad()
    def __init__(self, flow: PyramidFlowNet) -> None:
        self.steps = [FoldedCoupling(block) for block in flow.chain()]

    @torch.no_grad()
    def __call__(self, pyramid: Sequence[Tensor]) -> list[Tensor]:
        """Latents of a pyramid."""
        values = list(pyramid)
        for step in self.steps:
            target, sources = step.block.target, step.block.sources
            values[target] = step(values[target], *(values[i] for i in sources))
        return values
