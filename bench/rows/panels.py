"""What a gallery shows: which test images, and the file that holds them. No torch.

A panel file is a compressed .npz without pickled objects. Maps are stored as float16 shares of
their common range, so that large and closely spaced scores survive.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from bench.errors import StoreError
from bench.npz import DAMAGED

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

FORMAT = 1
LONGEST = 512
"""Pixels on the longer side of what is stored; larger images are reduced."""


SHARED = "the same image for every method"
"""Reason of an image that no score has chosen: what `bench show` draws of several cells."""


@dataclass(frozen=True)
class Panel:
    """One test image with its truth and its anomaly map; the three may differ in size.

    Attributes:
        name: of the image file, relative to the data set.
        image: (H, W, 3) uint8.
        mask: (h, w), nonzero is anomalous; None: no mask known, or a normal image without one.
        map: (h', w') scores, higher is more anomalous; None: the method gives none.
        score: of the image.
        label: 0 normal, 1 anomalous.
        defect: type of the defect.
        reason: why this image was chosen.
        epoch: of the training, whose map it is; None: from before it was recorded.
    """

    name: str
    image: NDArray[np.uint8]
    mask: NDArray[Any] | None
    map: NDArray[Any] | None
    score: float
    label: int
    defect: str
    reason: str = ""
    epoch: int | None = None


def select(
    scores: Sequence[float] | NDArray[Any], labels: Sequence[int] | NDArray[Any], count: int = 10
) -> list[tuple[int, str]]:
    """Choose images for a gallery: what a method gets wrong first.

    The worst, the median and the best image of both kinds, in this order of importance; what is
    left goes to further normal images with high and anomalous images with low scores. Equal
    scores: the earlier image.

    Args:
        scores: (N,) image scores.
        labels: (N,) 0 normal, 1 anomalous.
        count: how many; fewer where there are fewer images.

    Returns:
        (index, reason), failures first; no image twice.
    """
    values, kinds = np.asarray(scores, dtype=np.float64), np.asarray(labels)
    # Ascending; images of one score stay in their order whichever end is read.
    ranked = {
        kind: [int(i) for i in np.flatnonzero(kinds == kind)[_ascending(values, kinds == kind)]]
        for kind in (0, 1)
    }
    chosen: dict[int, tuple[int, int, str]] = {}
    for index, group, place, reason in _candidates(ranked, values):
        if len(chosen) < count and index not in chosen:
            chosen[index] = (group, place, reason)
    order = sorted(chosen, key=lambda index: chosen[index][:2])
    return [(index, chosen[index][2]) for index in order]


def _ascending(values: NDArray[np.float64], chosen: NDArray[np.bool_]) -> NDArray[np.intp]:
    return np.argsort(values[chosen], kind="stable")


def shared(defects: Sequence[str], count: int = 6) -> list[int]:
    """Images that every method shows of a test set, so that they can stand beside each other.

    Args:
        defects: (N,) kinds, "good" among them.

    Returns:
        the first image of each kind, then the second of each, up to so many; as indices, rising.
    """
    seen: Counter[str] = Counter()
    turns = []
    for kind in defects:
        turns.append(seen[kind])
        seen[kind] += 1
    return sorted(sorted(range(len(turns)), key=lambda index: turns[index])[:count])


def chosen(panels: Sequence[Panel]) -> list[Panel]:
    """Those that the method's own scores have chosen."""
    return [panel for panel in panels if panel.reason != SHARED]


