"""Image scores of a cell, as they lie beside its row. No torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bench.errors import StoreError
from bench.npz import DAMAGED

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

FILE = "scores.npz"


def load_image_scores(folder: Path) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Scores and labels of the test images, in the order of the images' names.

    Args:
        folder: artifacts of the cell.

    Raises:
        StoreError: a file that is absent, damaged or of lists that do not fit together.
    """
    try:
        with (folder / FILE).open("rb") as stream, np.load(stream) as stored:
            scores = stored["scores"].astype(np.float64)
            labels = stored["labels"].astype(bool)
            order = np.argsort(stored["names"], kind="stable")
    except FileNotFoundError as error:
        raise StoreError(f"{FILE} is not there") from error
    except DAMAGED as error:
        raise StoreError(f"{FILE} cannot be read ({error})") from error
    if not len(scores) == len(labels) == len(order):
        raise StoreError(f"{FILE} has scores, labels and names of different lengths")
    return scores[order], labels[order]
