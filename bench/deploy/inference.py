"""Anomaly maps of new images by a fitted model: at the image's own size, with an overlay."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
import torch
from PIL import Image
from scipy import ndimage

from bench.api import MethodError, Prediction, Sample
from bench.errors import ConfigError, DataError
from bench.files.geometry import Geometry, Size
from bench.files.images import image_size, read_rgb
from bench.files.tensors import fit_maps
from bench.run.context import image_set, method_size
from bench.run.predicting import predict

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path, PurePath

    from numpy.typing import NDArray
    from torch import Tensor

    from bench.deploy.checkpoint import Model, TrainFigures

COLOURS = "viridis"
CONTOUR = (230, 159, 0)
"""Orange of Okabe and Ito's palette, as in the galleries."""
OPACITY = 0.6
CHUNK = 64
"""Images whose maps are held at a time; a transductive method needs all of them at once."""


@dataclass(frozen=True)
class Predicted:
    """One image's result.

    Attributes:
        image: the file.
        score: by the model's protocol; higher is more anomalous.
        map: (H, W) float32 at the image's own size; NaN where a crop hid the image. None: the
            method gives no maps.
    """

    image: Path
    score: float
    map: NDArray[np.float32] | None


def in_chunks(
    model: Model, samples: Sequence[Sample], batch: int
) -> Iterator[tuple[Sequence[Sample], Prediction]]:
    """Samples with their predictions, on the CPU; all at once where the method is transductive."""
    chunk = max(batch, CHUNK - CHUNK % batch)
    step = len(samples) if model.method.is_transductive else chunk
    for start in range(0, len(samples), max(1, step)):
        part = samples[start : start + step]
        images = image_set(model.cell, model.method, part, "test", model.run.device, cache_mb=0)
        yield part, predict(model.method, images, batch)


def image_scores(model: Model, prediction: Prediction) -> Tensor:
    """(B,) scores by the protocol's rule: the method's own, or the maximum at the input's size.

    Raises:
        MethodError: scores that are not finite.
    """
    maps, scores = prediction.maps, prediction.scores
    if maps is not None and (scores is None or model.cell.protocol.image_score == "max"):
        sizes = [model.run.image_size] * len(maps)
        scores = torch.stack([one.max() for one in fit_maps(maps, sizes)])
    assert scores is not None  # a prediction without maps has scores
    if not all(bool(t.isfinite().all()) for t in (scores, maps) if t is not None):
        raise MethodError(f"{model.cell.method}: predictions are not finite; fit the model again")
    return scores


def predict_images(model: Model, images: Sequence[Path], batch: int = 8) -> Iterator[Predicted]:
    """Scores and maps, in the order given.

    Raises:
        DataError: an image that cannot be read, or that does not come to the model's input size.
    """
    geometry = Geometry(model.cell.protocol, method_size(model.method))
    # All headers first: a wrong file is named before anything is computed.
    natives = {path: _checked(path, geometry, model) for path in images}
    samples = [Sample(path, 0, "", bits=model.bits) for path in images]
    for part, prediction in in_chunks(model, samples, batch):
        scores = image_scores(model, prediction)
        for index, (sample, score) in enumerate(zip(part, scores, strict=True)):
            values = None
            if prediction.maps is not None:
                one = prediction.maps[index]
                values = at_own_size(one, natives[sample.image], geometry)
            yield Predicted(sample.image, float(score), values)


def at_own_size(one: Tensor, native: Size, geometry: Geometry) -> NDArray[np.float32]:
    """An (h, w) map brought bilinearly to the part of the image that the model saw.

    Args:
        native: (height, width) of the image.

    Returns:
        (height, width); NaN outside that part.
    """
    top, left, bottom, right = geometry.field(native)
    values = np.full(native, np.nan, np.float32)
    fitted = fit_maps(one.float()[None], [(bottom - top, right - left)])[0]
    values[top:bottom, left:right] = fitted.numpy()
    return values


def overlay(found: Predicted, train: TrainFigures | None, bits: int = 16) -> Image.Image:
    """The image under its map in colour.

    Colours run from the lowest value of the training maps to twice their range, so that they mean
    the same in every picture; the contour is where the map exceeds all of them. Without training
    figures they span the map, and there is no contour.

    Args:
        bits: `Model.bits`.

    Raises:
        MethodError: a prediction without a map.
    """
    anomaly_map = found.map
    if anomaly_map is None:
        raise MethodError(f"{found.image}: no map to lay over it: the method gives none")
    pixels = np.asarray(read_rgb(found.image, bits)).astype(np.float64)
    seen = np.isfinite(anomaly_map)
    values = np.where(seen, anomaly_map, 0.0)
    highest = None if train is None else train.map_max
    if train is not None and train.map_min is not None and train.map_max is not None:
        low, span = train.map_min, 2 * (train.map_max - train.map_min)
    else:
        low = float(np.nanmin(anomaly_map))
        span = float(np.nanmax(anomaly_map)) - low
    share = np.clip((values - low) / (span or 1.0), 0, 1)
    colours = mpl.colormaps[COLOURS](share)[..., :3] * 255
    # Low values show the image, high ones the colour.
    weight = (OPACITY * share * seen)[..., None]
    blended = pixels * (1 - weight) + colours * weight
    if highest is not None:
        above = seen & (anomaly_map > highest)
        blended[above & ~ndimage.binary_erosion(above)] = CONTOUR
    return Image.fromarray(blended.round().astype(np.uint8))


def output_names(images: Sequence[Path]) -> dict[Path, PurePath]:
    """Where each image's results go below the output folder, without suffix: as the images lie
    below the deepest folder that holds all of them.

    Raises:
        ConfigError: two images that would get the same name.
    """
    parents = {path: path.absolute().parent for path in images}
    base = os.path.commonpath(parents.values()) if parents else ""
    names: dict[PurePath, Path] = {}
    for path, parent in parents.items():
        name = parent.relative_to(base) / path.stem
        other = names.setdefault(name, path)
        if other != path:
            raise ConfigError(
                f"{other} and {path} would both be written as {name}; predict them into "
                "different folders"
            )
    return {path: name for name, path in names.items()}


def _checked(path: Path, geometry: Geometry, model: Model) -> Size:
    native = image_size(path)
    size = geometry.cropped(native)
    expected = model.run.image_size
    if size != expected:
        raise DataError(
            f"{path}: {native[1]} x {native[0]} pixels become {size[1]} x {size[0]} under protocol "
            f"{model.cell.protocol.name!r}, but the model was fitted on {expected[1]} x "
            f"{expected[0]}; give images of the training images' shape"
        )
    return native
