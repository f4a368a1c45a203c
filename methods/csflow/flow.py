"""The cross-scale flow: feature maps of three sizes to latents of the same shapes, all at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from bench.blocks.reversible import (
    AffineCoupling,
    Block,
    Rearrangement,
    log_determinants,
    run_inverse,
    run_tracked,
)
from bench.blocks.soft_clamp import soft_clamp

if TYPE_CHECKING:
    from collections.abc import Sequence

SCALES = 3
LIMIT = 1e6
"""Values of a block are clamped to this, in the published code too: a sign of divergence."""

_SLOPE = 0.1


class CrossScaleNetwork(nn.Module):
    """Two convolutions for each scale, the second of which reads the neighbouring scales as well.

    From a finer scale by stride 2, from a coarser one after bilinear doubling. Each scale's result
    has a gain, zero at first: a fresh flow only rearranges (CS-Flow, arXiv:2110.02855, 3.2).

    Args:
        inputs, outputs, hidden: channels, the same at all scales.
        kernel: odd side of all convolutions.
    """

    def __init__(self, inputs: int, outputs: int, hidden: int, kernel: int) -> None:
        super().__init__()

        def convolution(i: int, o: int, stride: int = 1) -> nn.Conv2d:
            return nn.Conv2d(i, o, kernel, stride, padding=kernel // 2)

        self.first = nn.ModuleList(convolution(inputs, hidden) for _ in range(SCALES))
        self.second = nn.ModuleList(convolution(hidden, outputs) for _ in range(SCALES))
        # Entry i joins scales i and i + 1.
        self.up = nn.ModuleList(convolution(hidden, outputs) for _ in range(SCALES - 1))
        self.down = nn.ModuleList(convolution(hidden, outputs, 2) for _ in range(SCALES - 1))
        self.gain = nn.Parameter(torch.zeros(SCALES))

    def forward(self, *xs: Tensor) -> list[Tensor]:
        """(B, inputs, h / 2^s, w / 2^s) of each scale s -> the same with `outputs` channels."""
        hidden = [
            functional.leaky_relu_(first(x), _SLOPE)
            for first, x in zip(self.first, xs, strict=True)
        ]
        results = [second(h) for second, h in zip(self.second, hidden, strict=True)]
        for scale, (up, down) in enumerate(zip(self.up, self.down, strict=True)):
            doubled = functional.interpolate(hidden[scale + 1], scale_factor=2.0, mode="bilinear")
            results[scale] = results[scale] + up(doubled)
            results[scale + 1] = results[scale + 1] + down(hidden[scale])
        return [result * gain for result, gain in zip(results, self.gain, strict=True)]


class CrossScaleCoupling(AffineCoupling):
    """One half of the channels of every scale, by a network of the other halves of all scales."""

    def __init__(
        self,
        targets: tuple[int, ...],
        sources: tuple[int, ...],
        network: CrossScaleNetwork,
        clamp: float,
    ) -> None:
        super().__init__(targets, sources, LIMIT)
        self.network = network
        self.clamp = clamp

    def scales_and_shifts(self, *sources: Tensor) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
        halves = [result.chunk(2, 1) for result in self.network(*sources)]
        return [soft_clamp(raw, self.clamp) for raw, _ in halves], [shift for _, shift in halves]


def permutations(block: int, channels: int) -> list[Tensor]:
    """The channel orders of a block, one for each scale: NumPy's legacy stream of that seed."""
    stream = np.random.RandomState(block)
    return [torch.from_numpy(stream.permutation(channels)) for _ in range(SCALES)]


class CrossScaleFlow(nn.Module):
    """Blocks of a rearrangement of channels at each scale and a coupling of each half.

    Args:
        channels: of the features, the same at all scales.
        hidden: channels inside the networks.
        kernels: odd side of the convolutions, for each block.
        clamp: bound of a coupling's log-scales.
    """

    def __init__(self, channels: int, hidden: int, kernels: Sequence[int], clamp: float) -> None:
        super().__init__()
        self.first = channels // 2
        self.channels = channels
        second = channels - self.first
        # State of the chain: the first halves of the scales, then the second halves.
        firsts, seconds = tuple(range(SCALES)), tuple(range(SCALES, 2 * SCALES))
        blocks: list[Block] = []
        for number, kernel in enumerate(kernels):
            blocks += [
                Rearrangement(a, b, order)
                for a, b, order in zip(firsts, seconds, permutations(number, channels), strict=True)
            ]
            to_first = CrossScaleNetwork(second, 2 * self.first, hidden, kernel)
            to_second = CrossScaleNetwork(self.first, 2 * second, hidden, kernel)
            blocks += [
                CrossScaleCoupling(firsts, seconds, to_first, clamp),
                CrossScaleCoupling(seconds, firsts, to_second, clamp),
            ]
        self.blocks = nn.ModuleList(blocks)

    def forward(
        self, features: Sequence[Tensor], *, save_memory: bool = False
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Latents of the features, and log |det J| of each scale.

        Args:
            features: (B, C, h, w), (B, C, h / 2, w / 2), (B, C, h / 4, w / 4).
            save_memory: recompute activations in the backward pass instead of keeping them.

        Returns:
            latents of the same shapes, and (B,) for each scale.
        """
        values, scales = run_tracked(self.steps(), self._halved(features), save_memory=save_memory)
        pairs = zip(scales[:SCALES], scales[SCALES:], strict=True)
        return self._joined(values), [log_determinants(pair) for pair in pairs]

    def inverse(self, latents: Sequence[Tensor]) -> list[Tensor]:
        """The features of given latents."""
        return self._joined(run_inverse(self.steps(), self._halved(latents)))

    def steps(self) -> list[Block]:
        """The blocks in order."""
        return [block for block in self.blocks if isinstance(block, Block)]

    def _halved(self, features: Sequence[Tensor]) -> list[Tensor]:
        return [*(x[:, : self.first] for x in features), *(x[:, self.first :] for x in features)]

    def _joined(self, values: Sequence[Tensor]) -> list[Tensor]:
        pairs = zip(values[:SCALES], values[SCALES:], strict=True)
        return [torch.cat(pair, 1) for pair in pairs]


def flow_loss(latents: Sequence[Tensor], log_dets: Sequence[Tensor]) -> Tensor:
    """Negative log-likelihood per dimension without its constant, averaged over the images."""
    squares = torch.stack([z.square().flatten(1).sum(1) for z in latents]).sum(0)
    dimensions = sum(z[0].numel() for z in latents)
    return ((squares / 2 - torch.stack(list(log_dets)).sum(0)) / dimensions).mean()


def channel_means(latents: Sequence[Tensor]) -> list[Tensor]:
    """(B, h, w) of each scale: the squares of the latents, averaged over channels."""
    return [z.square().mean(1) for z in latents]


def image_scores(means: Sequence[Tensor]) -> Tensor:
    """(B,) half the mean square over all latents of all scales, from `channel_means`."""
    # All scales have the same channels, so their positions weigh alike.
    return torch.cat([mean.flatten(1) for mean in means], 1).mean(1) / 2
