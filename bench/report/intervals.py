"""95 % intervals: over the test images from stored image scores, or over seeds."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import numpy as np

from bench.npz import DAMAGED
from bench.report import quantities as q
from bench.report.significance import image_score, resampled_scores

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from bench.row import Row

RESAMPLES = 2000

IMAGES = (
    f"[low, high]: 95 % interval, {RESAMPLES} bootstrap samples of the test images; "
    "covers their choice, not the seed"
)
SEEDS = "[low, high]: 95 % t interval over seeds; covers the seed, not the choice of test images"


class NoInterval(Exception):  # noqa: N818 -- an answer to a question, not a failure
    """Why there is none."""


def image_samples(rows: Sequence[Row], metric: str, artifacts: Path) -> NDArray[np.float64]:
    """(RESAMPLES,) bootstrap values of one category's image metric, averaged over its rows.

    Every row, of any method and seed, is scored on the same drawn images.

    Args:
        rows: of one category, one for each seed.
        metric: of `IMAGE_METRICS`.
        artifacts: folder with `<cell>/scores.npz`.

    Raises:
        NoInterval: a file that is absent, unreadable or not of its row; with the reason.
    """
    drawn = []
    for row in rows:
        scores, labels = _stored(artifacts / row.cell / "scores.npz")
        value = q.quantity(row, metric)
        # A file of another run than the row would give an interval around another number.
        if value is None or not abs(image_score(metric, scores, labels) - value) < 1e-4:
            raise NoInterval(f"the {q.label(metric)} of scores.npz is not the row's")
        seed = zlib.crc32(f"{row.dataset}/{row.category}".encode())
        drawn.append(resampled_scores(metric, scores, labels, RESAMPLES, seed))
    return np.asarray(np.mean(drawn, axis=0))


def _stored(file: Path) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Scores and labels, in the order of the images' names."""
    try:
        with file.open("rb") as stream, np.load(stream) as stored:
            scores = stored["scores"].astype(np.float64)
            labels = stored["labels"].astype(bool)
            order = np.argsort(stored["names"], kind="stable")
    except FileNotFoundError as error:
        raise NoInterval("scores.npz is not there") from error
    except DAMAGED as error:
        raise NoInterval(f"scores.npz cannot be read ({error})") from error
    if not len(scores) == len(labels) == len(order):
        raise NoInterval("scores.npz has scores, labels and names of different lengths")
    return scores[order], labels[order]
