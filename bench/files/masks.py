"""Ground truth at the size at which a protocol scores pixels, and what was lost on the way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from bench.errors import DataError
from bench.files.geometry import Geometry, centre_box, shorter_side
from bench.files.images import binarise, eight_bit, image_size, mask_values
from bench.files.mask_readers import READERS
from bench.files.packed import PackedMasks

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from bench.api import Sample
    from bench.settings.protocol import Protocol

    Mask = NDArray[np.uint8]

_EIGHT = np.ones((3, 3), dtype=int)
_ASPECT = 0.01
"""A mask whose aspect ratio differs by more from its image's belongs to another image."""


@dataclass(frozen=True)
class MaskSet:
    """The ground truth of a test set.

    Attributes:
        masks: (h, w) of 0 and 1 for each sample; None: anomalous without a usable mask. Each is
            unpacked anew whenever it is asked for.
        unmasked: indices of the None.
        regions: 8-connected components of all masks.
        regions_lost: components of the files that have no pixel left in `masks`.
        kept: masks that vanished in the resize and were left one pixel.
        out_of_view: anomalous images whose whole defect the crop removed; their mask is empty.
        resized: files of another size than their image, brought to it by nearest neighbour.
    """

    masks: PackedMasks
    unmasked: tuple[int, ...]
    regions: int
    regions_lost: int
    kept: int = 0
    out_of_view: int = 0
    resized: int = 0


def load_masks(
    samples: Sequence[Sample],
    protocol: Protocol,
    image_size: tuple[int, int],
    method_size: tuple[int, int] | int | None = None,
) -> MaskSet:
    """The masks of a test set at the protocol's `mask_size`, made binary on the file, resized once.

    "input": exactly like the images, crop included. "native": the file's own size; an int: its
    shorter side. A crop is then applied to the file first, to the field that the images show.

    Args:
        image_size: (height, width) of the images after resize and crop.
        method_size: the method's own input size, where the protocol resizes to it.

    Raises:
        DataError: an unreadable mask, one of another shape than its image, or anomalous pixels in
            the mask of a normal image.
    """
    geometry = Geometry(protocol, method_size)
    tally = _Tally()
    masks = PackedMasks(_sample_mask(sample, geometry, image_size, tally) for sample in samples)
    return MaskSet(
        masks=masks,
        unmasked=tuple(i for i, shape in enumerate(masks.shapes) if shape is None),
        regions=tally.regions,
        regions_lost=tally.lost,
        kept=tally.kept,
        out_of_view=tally.out_of_view,
        resized=tally.resized,
    )


def count_regions(mask: NDArray[np.bool_] | Mask) -> int:
    """Number of 8-connected components."""
    return int(ndimage.label(mask, structure=_EIGHT)[1])


def softness(values: NDArray[np.uint16]) -> tuple[int, int]:
    """How many non-zero pixels there are, and how many of them are below the maximum.

    Files whose maximum is below 128 hold class indices, not grey edges: (0, 0).
    """
    top = int(values.max(initial=0))
    if int(eight_bit(values).max(initial=0)) < 128:
        return 0, 0
    nonzero = int(np.count_nonzero(values))
    return nonzero, nonzero - int(np.count_nonzero(values == top))


def aspect_differs(mask: tuple[int, int], image: tuple[int, int]) -> bool:
    """Whether a mask of this (height, width) belongs to another image: more than rounding apart."""
    return abs((mask[1] * image[0]) / (mask[0] * image[1]) - 1) > _ASPECT


def wrong_size(sample: Sample, mask: tuple[int, int], image: tuple[int, int]) -> str:
    """What a user reads about a mask that `aspect_differs` from its image."""
    return (
        f"{sample.mask}: {mask[1]} x {mask[0]} pixels do not fit the image {sample.image} of "
        f"{image[1]} x {image[0]} (after its EXIF rotation); replace the mask"
    )


def marked_normal(sample: Sample) -> str:
    """What a user reads about a normal image whose mask has anomalous pixels."""
    return (
        f"{sample.mask}: anomalous pixels, but {sample.image} is filed as normal; "
        "move the image to its defect type, or remove the mask"
    )


@dataclass
class _Tally:
    regions: int = 0
    lost: int = 0
    kept: int = 0
    out_of_view: int = 0
    resized: int = 0


def _sample_mask(
    sample: Sample, geometry: Geometry, size: tuple[int, int], tally: _Tally
) -> Mask | None:
    if sample.label == 1 and sample.mask is None:
        return None
    if sample.mask is None:
        return np.zeros(_target(sample.image, geometry, size), np.uint8)
    values = mask_values(sample.mask, sample.mask_index)
    raw = binarise(values, sample.mask_rule)
    if sample.label == 0:
        if raw.any():
            raise DataError(marked_normal(sample))
        return np.zeros(_target(sample.image, geometry, size), np.uint8)
    if not raw.any():
        return None
    mask = _fitted(sample, raw)
    tally.resized += mask.shape != raw.shape
    return _scored(mask, geometry, size, tally)


