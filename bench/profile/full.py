"""The step that is called FPS and latency: from host memory to maps and scores in host memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn.functional import interpolate

from bench.api import Method, Prediction
from bench.errors import MethodError

if TYPE_CHECKING:
    from torch import Tensor

Sizes = list[tuple[int, int]]
"""(height, width) of the map of each image."""


class Feed:
    """Batches of real images in host memory, one after another and round again.

    Filling the buffer is not part of a lap. For CUDA the buffer is pinned.
    """

    def __init__(self, images: Tensor, sizes: Sizes, device: torch.device) -> None:
        self.images = images
        self.sizes = sizes
        self._pin = device.type == "cuda"
        self._next = 0
        self._buffer = torch.empty(0)

    def host(self, batch: int) -> tuple[Tensor, Sizes]:
        """(B, 3, H, W) images, valid until the next call, and the sizes of their maps."""
        count = len(self.images)
        index = [(self._next + i) % count for i in range(batch)]
        self._next = (index[-1] + 1) % count
        if len(self._buffer) != batch:
            shape = (batch, *self.images.shape[1:])
            self._buffer = torch.empty(shape, dtype=self.images.dtype, pin_memory=self._pin)
        torch.index_select(self.images, 0, torch.tensor(index), out=self._buffer)
        # A tensor of its own: a method may ask for its input's gradient.
        return self._buffer.detach(), [self.sizes[i] for i in index]


def predict_full(
    method: Method, images: Tensor, sizes: Sizes, device: torch.device
) -> tuple[list[Tensor], Tensor]:
    """Copy, predict, aggregate, upsample, and bring the results home.

    Args:
        images: (B, 3, H, W) in host memory.
        sizes: (height, width) of each map.

    Returns:
        B maps of the sizes asked for, none where the method gives none, and (B,) scores, all in
        host memory.
    """
    prediction = method.predict(images.to(device, non_blocking=True))
    if type(method).finish is not Method.finish:
        # `finish` sees host memory, as it does when the whole test set is scored.
        prediction = method.finish(_home(prediction))
    maps, scores = prediction.maps, prediction.scores
    if maps is None:
        assert scores is not None  # a prediction has one of the two
        return [], scores.cpu()
    if maps.ndim != 3 or len(maps) != len(images):
        raise MethodError(
            f"{type(method).__name__}: maps of shape {tuple(maps.shape)} for {len(images)} images; "
            f"expected ({len(images)}, height, width)"
        )
    if scores is None:
        scores = maps.amax((1, 2))
    return _resize(maps, sizes), scores.cpu()


def _home(prediction: Prediction) -> Prediction:
    maps, scores = prediction.maps, prediction.scores
    return Prediction(
        None if maps is None else maps.cpu(), None if scores is None else scores.cpu()
    )


def _resize(maps: Tensor, sizes: Sizes) -> list[Tensor]:
    """Bilinear, pixel centres aligned, where the size differs; in host memory."""
    if len(set(sizes)) == 1:
        return list(_to(maps, sizes[0]).cpu())
    return [_to(m[None], size)[0].cpu() for m, size in zip(maps, sizes, strict=True)]


def _to(maps: Tensor, size: tuple[int, int]) -> Tensor:
    if tuple(maps.shape[-2:]) == size:
        return maps
    return interpolate(maps[:, None], size, mode="bilinear", align_corners=False)[:, 0]
