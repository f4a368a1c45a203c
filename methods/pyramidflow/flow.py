"""The flow: stacks of pyramid coupling blocks, from a feature pyramid to a latent pyramid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from bench.blocks.reversible import run_forward, run_inverse, run_reversible, run_tracked

from .coupling import DownCoupling, DualCoupling, PyramidCoupling, UpCoupling, VolumeNormKind
from .pyramid import level_sizes

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class FlowShape:
    """What fixes the parameters of a flow.

    Attributes:
        channels: C of every level.
        levels: number of levels of the pyramid, at least 2.
        stacks: number of copies of the block sequence.
        kernel: odd side of the convolutions.
        norm: kind of volume normalisation.
        size: (height, width) of the finest level; 2^(levels-1) divides both.
        updates: updates of the running means for each training step.
    """

    channels: int
    levels: int
    stacks: int
    kernel: int
    norm: VolumeNormKind
    size: tuple[int, int]
    updates: int


def _block_after(
    source: int, shape: FlowShape, generator: torch.Generator
) -> PyramidCoupling | None:
    """The block that changes level source + 1, or None where there is no such level."""
    sizes = level_sizes(shape.size, shape.levels)
    kernel, norm, updates = shape.kernel, shape.norm, shape.updates
    if source + 2 < shape.levels:
        size = sizes[source + 1]
        return DualCoupling(
            source, shape.channels, 2, kernel, size, norm, updates, generator=generator
        )
    if source + 1 < shape.levels:
        size = sizes[source]
        return DownCoupling(
            source, shape.channels, 1, kernel, size, norm, updates, generator=generator
        )
    return None


def make_stack(shape: FlowShape, generator: torch.Generator) -> list[PyramidCoupling]:
    """One stack: the odd levels change first, then the finest, then the other even ones."""
    up = UpCoupling(
        shape.channels, 1, shape.kernel, shape.size, shape.norm, shape.updates, generator
    )
    odd = [_block_after(i, shape, generator) for i in range(0, shape.levels, 2)]
    even = [_block_after(i, shape, generator) for i in range(1, shape.levels, 2)]
    return [block for block in (*odd, up, *even) if block is not None]


class PyramidFlowNet(nn.Module):
    """An invertible map between pyramids: lists of (B, C, h / 2^l, w / 2^l), finest first."""

    def __init__(self, shape: FlowShape, generator: torch.Generator) -> None:
        super().__init__()
        self.shape = shape
        stacks = [make_stack(shape, generator) for _ in range(shape.stacks)]
        self.blocks = nn.ModuleList(block for stack in stacks for block in stack)

    def chain(self) -> list[PyramidCoupling]:
        """The blocks in order."""
        return [block for block in self.blocks if isinstance(block, PyramidCoupling)]

    def forward(self, pyramid: Sequence[Tensor], save_memory: bool = False) -> list[Tensor]:
        """Latents of a pyramid; in training mode the running means are updated.

        Args:
            save_memory: recompute activations in the backward pass instead of keeping them.
        """
        if save_memory and torch.is_grad_enabled():
            return run_reversible(self.chain(), pyramid)
        return run_forward(self.chain(), pyramid)

    def inverse(self, latents: Sequence[Tensor]) -> list[Tensor]:
        """The pyramid of given latents."""
        return run_inverse(self.chain(), latents)

    def log_determinants(self, pyramid: Sequence[Tensor]) -> list[Tensor]:
        """Sum of the log-scales that every element of every level is multiplied with.

        A forward pass: in training mode the running means are updated.
        """
        return run_tracked(self.chain(), pyramid)[1]

    def first_bad_block(self, pyramid: Sequence[Tensor]) -> str:
        """Where numbers stop being finite: for the message of an error, not for every step."""
        values = list(pyramid)
        if not all(bool(level.isfinite().all()) for level in values):
            return "the features, before block 0"
        with torch.no_grad():
            for number, block in enumerate(self.chain()):
                coefficients = block.coefficients(*(values[i] for i in block.sources))
                new = block.couple(values[block.target], coefficients)
                if not bool(new.isfinite().all()):
                    name = f"{type(block).__name__}, level {block.target}"
                    return f"block {number} of {len(self.blocks)} ({name})"
                values[block.target] = new
        return "the loss, after the last block"
