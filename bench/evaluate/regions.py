"""Ground-truth regions: connected pixels of a mask, diagonals included, each image on its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.evaluate.positions import positions_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

__all__ = ["Regions", "label_masks", "label_regions"]

BATCH = 4
"""Images read at a time, so that few calls are made and the copy stays in the cache."""


@dataclass(frozen=True)
class Regions:
    """The regions of one test set. They depend on the masks only: label once, evaluate often.

    Attributes:
        ids: (P,) int32, the region of every anomalous pixel, image by image, rows first.
        offsets: (n + 1,) int64; the pixels of image i are `ids[offsets[i]:offsets[i + 1]]`.
        sizes: (R,) int64 pixels.
        images: (R,) int64, the image that each region lies in.
    """

    ids: NDArray[np.int32]
    offsets: NDArray[np.int64]
    sizes: NDArray[np.int64]
    images: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.sizes)


def label_regions(mask: NDArray[Any]) -> tuple[NDArray[np.int32], int]:
    """Number the 8-connected regions of one mask, in the order of their first pixel.

    Args:
        mask: (H, W); anything but zero is foreground.

    Returns:
        (H, W) int32 with 0 for the background and 1..R for the regions; and R.

    Raises:
        ValueError: if the mask is not 2-D.
    """
    regions = label_masks([mask])
    labels = np.zeros(mask.shape, np.int32)
    labels[mask != 0] = regions.ids + 1
    return labels, len(regions)


def label_masks(masks: Sequence[NDArray[Any] | None]) -> Regions:
    """Label the regions of every mask; regions never join across images.

    Runs of foreground pixels are the nodes of a graph, and runs of neighbouring rows that touch,
    diagonals included, are joined; so the cost follows the outlines, not the pixels.

    Args:
        masks: (H, W) each, of any sizes; anything but zero is foreground, None has no region.

    Raises:
        ValueError: if a mask is not 2-D.
    """
    runs = _runs(masks)
    count, region = _components(runs)
    lengths = runs.stops - runs.starts
    pixels = np.bincount(runs.images, weights=lengths, minlength=len(masks))
    sizes = np.bincount(region, weights=lengths, minlength=count)
    images = np.zeros(count, np.int64)
    images[region] = runs.images
    return Regions(
        np.repeat(region, lengths),
        np.concatenate([[0], np.cumsum(pixels)]).astype(np.int64),
        sizes.astype(np.int64),
        images,
    )


@dataclass(frozen=True)
class _Runs:
    """Foreground runs of all images, rows first, as positions on one axis.

    Attributes:
        starts: first pixel.
        stops: pixel after the last.
        strides: distance to the pixel below: one more than the width, for a background column.
        images: image of the run.
    """

    starts: NDArray[np.int64]
    stops: NDArray[np.int64]
    strides: NDArray[np.int64]
    images: NDArray[np.int64]


def _runs(masks: Sequence[NDArray[Any] | None]) -> _Runs:
    """Runs of every mask; some images of one shape are read at a time."""
    parts: list[_Runs] = []
    base = 0
    for indices in _batches(masks):
        found = [mask for index in indices if (mask := masks[index]) is not None]
        height, width = found[0].shape
        # A background column ends every row, and a background row every image, so that runs and
        # neighbours stay apart; the extra pixel in front lets the first run begin.
        length = (height + 1) * (width + 1)
        padded = np.zeros(len(found) * length + 1, bool)
        room = padded[1:].reshape(len(found), height + 1, width + 1)[:, :height, :width]
        for target, mask in zip(room, found, strict=True):
            np.copyto(target, mask, casting="unsafe")
        changes = np.zeros(-(-len(padded) // 8) * 8, bool)
        np.not_equal(padded[1:], padded[:-1], out=changes[: len(padded) - 1])
        edges = positions_of(changes)
        starts = edges[::2]
        images = np.array(indices)[starts // length]
        strides = np.full(len(starts), width + 1)
        parts.append(_Runs(starts + base, edges[1::2] + base, strides, images))
        base += len(padded) + 2 * width
    empty = np.zeros(0, np.int64)
    names = ("starts", "stops", "strides", "images")
    return _Runs(*(np.concatenate([empty, *(getattr(p, n) for p in parts)]) for n in names))


def _batches(masks: Sequence[NDArray[Any] | None]) -> Iterator[list[int]]:
    """Successive images with a mask, of one shape."""
    batch: list[int] = []
    for index, mask in enumerate(masks):
        if mask is None:
            continue
        if mask.ndim != 2:
            raise ValueError(f"mask {index} has shape {mask.shape}; (height, width) is needed")
        last = masks[batch[-1]] if batch else None
        if len(batch) == BATCH or (last is not None and last.shape != mask.shape):
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def _components(runs: _Runs) -> tuple[int, NDArray[np.int32]]:
    """Number of components, and the component of every run, in the order of the runs."""
    starts, stops, strides = runs.starts, runs.stops, runs.strides
    if not len(starts):
        return 0, np.zeros(0, np.int32)
    # scipy takes a tenth of a second to import, and only labelling needs it.
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    # Runs [a, b) and [c, d) of the next row touch, diagonals included, where c <= b and a <= d.
    first = np.searchsorted(stops, starts + strides, side="left")
    degree = _touching(starts, first, stops + strides)
    pointers = np.concatenate([[0], np.cumsum(degree)])
    neighbours = np.arange(pointers[-1]) + np.repeat(first - pointers[:-1], degree)
    joined = np.ones(len(neighbours))
    graph = csr_array((joined, neighbours, pointers), shape=(len(starts), len(starts)))
    count, component = connected_components(graph, directed=False)
    return int(count), component.astype(np.int32, copy=False)


def _touching(
    starts: NDArray[np.int64], first: NDArray[np.int64], bounds: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Number of starts from `first` on that are at most the bound; mostly 0, 1 or 2."""
    ended = np.append(starts, np.iinfo(np.int64).max)
    last: NDArray[np.int64] = first.copy()
    for _ in range(2):
        last += ended[last] <= bounds
    more = np.flatnonzero(ended[last] <= bounds)
    last[more] = np.searchsorted(starts, bounds[more], side="right")
    degree: NDArray[np.int64] = last - first
    return degree
