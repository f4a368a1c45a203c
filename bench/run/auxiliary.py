"""Auxiliary pictures for a method, from a folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

from bench.api import Auxiliary
from bench.files.images import read_rgb
from bench.files.picture_folder import list_pictures

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

KEPT_MB = 512
"""Resized pixels that are kept, in MB of 10^6 bytes."""


class PictureFolder(Auxiliary):
    """The pictures of a folder, sorted by name; resized pixels are kept up to `KEPT_MB`."""

    def __init__(self, folder: Path, what: str, device: torch.device) -> None:
        """
        Raises:
            DataError: a folder that is missing, cannot be read or holds hardly a picture.
        """
        self.paths = list_pictures(folder, what)
        self.device = device
        self._kept: dict[tuple[int, tuple[int, int]], NDArray[np.uint8]] = {}
        self._room = KEPT_MB * 10**6

    def __len__(self) -> int:
        return len(self.paths)

    def pictures(self, indices: Sequence[int], size: tuple[int, int]) -> Tensor:
        pixels = np.stack([self._pixels(int(index), size) for index in indices])
        batch = torch.from_numpy(pixels).permute(0, 3, 1, 2).to(self.device)
        return batch.contiguous().float().div_(255)

    def _pixels(self, index: int, size: tuple[int, int]) -> NDArray[np.uint8]:
        """(H, W, 3), bilinear with antialiasing."""
        known = self._kept.get((index, size))
        if known is not None:
            return known
        image = read_rgb(self.paths[index])
        pixels = np.asarray(image.resize((size[1], size[0]), Image.Resampling.BILINEAR))
        if pixels.nbytes <= self._room:
            self._room -= pixels.nbytes
            self._kept[index, size] = pixels
        return pixels