def _candidates(
    ranked: dict[int, list[int]], values: NDArray[np.float64]
) -> Iterator[tuple[int, int, int, str]]:
    """(index, group, place in the group, reason), the most telling first; may repeat an image."""
    normal, anomalous = ranked[0], ranked[1]
    # From the top, but of equal scores the earlier image first.
    high_normal = sorted(normal, key=lambda i: (-values[i], i))
    high_anomalous = sorted(anomalous, key=lambda i: (-values[i], i))
    for place in range(max(len(normal), len(anomalous))):
        if place < len(normal):
            yield high_normal[place], 0, place, _reason("highest", place, "normal")
        if place < len(anomalous):
            yield anomalous[place], 1, place, _reason("lowest", place, "anomalous")
        if place == 0:
            if anomalous:
                yield anomalous[len(anomalous) // 2], 2, 0, "median score of the anomalous images"
                yield high_anomalous[0], 3, 0, _reason("highest", 0, "anomalous")
            if normal:
                yield normal[len(normal) // 2], 4, 0, "median score of the normal images"
                yield normal[0], 5, 0, _reason("lowest", 0, "normal")


def _reason(end: str, place: int, kind: str) -> str:
    nth = "" if place == 0 else f"{_ordinal(place + 1)} "
    return f"{nth}{end} score of the {kind} images"


def _ordinal(number: int) -> str:
    if number % 100 in (11, 12, 13):
        return f"{number}th"
    return f"{number}{ {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th') }"


def save_panels(path: Path, panels: Sequence[Panel], threshold: float | None) -> None:
    """Write panels to a compressed .npz, reduced to at most `LONGEST` pixels a side."""
    low, high = _range(panels)
    arrays: dict[str, Any] = {
        "format": np.int64(FORMAT),
        "threshold": np.array([] if threshold is None else [threshold], dtype=np.float64),
        "range": np.array([low, high], dtype=np.float64),
        "scores": np.array([p.score for p in panels], dtype=np.float64),
        "labels": np.array([p.label for p in panels], dtype=np.int64),
        "epochs": np.array([p.epoch or 0 for p in panels], dtype=np.int64),
    }
    for key in ("name", "defect", "reason"):
        arrays[key] = np.array([getattr(p, key) for p in panels], dtype=np.str_)
    for i, panel in enumerate(panels):
        arrays[f"image_{i}"] = _small(panel.image)
        if panel.map is not None:
            share = (_small(panel.map.astype(np.float64)) - low) / (high - low)
            arrays[f"map_{i}"] = share.astype(np.float16)
        if panel.mask is not None:
            # A pixel of the reduced mask is anomalous where any of its sources is.
            arrays[f"mask_{i}"] = _small((panel.mask != 0).astype(np.float64)) > 0
    np.savez_compressed(path, **arrays)


def load_panels(path: Path) -> tuple[list[Panel], float | None]:
    """Read what `save_panels` wrote: the panels and the threshold.

    Raises:
        StoreError: no such file, or not a panel file of this format.
    """
    if not path.exists():
        raise StoreError(f"{path}: no panels; run the cell again to make them")
    try:
        # Opened here: NumPy leaves a damaged file open.
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            data = {key: file[key] for key in file.files}
        if int(data["format"]) != FORMAT:
            raise StoreError(
                f"{path}: panels of format {int(data['format'])}, this version reads {FORMAT}; "
                "run the cell again"
            )
        return _panels(data), (float(data["threshold"][0]) if len(data["threshold"]) else None)
    except DAMAGED as error:
        raise StoreError(f"{path}: not a panel file ({error}); run the cell again") from error


def _panels(data: dict[str, Any]) -> list[Panel]:
    low, high = data["range"]
    for key, array in data.items():
        allowed = {"image": (2, 3), "map": (2,), "mask": (2,)}.get(key.partition("_")[0])
        if allowed and (array.ndim not in allowed or not array.size):
            raise ValueError(f"{key} has the shape {array.shape}")
    return [
        Panel(
            name=str(data["name"][i]),
            image=data[f"image_{i}"],
            mask=data.get(f"mask_{i}"),
            map=(data[f"map_{i}"].astype(np.float64) * (high - low) + low).astype(np.float32)
            if f"map_{i}" in data
            else None,
            score=float(data["scores"][i]),
            label=int(data["labels"][i]),
            defect=str(data["defect"][i]),
            reason=str(data["reason"][i]),
            epoch=(int(data["epochs"][i]) or None) if "epochs" in data else None,
        )
        for i in range(len(data["scores"]))
    ]


def epoch_note(panels: Sequence[Panel]) -> str:
    """Which epoch's maps, or scores, a picture shows, after a comma; empty where nobody knows."""
    epochs = sorted({panel.epoch for panel in panels if panel.epoch is not None})
    what = "scores" if all(panel.map is None for panel in panels) else "maps"
    return f", {what} of epoch {', '.join(map(str, epochs))}" if epochs else ""


def _range(panels: Sequence[Panel]) -> tuple[float, float]:
    """Lowest and highest map value of all panels; never equal."""
    maps = [p.map for p in panels if p.map is not None]
    low = min((float(one.min()) for one in maps), default=0.0)
    high = max((float(one.max()) for one in maps), default=1.0)
    return low, (high if high > low else low + 1.0)


def _small(pixels: NDArray[Any]) -> NDArray[Any]:
    """Reduce to at most `LONGEST` pixels a side by averaging; as it is where it is no larger."""
    height, width = pixels.shape[:2]
    factor = LONGEST / max(height, width)
    if factor >= 1:
        return pixels
    size = max(1, round(width * factor)), max(1, round(height * factor))
    if pixels.ndim == 3:
        return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BOX))
    mode_f = Image.fromarray(pixels.astype(np.float32))
    return np.asarray(mode_f.resize(size, Image.Resampling.BOX), dtype=np.float64)