def _fitted(sample: Sample, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The mask at its image's size; nearest neighbour, where the shapes agree but for rounding."""
    height, width = image_size(sample.image)
    if mask.shape == (height, width):
        return mask
    size = (mask.shape[0], mask.shape[1])
    if aspect_differs(size, (height, width)):
        raise DataError(wrong_size(sample, size, (height, width)))
    return _nearest(mask.astype(np.int32), (height, width), _Tally()) > 0


def _target(image: Path, geometry: Geometry, size: tuple[int, int]) -> tuple[int, int]:
    """(height, width) of the mask of an image under the protocol."""
    mask_size = geometry.protocol.mask_size
    if mask_size == "input":
        return size
    native = image_size(image)
    top, left, bottom, right = geometry.field(native)
    native = (bottom - top, right - left)
    return native if mask_size == "native" else shorter_side(native, mask_size)


def _scored(
    mask: NDArray[np.bool_], geometry: Geometry, size: tuple[int, int], tally: _Tally
) -> Mask:
    """The mask as pixels are scored; regions and pixels lost are added to the tally."""
    protocol = geometry.protocol
    found, count = ndimage.label(mask, structure=_EIGHT)
    labels = found.astype(np.int32)
    native = (mask.shape[0], mask.shape[1])
    if protocol.mask_size == "input":
        resized = size if protocol.crop is None else geometry.resized(native)
        crop = centre_box(resized, size)
    else:
        top, left, bottom, right = geometry.field(native)
        labels = labels[top:bottom, left:right]
        inner = (bottom - top, right - left)
        side = protocol.mask_size
        resized = inner if side == "native" else shorter_side(inner, side)
        crop = (0, 0, *resized)
    if protocol.mask_resample == "nearest":
        labels = _nearest(labels, resized, tally)
        scaled = (labels > 0).astype(np.uint8)
    else:
        scaled = READERS[protocol.mask_resample](labels > 0, resized)
    top, left, bottom, right = crop
    view = np.ascontiguousarray(scaled[top:bottom, left:right])
    tally.regions += count_regions(view)
    tally.lost += count - _surviving(labels, scaled, crop)
    tally.out_of_view += not view.any() and bool(scaled.any() or not labels.any())
    return view


def _nearest(labels: NDArray[np.int32], size: tuple[int, int], tally: _Tally) -> NDArray[np.int32]:
    """The labels at another size; where all would vanish, one pixel of the largest part is kept."""
    if labels.shape == size:
        return labels
    # In whole numbers: Pillow adds up rounded steps, and misses where a centre lies on a border.
    rows, columns = (_centres(n, s) for n, s in zip(labels.shape, size, strict=True))
    scaled = labels[rows][:, columns]
    if labels.any() and not scaled.any():
        tally.kept += 1
        return _one_pixel(labels, size)
    return scaled


def _centres(native: int, size: int) -> NDArray[np.intp]:
    """The native pixel under the centre of each of `size` pixels on an axis."""
    return _landing(np.arange(size), size, native)


def _landing(cells: NDArray[np.intp], native: int, size: int) -> NDArray[np.intp]:
    """Where the centres of native pixels fall on a resized axis."""
    return ((2 * cells + 1) * size // (2 * native)).astype(np.intp)


def _one_pixel(labels: NDArray[np.int32], size: tuple[int, int]) -> NDArray[np.int32]:
    """All zero but for the pixel on which most of the native pixels fall; it gets their label."""
    rows, columns = np.nonzero(labels)
    y = _landing(rows, labels.shape[0], size[0])
    x = _landing(columns, labels.shape[1], size[1])
    hits = np.zeros(size, np.int64)
    np.add.at(hits, (y, x), 1)
    best = np.unravel_index(int(hits.argmax()), size)
    single = np.zeros(size, np.int32)
    single[best] = labels[rows, columns][(y == best[0]) & (x == best[1])][0]
    return single


def _surviving(labels: NDArray[np.int32], scaled: Mask, crop: tuple[int, int, int, int]) -> int:
    """How many regions have a pixel in view.

    Labels of the native size count where a pixel of theirs falls on one that is set.
    """
    top, left, bottom, right = crop
    if labels.shape == scaled.shape:
        seen = labels[top:bottom, left:right]
        return len(np.unique(seen[scaled[top:bottom, left:right] > 0]))
    view = np.zeros_like(scaled)
    view[top:bottom, left:right] = scaled[top:bottom, left:right]
    rows, columns = np.nonzero(labels)
    y = _landing(rows, labels.shape[0], view.shape[0])
    x = _landing(columns, labels.shape[1], view.shape[1])
    return len(np.unique(labels[rows, columns][view[y, x] > 0]))
