"""Files to tensors: resize, crop and normalise; batches in an order that the seed decides."""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch.nn import functional

from bench.api import IMAGENET_MEAN, IMAGENET_STD, Images
from bench.errors import DataError, counted
from bench.files import opencv
from bench.files.audited import audited
from bench.files.geometry import Geometry, Size, centre_box
from bench.files.held_out import published_split, split_indices
from bench.files.images import image_size, read_rgb
from bench.files.masks import MaskSet, load_masks
from bench.files.prefetch import prefetched
from bench.seeds import seed_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from concurrent.futures import Future
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

    from bench.api import Sample
    from bench.files.audit import Audit
    from bench.settings.protocol import Protocol

    Augment = Callable[[Tensor, torch.Generator], Tensor]

__all__ = ["ImageSet", "MaskSet", "check_samples", "checked", "fit_maps", "load_masks"]

_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


WHOLE = "is_whole_image"
"""Attribute of a batch that holds images as they were read. No operation hands it on, so that what
a method cut, turned or resized has it no more."""


class ImageSet(Images):
    """Images of one category and split under a protocol.

    Decoded and resized pixels are kept in memory, as they came out of the resize (uint8), up to
    `cache_mb`: batches are the same with and without. `workers` threads read and augment ahead, and
    on a GPU the next batch is copied meanwhile; neither order nor augmentation depends on them.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        protocol: Protocol,
        *,
        method_size: Size | int | None,
        device: torch.device,
        seed: int,
        workers: int = 0,
        cache_mb: int = 1024,
    ) -> None:
        """
        Args:
            method_size: the method's own input size, for protocols that resize to it.
            workers: threads that decode and augment; 0: the caller's own.
            cache_mb: 10^6 bytes of pixels kept.

        Raises:
            DataError: no sample, an unreadable header, or images of several sizes after the resize.
            ConfigError: a size that protocol and method do not give.
        """
        if not samples:
            raise DataError("no images: the split is empty")
        self.paths = [sample.image for sample in samples]
        self.bits = {sample.image: sample.bits for sample in samples}
        self.geometry = Geometry(protocol, method_size)
        self.image_size = self._common_size()
        self.device = device
        self.seed = seed
        self.workers = workers
        self.calls = 0
        pixels = 3 * self.image_size[0] * self.image_size[1]
        self.room = cache_mb * 10**6 // pixels
        self.cache: dict[Path, NDArray[np.uint8]] = {}
        self.held_out: set[Path] = set()
        moments = [torch.tensor(m).view(3, 1, 1) for m in (IMAGENET_MEAN, IMAGENET_STD)]
        # On the device once: a copy for each batch would wait for the work before it.
        self.moments = {d.type: [m.to(d) for m in moments] for d in (torch.device("cpu"), device)}

    def __len__(self) -> int:
        return len(self.paths)

    def batches(
        self,
        size: int,
        *,
        shuffle: bool = False,
        drop_last: bool = False,
        augment: Augment | None = None,
    ) -> Iterator[Tensor]:
        """As `Images.batches`.

        Raises:
            DataError: an unreadable file, or fewer images than one batch with `drop_last`.
        """
        if size < 1:
            raise ValueError(f"batch size {size} is not positive")
        if drop_last and len(self) < size:
            raise DataError(
                f"{counted(len(self), 'image is', 'images are')} fewer than one batch of {size}"
            )
        # Only random passes count: one more look at the images must not change later epochs.
        call = self.calls
        self.calls += shuffle or augment is not None
        order = list(range(len(self)))
        if shuffle:
            order = torch.randperm(len(self), generator=self._generator("order", call)).tolist()
        stop = len(self) - len(self) % size if drop_last else len(self)
        groups = [order[start : start + size] for start in range(0, stop, size)]
        return self._load(groups, call, augment)

    def raw(self, index: int) -> NDArray[np.uint8]:
        """(H, W, 3) pixels as the model sees them, before normalisation."""
        path = self.paths[index]
        kept = self.cache.get(path)
        if kept is not None:
            return kept
        pixels = self.read_pixels(path)
        if len(self.cache) < self.room:
            self.cache[path] = pixels
        return pixels

    def hold_out(
        self, share: float, purpose: str, seed: int | None = None
    ) -> tuple[ImageSet, ImageSet]:
        """As `Images.hold_out`; what is held out is noted in `held_out`, the cache is shared."""
        if seed is None:
            rest, held = split_indices(len(self), share, self.seed, purpose)
        else:
            rest, held = published_split(len(self), share, seed, purpose)
        self.held_out |= {self.paths[index] for index in held}
        return self._part(rest, f"rest of {purpose}"), self._part(held, purpose)

    def _part(self, indices: Sequence[int], purpose: str) -> ImageSet:
        part = copy(self)
        part.paths = [self.paths[index] for index in indices]
        part.seed = seed_of(self.seed, purpose)
        part.calls = 0
        return part

    def _load(
        self, groups: Sequence[Sequence[int]], call: int, augment: Augment | None
    ) -> Iterator[Tensor]:
        def image(index: int) -> Tensor:
            # A copy, since torch has no tensors that cannot be written.
            pixels = torch.tensor(self.raw(index)).permute(2, 0, 1)
            if augment is None:
                return pixels
            return augment(self._normalise(pixels), self._generator("augment", call, index))

        stacks = map(torch.stack, self._read(groups, image))
        if self.workers and self.device.type == "cuda":
            batches = prefetched(stacks, self.device)
        else:
            batches = (stack.to(self.device) for stack in stacks)
        # Pixels go to the device as bytes; augmentation wants them normalised before.
        return batches if augment is not None else map(self._whole, batches)

    def _read(
        self, groups: Sequence[Sequence[int]], image: Callable[[int], Tensor]
    ) -> Iterator[list[Tensor]]:
        """Images of each group in order; with workers, the next group is made meanwhile."""
        if self.workers == 0:
            for group in groups:
                yield [image(index) for index in group]
            return
        with ThreadPoolExecutor(self.workers) as pool:
            ahead: deque[list[Future[Tensor]]] = deque()
            for group in groups:
                ahead.append([pool.submit(image, index) for index in group])
                if len(ahead) > 1:
                    yield [future.result() for future in ahead.popleft()]
            for futures in ahead:
                yield [future.result() for future in futures]

    def _whole(self, pixels: Tensor) -> Tensor:
        """The same as `_normalise`, marked."""
        images = self._normalise(pixels)
        setattr(images, WHOLE, True)
        return images

    def _normalise(self, pixels: Tensor) -> Tensor:
        """(..., 3, H, W) uint8 to ImageNet-normalised float32, contiguous."""
        mean, std = self.moments[pixels.device.type]
        return pixels.contiguous().float().div_(255).sub_(mean).div_(std)

    def read_pixels(self, path: Path) -> NDArray[np.uint8]:
        """(H, W, 3) pixels of a file after resize and crop, always decoded anew."""
        image = read_rgb(path, self.bits[path])
        native = (image.height, image.width)
        resized, cropped = self.geometry.resized(native), self.geometry.cropped(native)
        if cropped != self.image_size:
            raise DataError(f"{path}: changed since it was listed; run again")
        if resized != native:
            image = _resized(image, resized, self.geometry.protocol.resample)
        top, left, bottom, right = centre_box(resized, cropped)
        pixels: NDArray[np.uint8] = np.array(image)[top:bottom, left:right].copy()
        pixels.setflags(write=False)
        return pixels

    def _common_size(self) -> Size:
        """(height, width) that every image has after resize and crop."""
        first = self.paths[0]
        size = self.geometry.cropped(image_size(first))
        if self.geometry.is_fixed:
            return size
        for path in self.paths[1:]:
            other = self.geometry.cropped(image_size(path))
            if other != size:
                raise DataError(
                    f"{path} becomes {other[1]} x {other[0]} and {first} {size[1]} x {size[0]} "
                    f"under protocol {self.geometry.protocol.name!r}; use one that resizes to a "
                    "fixed (height, width), as 'standard' does, or one with a crop"
                )
        return size

    def _generator(self, purpose: str, *numbers: int) -> torch.Generator:
        return torch.Generator().manual_seed(seed_of(self.seed, purpose, *numbers))


def _resized(image: Image.Image, size: Size, resample: str) -> Image.Image:
    if resample == "opencv":
        return Image.fromarray(opencv.resize(np.asarray(image), size))
    return image.resize(size[::-1], _FILTERS[resample])


def check_samples(samples: Sequence[Sample]) -> list[str]:
    """Decode every image and mask file before anything is trained; returns warnings.

    Raises:
        DataError: files that are unreadable, truncated, too large, of mixed depth, or masks that do
            not fit; names the first, and says how many there are.
    """
    return [finding.text for finding in checked(samples).findings]


def checked(samples: Sequence[Sample], cache: Path | None = None) -> Audit:
    """The audit of samples that may be used: its findings are warnings.

    Args:
        cache: folder that remembers what unchanged files hold; None: decode them all.

    Raises:
        DataError: as `check_samples`.
    """
    found = audited(samples, cache)
    errors = [finding.text for finding in found.findings if finding.severity == "error"]
    if errors:
        more = f" (and {len(errors) - 1} more; see bench data verify)" if len(errors) > 1 else ""
        raise DataError(errors[0] + more)
    return found


def fit_maps(maps: Tensor, sizes: Sequence[Size]) -> list[Tensor]:
    """Maps at the sizes of their masks: bilinear, `align_corners=False`, untouched where equal.

    Args:
        maps: (B, h, w).
        sizes: (height, width) for each map.

    Returns:
        B tensors (height, width); equal sizes are views of `maps`.
    """
    if len(maps) != len(sizes):
        raise ValueError(f"{len(maps)} maps for {len(sizes)} masks")
    return [_fit(one, (size[0], size[1])) for one, size in zip(maps, sizes, strict=True)]


def _fit(one: Tensor, size: Size) -> Tensor:
    if one.shape == size:
        return one
    return functional.interpolate(one[None, None], size, mode="bilinear", align_corners=False)[0, 0]
