"""The three losses, and one step of both networks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from bench.blocks.ssim import Window, ssim_map

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn

WINDOW = Window(side=11, sigma=1.5, border="zeros")
_SMOOTH = 1e-5
# The published labels are float32, whatever the network computes in.
_LOW = float(torch.tensor(_SMOOTH))
_HIGH = float(torch.tensor(1 - _SMOOTH))


def ssim_loss(reconstruction: Tensor, target: Tensor) -> Tensor:
    """1 - mean SSIM of (B, 3, H, W) batches, as the published code decides its range of values.

    255 where the reconstruction passes 128, else 1; and 1 more where it falls below -0.5. It has
    no bound, so that early batches may have a range of 2.
    """
    with torch.no_grad():
        top = 255.0 if reconstruction.max() > 128 else 1.0
        value_range = top + (1.0 if reconstruction.min() < -0.5 else 0.0)
    return 1 - ssim_map(reconstruction, target, WINDOW, value_range).mean()


def focal_loss(logits: Tensor, mask: Tensor) -> Tensor:
    """Focal loss with gamma 2 (Lin et al. 2017) of two classes, smoothed as published.

    Args:
        logits: (B, 2, H, W).
        mask: (B, 1, H, W) of 0 and 1.
    """
    # The probability of the true class alone: a softmax of two is a sigmoid of their difference.
    margin = (logits[:, 1] - logits[:, 0]) * (2 * mask[:, 0] - 1)
    true = _HIGH * margin.sigmoid() + _LOW * (-margin).sigmoid() + _SMOOTH
    return -((1 - true) ** 2 * true.log()).mean()


def rate(peak: float, epoch: int, epochs: int, drops: Sequence[float], factor: float) -> float:
    """Learning rate of an epoch, from 0: lower by `factor` after each of `drops`, shares of all.

    Rounded to whole epochs. The published code compares for equality, and never drops where a
    share of the epochs is no whole number in floating point.
    """
    return float(peak * factor ** sum(epoch >= round(share * epochs) for share in drops))


class Trainer:
    """One Adam for both networks; the focal loss reaches the first through its reconstruction."""

    def __init__(self, reconstruction: nn.Module, discrimination: nn.Module, lr: float) -> None:
        self.reconstruction = reconstruction
        self.discrimination = discrimination
        parameters = [*reconstruction.parameters(), *discrimination.parameters()]
        self.optimizer = torch.optim.Adam(parameters, lr=lr, fused=True)

    def set_rate(self, lr: float) -> None:
        """Use this learning rate from the next step on."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr

    def step(self, pictures: Tensor, altered: Tensor, mask: Tensor) -> Tensor:
        """One update.

        Args:
            pictures: (B, 3, H, W) in [0, 1].
            altered: the same with anomalies.
            mask: (B, 1, H, W), where they are.

        Returns:
            (3,) squared error, SSIM and focal loss, detached.
        """
        redrawn = self.reconstruction(altered)
        logits = self.discrimination(torch.cat([redrawn, altered], 1))
        losses = torch.stack(
            [
                functional.mse_loss(redrawn, pictures),
                ssim_loss(redrawn, pictures),
                focal_loss(logits, mask),
            ]
        )
        self.optimizer.zero_grad(set_to_none=True)
        losses.sum().backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return losses.detach()
