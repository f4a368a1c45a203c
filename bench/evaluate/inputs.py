"""Checked inputs: maps, masks and labels of one category, and the errors that name what is wrong.

Arrays stay as they are: nothing is copied, cast or resized here. CUDA tensors stay on the device.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from bench.errors import ConfigError, DataError
from bench.evaluate.regions import Regions, label_masks

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import torch
    from numpy.typing import NDArray

__all__ = [
    "Array",
    "Binarize",
    "EvaluationSet",
    "Nonfinite",
    "as_array",
    "is_tensor",
    "on_host",
    "read_flags",
    "read_masked",
    "read_one",
    "read_set",
    "read_unmapped",
    "refuse_nonfinite",
]

Array = Any
"""A NumPy array, or a torch tensor on an accelerator."""

Nonfinite = Literal["error", "rank"]
Binarize = Literal["nonzero", "half"]


_NO_LABELS = "no labels were given; 0 (normal) or 1 (anomalous) is needed for each image"


@dataclass(frozen=True)
class EvaluationSet:
    """One category's test images, checked.

    Attributes:
        maps: 2-D each, all of one type.
        masks: bool, of the shape of the map; None: no anomalous pixel.
        labels: 0 normal, 1 anomalous.
        unmasked: anomalous images without an anomalous pixel in their mask; their pixels are in
            no metric.
        names: how messages call the images.
    """

    maps: Sequence[Array]
    masks: Sequence[NDArray[np.bool_] | None]
    labels: NDArray[np.int64]
    unmasked: frozenset[int]
    names: Sequence[str]

    @property
    def scored(self) -> list[int]:
        """Images whose pixels count."""
        return [i for i in range(len(self.maps)) if i not in self.unmasked]

    @property
    def has_defects(self) -> bool:
        """Whether some mask has an anomalous pixel."""
        return any(mask is not None for mask in self.masks)

    @property
    def by_name(self) -> dict[str, Array]:
        """The maps by the names of their images."""
        return dict(zip(self.names, self.maps, strict=True))

    def label(self) -> Regions:
        """The regions of all masks."""
        return label_masks(self.masks)

    def check_regions(self, regions: Regions) -> None:
        """Refuse a labelling of other masks.

        Raises:
            DataError: naming the first image that differs.
        """
        if len(regions.offsets) != len(self.maps) + 1:
            raise DataError(
                f"the labelling given holds {len(regions.offsets) - 1} images, not {len(self.maps)}"
            )
        for index, mask in enumerate(self.masks):
            pixels = 0 if mask is None else int(np.count_nonzero(mask))
            known = int(regions.offsets[index + 1] - regions.offsets[index])
            if pixels != known:
                raise DataError(
                    f"the labelling given has {known} anomalous pixels in {self.names[index]}, "
                    f"its mask {pixels}; label the masks that are evaluated"
                )


def is_tensor(value: object) -> bool:
    """Whether a value is a torch tensor, without importing torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def as_array(value: Any, what: str) -> Array:
    """A NumPy array that shares memory where it can, or the tensor if it lies on an accelerator.

    bfloat16 is widened to float32, which holds all its values.

    Raises:
        DataError: for types whose values have no order.
    """
    if is_tensor(value):
        tensor: torch.Tensor = value.detach()
        if tensor.dtype.is_complex:
            raise DataError(f"{what} has type {tensor.dtype}; real numbers are needed")
        if tensor.dtype == sys.modules["torch"].bfloat16:
            tensor = tensor.float()
        return tensor.numpy() if tensor.device.type == "cpu" else tensor
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise DataError(f"{what} is not an array: {error}") from error
    if array.dtype.kind not in "buif" or array.dtype.itemsize > 8:
        raise DataError(
            f"{what} has type {array.dtype}; real numbers of at most 64 bits are needed"
        )
    return array


def on_host(value: Any, what: str) -> NDArray[Any]:
    """The same as a NumPy array wherever it lies."""
    array = as_array(value, what)
    return array.cpu().numpy() if is_tensor(array) else array  # type: ignore[no-any-return]


def read_set(
    maps: Any,
    masks: Any,
    labels: Any,
    names: Sequence[str] | None,
    binarize: Binarize | None,
) -> EvaluationSet:
    """Check the inputs of `evaluate`, which documents them.

    Raises:
        ConfigError: unknown binarize rule.
        DataError: an empty set, counts, shapes or types that differ, masks that are not binary,
            labels that are not 0 or 1, a normal image with anomalous pixels.
    """
    called, images, found = _images(maps, masks, names, binarize)
    count = len(images)
    wanted = _labels(labels, count, called)
    for index, mask in enumerate(found):
        _refuse_marked(mask, int(wanted[index]), called[index])
    unmasked = frozenset(i for i in range(count) if wanted[i] == 1 and found[i] is None)
    return EvaluationSet(images, found, wanted, unmasked, called)


