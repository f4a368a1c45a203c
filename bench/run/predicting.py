"""Predictions of a method for a whole set of images, checked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from bench.api import Method, MethodError, Prediction
from bench.profile.mode import prediction_mode
from bench.run.plugin_errors import type_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from bench.files.tensors import ImageSet


def predict(method: Method, images: ImageSet, batch: int) -> Prediction:
    """Predictions for all images, on the CPU, after `finish`.

    Raises:
        MethodError: maps or scores that are not one for each image, or of some batches only.
    """
    with prediction_mode(method):
        raw = list(_raw(method, images, batch))
        maps, scores = ([getattr(one, what) for one in raw] for what in ("maps", "scores"))
        raw.clear()
        whole = Prediction(_joined(method, "maps", maps), _joined(method, "scores", scores))
        return _finished(method, whole, len(images))


def predict_in_parts(method: Method, images: ImageSet, batch: int) -> Iterator[Prediction]:
    """The same predictions, batch by batch: for methods that are not transductive.

    Raises:
        MethodError: as `predict`.
    """
    lacking: dict[str, bool] = {}
    with prediction_mode(method):
        for raw in _raw(method, images, batch):
            held = raw.maps if raw.maps is not None else raw.scores
            assert held is not None  # a prediction has one of the two
            done = _finished(method, raw, len(held))
            for what in ("maps", "scores"):
                is_none = getattr(done, what) is None
                if lacking.setdefault(what, is_none) != is_none:
                    raise MethodError(_some_only(method, what, "some"))
            yield done


def parts_of(whole: Prediction, size: int) -> Iterator[Prediction]:
    """Predictions that are there, so many at a time."""
    held = whole.maps if whole.maps is not None else whole.require_scores()
    for start in range(0, len(held), size):
        maps, scores = (
            None if one is None else one[start : start + size] for one in (whole.maps, whole.scores)
        )
        yield Prediction(maps, scores)


def _raw(method: Method, images: ImageSet, batch: int) -> Iterator[Prediction]:
    """The predictions of each batch on the CPU, before `finish`."""
    for tensor in images.batches(batch):
        raw = require_prediction(method, method.predict(tensor))
        _require_one_each(method, raw, len(tensor), dimensions=(3, 4))
        yield Prediction(_on_host(raw.maps), _on_host(raw.scores))


def _finished(method: Method, raw: Prediction, count: int) -> Prediction:
    done = require_prediction(method, method.finish(raw), "finish")
    _require_one_each(method, done, count, dimensions=(3,))
    return done


def require_prediction(method: Method, found: object, called: str = "predict") -> Prediction:
    """What a method returned, if it is a prediction that holds tensors.

    Raises:
        MethodError: says what came instead.
    """
    name = type(method).__name__
    if not isinstance(found, Prediction):
        raise MethodError(
            f"{name}: {called} returned {type_name(found)}; return Prediction(maps, scores)"
        )
    for what, value in (("maps", found.maps), ("scores", found.scores)):
        if value is not None and not isinstance(value, torch.Tensor):
            raise MethodError(
                f"{name}: {called} gave {what} as {type_name(value)}; give a torch tensor, as by "
                "torch.from_numpy"
            )
    return found


def _require_one_each(
    method: Method, prediction: Prediction, count: int, dimensions: tuple[int, ...]
) -> None:
    """Refuse maps or scores that are not one for each image, or that hold their graph.

    Raises:
        MethodError: names the class, the shape and what is expected.
    """
    name, maps, scores = type(method).__name__, prediction.maps, prediction.scores
    if maps is not None and (maps.ndim not in dimensions or len(maps) != count):
        raise MethodError(f"{name}: maps of shape {tuple(maps.shape)}, expected ({count}, H, W)")
    if scores is not None and tuple(scores.shape) != (count,):
        raise MethodError(
            f"{name}: image scores of shape {tuple(scores.shape)}, expected ({count},)"
        )
    for what, tensor in (("maps", maps), ("image scores", scores)):
        if tensor is not None and tensor.requires_grad:
            raise MethodError(f"{name}: {what} hold the graph that made them; return .detach()")


def _joined(method: Method, what: str, parts: Sequence[Tensor | None]) -> Tensor | None:
    """One tensor of all batches; None where no batch has any."""
    known = [part for part in parts if part is not None]
    if known and len(known) < len(parts):
        raise MethodError(_some_only(method, what, f"{len(known)} of {len(parts)}"))
    return torch.cat(known) if known else None


def _some_only(method: Method, what: str, share: str) -> str:
    text = f"{what} in {share} batches; give them for all images or for none"
    return f"{type(method).__name__}: {text}"


def _on_host(tensor: Tensor | None) -> Tensor | None:
    """On the CPU, as NumPy can read it: bfloat16 becomes float32, which holds every value of it."""
    if tensor is None:
        return None
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).cpu()
