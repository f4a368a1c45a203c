"""The state of a stream as arrays and files, so that workers on several machines can merge."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bench.errors import StoreError
from bench.evaluate.cells import Cells
from bench.evaluate.stream import COUNTS, StreamEvaluator
from bench.evaluate.tally import Tally

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["from_arrays", "load_state", "save_state", "to_arrays"]

Array = npt.NDArray[Any]

_FORMAT = 1
_PER_CELL = ("total", "anomalous", "weight", "seen")


def to_arrays(evaluator: StreamEvaluator) -> dict[str, Array]:
    """The whole state; the same images give the same arrays, in whatever order they came.

    Returns:
        occupied cells only: their numbers ("cell") and per cell "total", "anomalous", "weight",
        "seen"; the cut of the cells; the settings; the counts; and the image scores, sorted.
    """
    cells, tally = evaluator.cells, evaluator.tally
    cut = tally.cells if tally is not None else None
    order = np.lexsort((evaluator.image_labels, evaluator.image_scores))
    state = {
        "format": np.array(_FORMAT),
        "uniform": np.array(cells if isinstance(cells, int) else 0),
        "dtype": np.array(cut.dtype.name if cut else ""),
        "bits": np.array(cut.bits if cut else 0),
        "split": np.zeros(0, np.uint32) if cut is None or cut.split is None else cut.split,
        "base": np.array(cut.base if cut else 0, np.uint64),
        "shift": np.array(cut.shift if cut else 0),
        "limits": np.array(evaluator.limits, np.float64),
        "nonfinite": np.array(evaluator.nonfinite),
        "binarize": np.array(evaluator.binarize or ""),
        "counts": np.array([evaluator.counts[key] for key in COUNTS], np.int64),
        "image_scores": np.array(evaluator.image_scores, np.float64)[order],
        "image_labels": np.array(evaluator.image_labels, np.uint8)[order],
    }
    if tally is not None:
        state["cell"] = cell = np.flatnonzero(tally.total)
        for name in _PER_CELL:
            values = getattr(tally, name)
            state[name] = values[cell] if len(values) else values
    return state


def from_arrays(state: Mapping[str, Array]) -> StreamEvaluator:
    """The evaluator that `to_arrays` was given.

    Raises:
        StoreError: if the arrays are not a state of this format.
    """
    try:
        if int(state["format"]) != _FORMAT:
            raise StoreError(f"stream state of format {int(state['format'])}, not {_FORMAT}")
        return _restored(state)
    except KeyError as error:
        raise StoreError(f"this is not the state of a stream: no array {error}") from error


def _restored(state: Mapping[str, Array]) -> StreamEvaluator:
    split = state["split"] if len(state["split"]) else None
    cut = None
    if str(state["dtype"]):
        dtype = np.dtype(str(state["dtype"]))
        cut = Cells(dtype, int(state["bits"]), split, int(state["base"]), int(state["shift"]))
    uniform = int(state["uniform"])
    assert uniform or cut is not None
    evaluator = StreamEvaluator(uniform or cut, tuple(state["limits"].tolist()))  # type: ignore[arg-type]
    evaluator.nonfinite = str(state["nonfinite"])  # type: ignore[assignment]
    evaluator.binarize = str(state["binarize"]) or None  # type: ignore[assignment]
    evaluator.counts = dict(zip(COUNTS, state["counts"].tolist(), strict=True))
    evaluator.image_scores = state["image_scores"].tolist()
    evaluator.image_labels = state["image_labels"].tolist()
    if cut is not None:
        evaluator.tally = Tally(cut)
        for name in _PER_CELL:
            values = getattr(evaluator.tally, name)
            if len(values):
                values[state["cell"]] = state[name]
    return evaluator


def save_state(evaluator: StreamEvaluator, path: Path) -> None:
    """Write the state to a compressed .npz file without pickled objects."""
    with path.open("wb") as file:
        np.savez_compressed(file, **to_arrays(evaluator))  # type: ignore[arg-type]


def load_state(path: Path) -> StreamEvaluator:
    """Read what `save_state` wrote.

    Raises:
        StoreError: if the file is missing, damaged or something else.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            return from_arrays({key: file[key] for key in file.files})
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise StoreError(f"{path} cannot be read as a stream state: {error}") from error