def read_one(
    anomaly_map: Any, mask: Any, label: int, name: str
) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
    """Map and anomalous pixels of one image on the host, checked as `read_set` does.

    Raises:
        DataError: as `read_set`.
    """
    images = _maps([on_host(anomaly_map, f"the map of {name}")], [name])
    (flags,) = _masks([mask], images, [name], None)
    _refuse_marked(flags, label, name)
    return images[0], flags


def _refuse_marked(mask: NDArray[np.bool_] | None, label: int, name: str) -> None:
    if mask is not None and label == 0:
        raise DataError(
            f"{name} is labelled normal, but its mask has {np.count_nonzero(mask)} anomalous "
            "pixels; correct the label or the mask"
        )


def read_unmapped(labels: Any, names: Sequence[str] | None) -> tuple[NDArray[np.int64], list[str]]:
    """(n,) labels of a set without maps, and how messages call its images.

    Raises:
        DataError: no labels, another shape, other values than 0 and 1.
    """
    if labels is None:
        raise DataError(_NO_LABELS)
    flags = read_flags(labels)
    if not len(flags):
        raise DataError("no labels were given; at least one image is needed")
    return flags.astype(np.int64), _names(names, len(flags))


def read_masked(maps: Any, masks: Any, binarize: Binarize | None) -> EvaluationSet:
    """The same for metrics that no label enters: the images with anomalous pixels are labelled 1.

    Raises:
        ConfigError: as `read_set`.
        DataError: as `read_set`.
    """
    called, images, found = _images(maps, masks, None, binarize)
    labels = np.array([mask is not None for mask in found], np.int64)
    return EvaluationSet(images, found, labels, frozenset(), called)


def _images(
    maps: Any, masks: Any, names: Sequence[str] | None, binarize: Binarize | None
) -> tuple[list[str], list[Array], list[NDArray[np.bool_] | None]]:
    """Names, maps and masks, checked."""
    if binarize not in (None, "nonzero", "half"):
        raise ConfigError(f"binarize={binarize!r} is not known; choose 'nonzero', 'half' or None")
    count = _count(maps, "maps")
    if count == 0:
        raise DataError("no anomaly maps were given; at least one image is needed")
    called = _names(names, count)
    images = _maps(maps, called)
    return (
        called,
        images,
        _masks([None] * count if masks is None else masks, images, called, binarize),
    )


def _count(images: Any, what: str) -> int:
    try:
        return len(images)
    except TypeError as error:
        raise DataError(
            f"{what} are given as {type(images).__name__}; an array (n, h, w) or a list of 2-D "
            "arrays is needed"
        ) from error


def read_flags(labels: Any) -> NDArray[np.bool_]:
    """(n,) whether each sample is anomalous, from labels 0 and 1.

    Raises:
        DataError: another shape, other values.
    """
    given = on_host(labels, "labels")
    wrong = np.count_nonzero((given != 0) & (given != 1))
    if given.ndim != 1 or wrong:
        raise DataError(
            f"labels of shape {given.shape} with {wrong} values besides 0 and 1; a vector of 0 "
            "(normal) and 1 (anomalous) is needed"
        )
    return given.astype(bool)


def refuse_nonfinite(arrays: Mapping[str, Array], nonfinite: Nonfinite) -> None:
    """Raise for scores that are NaN, or infinite where these are not asked for.

    Raises:
        DataError: naming the first array that has such scores, their number and the first place.
    """
    for name, array in arrays.items():
        if is_tensor(array):
            if bool(array.isfinite().all()):
                continue
            array = array.cpu().numpy()
        nans = np.isnan(array)
        if nans.any():
            raise DataError(
                f"{np.count_nonzero(nans)} NaN among the {array.size} scores of {name}, the first "
                f"at {_first(nans)}; NaN has no rank"
            )
        endless = np.isinf(array)
        if nonfinite == "error" and endless.any():
            raise DataError(
                f"{np.count_nonzero(endless)} infinite among the {array.size} scores of {name}, "
                f"the first at {_first(endless)}; make them finite, as by a limit on the scores"
            )


def _first(flags: NDArray[np.bool_]) -> tuple[int, ...]:
    return tuple(int(axis[0]) for axis in np.nonzero(flags))


