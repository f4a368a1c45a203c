"""The learning rate: cosine over meta epochs, after a warm-up by image batches."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Schedule:
    """Learning rate of each image batch, as in the published training script.

    Attributes:
        peak: the rate that the cosine starts from.
        meta_epochs: length of the cosine.
        warmup_epochs: meta epochs of linear warm-up; it ends at the cosine's value there, so the
            peak itself is never reached.
        warmup_start: first rate of the warm-up, as a share of `peak`.
        floor: end of the cosine, as a share of `peak`.
    """

    peak: float
    meta_epochs: int
    warmup_epochs: int
    warmup_start: float
    floor: float

    def cosine(self, meta_epoch: int) -> float:
        """The rate of a meta epoch without warm-up."""
        low = self.peak * self.floor
        turn = math.cos(math.pi * meta_epoch / self.meta_epochs)
        return low + (self.peak - low) * (1 + turn) / 2

    def rate(self, meta_epoch: int, batch: int, batches: int) -> float:
        """The rate of image batch `batch` of the `batches` of a meta epoch, both from 0."""
        if meta_epoch >= self.warmup_epochs:
            return self.cosine(meta_epoch)
        start = self.warmup_start * self.peak
        progress = (batch + meta_epoch * batches) / (self.warmup_epochs * batches)
        return start + progress * (self.cosine(self.warmup_epochs) - start)
