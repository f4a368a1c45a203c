"""Epochs over random patches of the training images, with an early stop on held-out ones."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from bench.blocks.patches import random_patches
from bench.errors import MethodError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor, nn

    from bench.api import Images

    Augment = Callable[[Tensor, torch.Generator], Tensor]


@dataclass(frozen=True)
class PatchTraining:
    """How long to train on which patches.

    Attributes:
        method: name for messages, and of the split.
        augment: draws a (3, patch, patch) patch in [0, 1] from a normalised image.
        epochs: at most.
        patches_per_epoch: drawn anew in each epoch.
        batch: patches of an update.
        validation: share of the training images whose patches only watch; 0: train on all images
            to the last epoch.
        patience: epochs without improvement on these patches before training ends.
    """

    method: str
    augment: Augment
    epochs: int
    patches_per_epoch: int
    batch: int
    validation: float = 0.0
    patience: int = 20

    def __post_init__(self) -> None:
        for name in ("epochs", "patches_per_epoch", "batch", "patience"):
            if getattr(self, name) < 1:
                raise MethodError(
                    f"{self.method}: {name} = {getattr(self, name)}; it must be at least 1"
                )

    def run(
        self,
        network: nn.Module,
        train: Images,
        update: Callable[[Tensor], Tensor],
        loss: Callable[[Tensor], Tensor],
    ) -> Iterator[dict[str, float]]:
        """Train; the figures of each epoch. With held-out images the network ends as it was best.

        Args:
            update: one step on (B, 3, patch, patch) patches; returns their mean loss, without its
                graph. It is read once in an epoch.
            loss: mean loss of patches, in evaluation mode.

        Raises:
            MethodError: a loss that is not finite, with the number of the epoch.
        """
        watch: _Watch | None = None
        if self.validation:
            train, held = train.hold_out(self.validation, f"{self.method} validation")
            count = max(1, round(self.validation * self.patches_per_epoch))
            watch = _Watch(network, random_patches(held, self.augment, count, self.batch))
        for epoch in range(1, self.epochs + 1):
            network.train()
            losses, counts = [], []
            for patches in random_patches(train, self.augment, self.patches_per_epoch, self.batch):
                losses.append(update(patches))
                counts.append(len(patches))
            means: list[float] = torch.stack(losses).tolist()
            total = sum(mean * count for mean, count in zip(means, counts, strict=True))
            figures = {"loss": self._require_finite(total, epoch) / sum(counts)}
            network.eval()
            if watch is not None:
                figures["validation_loss"] = self._require_finite(watch.check(loss), epoch)
                if watch.since >= self.patience or epoch == self.epochs:
                    watch.restore()
            yield figures
            if watch is not None and watch.since >= self.patience:
                return

    def _require_finite(self, value: float, epoch: int) -> float:
        if not math.isfinite(value):
            raise MethodError(
                f"{self.method}: the loss of epoch {epoch} is {value}; training diverged, "
                "choose a lower lr"
            )
        return value


class _Watch:
    """The network's state after the epoch with the smallest loss on patches that stay the same."""

    def __init__(self, network: nn.Module, patches: Iterator[Tensor]) -> None:
        self.network = network
        # As bytes: two thousand patches of 128 pixels are 100 MB, not 400.
        self.patches = [(255 * part).round_().byte() for part in patches]
        self.best = math.inf
        self.since = 0
        self.state: dict[str, Tensor] = {}

    @torch.no_grad()
    def check(self, loss: Callable[[Tensor], Tensor]) -> float:
        """Mean loss now."""
        total = sum(float(loss(part.float() / 255)) * len(part) for part in self.patches)
        mean = total / sum(len(part) for part in self.patches)
        self.since += 1
        if mean < self.best:
            self.best, self.since = mean, 0
            self.state = {name: value.clone() for name, value in self.network.state_dict().items()}
        return mean

    def restore(self) -> None:
        self.network.load_state_dict(self.state)