def _names(names: Sequence[str] | None, count: int) -> list[str]:
    if names is None:
        return [f"image {index}" for index in range(count)]
    if len(names) != count:
        raise DataError(f"{len(names)} names for {count} images; one for each image is needed")
    return [f"image {index} ({name})" for index, name in enumerate(names)]


def _maps(maps: Any, names: Sequence[str]) -> list[Array]:
    whole = as_array(maps, "maps") if is_tensor(maps) or isinstance(maps, np.ndarray) else maps
    images = [
        as_array(image, f"the map of {name}") for image, name in zip(whole, names, strict=True)
    ]
    for image, name in zip(images, names, strict=True):
        if image.ndim != 2:
            raise DataError(
                f"the map of {name} has shape {tuple(image.shape)}, not (height, width)"
            )
        if image.shape[0] * image.shape[1] == 0:
            raise DataError(f"the map of {name} has no pixel: shape {tuple(image.shape)}")
        if image.dtype != images[0].dtype:
            raise DataError(
                f"the map of {name} has type {image.dtype}, that of {names[0]} {images[0].dtype}; "
                "scores are compared as stored, so all maps need one type"
            )
    return images


def _labels(labels: Any, count: int, names: Sequence[str]) -> NDArray[np.int64]:
    if labels is None:
        raise DataError(_NO_LABELS)
    given = on_host(labels, "labels")
    if given.shape != (count,):
        raise DataError(f"labels have shape {given.shape}; {count} maps need ({count},)")
    wrong = np.flatnonzero((given != 0) & (given != 1))
    if len(wrong):
        raise DataError(
            f"{len(wrong)} labels are neither 0 nor 1, the first {given[wrong[0]]:g} for "
            f"{names[wrong[0]]}"
        )
    return given.astype(np.int64)


def _masks(
    masks: Any, maps: Sequence[Array], names: Sequence[str], binarize: Binarize | None
) -> list[NDArray[np.bool_] | None]:
    if _count(masks, "masks") != len(maps):
        raise DataError(f"{len(masks)} masks for {len(maps)} maps; one or None for each is needed")
    found: list[NDArray[np.bool_] | None] = []
    foreground: set[float] = set()
    for mask, anomaly_map, name in zip(masks, maps, names, strict=True):
        if mask is None:
            found.append(None)
            continue
        given = on_host(mask, f"the mask of {name}")
        if given.shape != tuple(anomaly_map.shape):
            raise DataError(
                f"the mask of {name} has shape {given.shape}, its map {tuple(anomaly_map.shape)}; "
                "resize the map to the mask (bilinear, align_corners=False)"
            )
        flags = _flags(given, name, binarize, foreground)
        if len(foreground) > 1:
            raise DataError(
                f"masks hold the values {sorted(foreground)} besides 0, the last in {name}; "
                "two values are needed, one of them 0, or binarize='nonzero' or 'half'"
            )
        found.append(flags if flags.any() else None)
    return found


def _flags(
    mask: NDArray[Any], name: str, binarize: Binarize | None, foreground: set[float]
) -> NDArray[np.bool_]:
    """The anomalous pixels; without a rule, the one value that stands for them is noted."""
    if mask.dtype == bool:
        return mask
    if mask.size and binarize == "half":
        return _upper_half(mask, name)
    if mask.dtype == np.uint8 and mask.max(initial=0) <= 1:
        foreground |= {1.0} if mask.any() else set()
        return mask.view(bool)
    flags: NDArray[np.bool_] = mask != 0
    if binarize == "nonzero":
        return flags
    top = mask.max(initial=0) or mask.min(initial=0)
    if np.count_nonzero(flags) != np.count_nonzero(mask == top if top else flags):
        values = np.unique(mask)
        shown = ", ".join(f"{value:g}" for value in values[:5])
        raise DataError(
            f"the mask of {name} has {len(values)} values ({shown}, ...); two are needed, one of "
            "them 0, or binarize='nonzero' or 'half'"
        )
    if top:
        foreground.add(float(top))
    return flags


def _upper_half(mask: NDArray[Any], name: str) -> NDArray[np.bool_]:
    """Grey levels from half of full scale on: 128 of 255, or 0.5 of 1."""
    lowest, highest = mask.min(), mask.max()
    whole = mask.dtype.kind in "iu"
    full = 255 if whole else 1
    if not (lowest >= 0 and highest <= full and (highest > 1 or not whole or highest == 0)):
        raise DataError(
            f"the mask of {name} has values from {lowest:g} to {highest:g}; binarize='half' needs "
            "integers up to 255 or fractions up to 1"
        )
    flags: NDArray[np.bool_] = mask >= (128 if whole else 0.5)
    return flags
