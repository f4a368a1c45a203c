"""Frozen features of the training set, computed once and read in many orders.

What a frozen network gives for an image that is not augmented is the same in every epoch. Kept, an
epoch costs no pass through that network.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor

    from bench.api import Images, Run

MB = 10**6

Features = TypeVar("Features", bound="Tensor | list[Tensor]")


class KeptFeatures(Generic[Features]):
    """What `extract` gives for every training image: in memory, or in a file where that is larger.

        kept = KeptFeatures(train, self.backbone, self.batch, self.limit_mb, run)
        generator = run.generator("order")
        for epoch in range(self.epochs):
            for features in kept.batches(self.batch, generator):
                ...

    The numbers are the same in memory and in the file. The tensors are no state of a method that
    holds the object.

    Attributes:
        size_mb: of all features.
        in_memory: whether they lie in memory; else in `run.scratch`.
    """

    def __init__(
        self,
        train: Images,
        extract: Callable[[Tensor], Features],
        batch: int,
        limit_mb: float,
        run: Run,
    ) -> None:
        """
        Args:
            extract: (B, 3, H, W) images on the run's device -> (B, ...) features, or a list of
                such; of the same shape for every image. No gradient is kept.
            batch: images at a time.
            limit_mb: MB of 10^6 bytes up to which features are kept in memory.

        Raises:
            MethodError: neither memory, by the limit, nor the disk has room for them.
        """
        self.device = run.device
        self.count = len(train)
        self.size_mb = 0.0
        self.in_memory = True
        self._is_list = False
        self._stores: list[Tensor] = []
        start = 0
        for images in train.batches(batch):
            parts = self._parts(extract, images)
            if not self._stores:
                self._make(parts, limit_mb, run)
            for store, part in zip(self._stores, parts, strict=True):
                store[start : start + len(images)] = part
            start += len(images)

    def __len__(self) -> int:
        return self.count

    def batches(
        self, size: int, generator: torch.Generator | None = None, *, drop_last: bool = False
    ) -> Iterator[Features]:
        """Features of all images on the run's device, `size` images at a time.

        Args:
            generator: draws a new order at each call; None: the order of the images.
            drop_last: leave a smaller last batch out.
        """
        order = torch.arange(self.count)
        if generator is not None:
            order = torch.randperm(self.count, generator=generator)
        stop = self.count - self.count % size if drop_last else self.count
        for start in range(0, stop, size):
            yield self._read(order[start : start + size])

    def _read(self, index: Tensor) -> Any:
        found = [store[index].to(self.device) for store in self._stores]
        return found if self._is_list else found[0]

    @torch.no_grad()
    def _parts(self, extract: Callable[[Tensor], Features], images: Tensor) -> Sequence[Tensor]:
        found = extract(images)
        self._is_list = not isinstance(found, torch.Tensor)
        return found if not isinstance(found, torch.Tensor) else [found]

    def _make(self, parts: Sequence[Tensor], limit_mb: float, run: Run) -> None:
        each = sum(part[0].numel() * part.element_size() for part in parts)
        self.size_mb = self.count * each / MB
        self.in_memory = self.size_mb <= limit_mb
        for part in parts:
            shape = (self.count, *part.shape[1:])
            if self.in_memory:
                self._stores.append(torch.empty(shape, dtype=part.dtype))
            else:
                self._stores.append(
                    run.scratch("the features of the training set", shape, part.dtype)
                )
