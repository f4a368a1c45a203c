"""Siamese loss and latent contrast (PyramidFlow, arXiv:2303.02595, section 3).

Composition is linear and treats channels alike, so channels are averaged first: one channel
takes the way up the pyramid in place of C, with the same result to rounding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from .pyramid import compose

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


def pair_differences(latents: Sequence[Tensor], *, in_pyramid: bool = True) -> Tensor:
    """Squared differences of all pairs i < j of a batch, composed and averaged over channels.

    Args:
        latents: levels (B, C, h_l, w_l), finest first, B >= 2.
        in_pyramid: subtract in every level, then compose; else compose, then subtract (the
            paper's ablation without pyramid difference).

    Returns:
        (B (B - 1) / 2, H, W).
    """
    count = len(latents[0])
    levels = latents if in_pyramid else [compose(latents)]
    pairs = (torch.cat([z[i : i + 1] - z[i + 1 :] for i in range(count - 1)]) for z in levels)
    squares = [pair.square().mean(1, keepdim=True) for pair in pairs]
    return compose(squares)[:, 0]


def zero_differences(latents: Sequence[Tensor], *, in_pyramid: bool = True) -> Tensor:
    """As `pair_differences`, of each image against zero latents; (B, H, W).

    The paper's ablation without latent template: the base distribution is centred at zero.
    """
    levels = latents if in_pyramid else [compose(latents)]
    return compose([z.square().mean(1, keepdim=True) for z in levels])[:, 0]


def fourier_loss(difference: Tensor) -> Tensor:
    """Mean magnitude of the unnormalised two-dimensional spectrum of (N, H, W) maps."""
    loss: Tensor = torch.fft.fft2(difference).abs().mean()
    return loss


def anomaly_maps(
    latents: Sequence[Tensor], template: Sequence[Tensor], *, in_pyramid: bool = True
) -> Tensor:
    """Absolute difference to the template, composed and averaged over channels; (B, H, W).

    Training squares the difference, inference does not; so does the published code.
    """
    if not in_pyramid:
        latents, template = [compose(latents)], [compose(template)]
    pairs = zip(latents, template, strict=True)
    return compose([(z - t).abs().mean(1, keepdim=True) for z, t in pairs])[:, 0]
