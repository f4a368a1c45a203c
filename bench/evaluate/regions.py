"""Ground-truth regions: connected pixels of a mask, diagonals included, each image on its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["Regions", "label_masks", "label_regions"]


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
    found = [_Runs.of(index, mask) for index, mask in enumerate(masks) if mask is not None]
    pixels = np.zeros(len(masks) + 1, np.int64)
    for runs in found:
        pixels[runs.image + 1] = (runs.stops - runs.starts).sum()
    starts, stops, strides = _on_one_axis(found)
    count, region = _components(starts, stops, strides)
    lengths = stops - starts
    sizes = np.bincount(region, weights=lengths, minlength=count).astype(np.int64)
    images = np.zeros(count, np.int64)
    images[region] = np.repeat([runs.image for runs in found], [len(runs.starts) for runs in found])
    return Regions(np.repeat(region, lengths), np.cumsum(pixels), sizes, images)


@dataclass(frozen=True)
class _Runs:
    """Foreground runs of one image, as positions in rows that end with one background pixel."""

    image: int
    starts: NDArray[np.int64]
    stops: NDArray[np.int64]
    stride: int
    length: int

    @classmethod
    def of(cls, image: int, mask: NDArray[Any]) -> _Runs:
        if mask.ndim != 2:
            raise ValueError(f"mask {image} has shape {mask.shape}; (height, width) is needed")
        height, width = mask.shape
        # The extra column ends every run in its own row; the extra first pixel starts the first.
        length = height * (width + 1)
        padded = np.zeros(length + 1, bool)
        np.not_equal(mask, 0, out=padded[1:].reshape(height, width + 1)[:, :width])
        changes = np.zeros(-(-length // 8) * 8, bool)
        np.not_equal(padded[1:], padded[:-1], out=changes[:length])
        edges = _positions(changes)
        return cls(image, edges[::2], edges[1::2], width + 1, length)


def _positions(flags: NDArray[np.bool_]) -> NDArray[np.int64]:
    """`flatnonzero` of few flags, in a number that 8 divides: whole words are skipped first."""
    words = flags.view(np.uint64)
    occupied = np.flatnonzero(words != 0)
    inside = np.flatnonzero(words[occupied].view(bool))
    positions: NDArray[np.int64] = (occupied[inside >> 3] << 3) + (inside & 7)
    return positions


def _on_one_axis(
    found: list[_Runs],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Starts, stops and row strides of all runs, images two background rows apart."""
    empty = np.zeros(0, np.int64)
    widest = max((runs.stride for runs in found), default=0)
    base = np.cumsum([0] + [runs.length + 2 * widest for runs in found])
    starts = [runs.starts + at for runs, at in zip(found, base, strict=False)]
    stops = [runs.stops + at for runs, at in zip(found, base, strict=False)]
    strides = [np.full(len(runs.starts), runs.stride, np.int64) for runs in found]
    return (
        np.concatenate([empty, *starts]),
        np.concatenate([empty, *stops]),
        np.concatenate([empty, *strides]),
    )


def _components(
    starts: NDArray[np.int64], stops: NDArray[np.int64], strides: NDArray[np.int64]
) -> tuple[int, NDArray[np.int32]]:
    """Number of components, and the component of every run, in the order of the runs."""
    if not len(starts):
        return 0, np.zeros(0, np.int32)
    # scipy takes a tenth of a second to import, and only labelling needs it.
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    # Runs [a, b) and [c, d) of the next row touch, diagonals included, where c <= b and a <= d.
    first = np.searchsorted(stops, starts + strides, side="left")
    last = np.searchsorted(starts, stops + strides, side="right")
    degree = np.maximum(last - first, 0)
    pointers = np.concatenate([[0], np.cumsum(degree)])
    neighbours = np.arange(pointers[-1]) + np.repeat(first - pointers[:-1], degree)
    joined = np.ones(len(neighbours))
    graph = csr_array((joined, neighbours, pointers), shape=(len(starts), len(starts)))
    count, component = connected_components(graph, directed=False)
    return int(count), component.astype(np.int32, copy=False)
