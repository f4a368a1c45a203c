"""Good and bad images cannot be told apart by what has nothing to do with the defect."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score

from bench.plugins.datasets.synthetic.listing import Settings
from bench.plugins.datasets.synthetic.picture import SCENES, make_picture


def file_size(pixels: np.ndarray) -> int:
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "png", compress_level=3)
    return data.tell()


@pytest.mark.slow
@pytest.mark.parametrize("category", SCENES)
def test_trivial_cues_do_not_tell_good_from_bad(category: str) -> None:
    keys = Settings(seed=1, size=64, train=1, good=100, bad=100).keys(category)[1:]
    images = [make_picture(key).pixels for key in keys]
    labels = [key.severity is not None for key in keys]
    cues = {
        "file size": [file_size(image) for image in images],
        "mean": [image.mean() for image in images],
        "contrast": [image.std() for image in images],
        "median": [np.median(image) for image in images],
        "noise": [np.abs(np.diff(image.astype(float), axis=0)).mean() for image in images],
    }
    for name, cue in cues.items():
        auroc = roc_auc_score(labels, cue)
        assert max(auroc, 1 - auroc) <= 0.65, f"{name}: {auroc:.3f}"


def test_the_noise_outside_the_mask_is_that_of_good_images() -> None:
    """The mean absolute step between neighbours in a corner, where the capsule never lies."""
    keys = Settings(seed=2, size=64, train=1, good=8, bad=8).keys("capsule")[1:]
    steps: dict[bool, list[float]] = {False: [], True: []}
    for key in keys:
        picture = make_picture(key)
        corner = picture.pixels[:12, :12].astype(float)
        if picture.mask is None or not picture.mask[:12, :12].any():
            steps[key.severity is not None].append(float(np.abs(np.diff(corner, axis=1)).mean()))
    assert np.mean(steps[True]) == pytest.approx(np.mean(steps[False]), rel=0.15)


@pytest.mark.parametrize("category", ["weave", "brushed", "stone"])
def test_defects_of_a_texture_lie_anywhere(category: str) -> None:
    keys = [k for k in Settings(seed=3, size=64, bad=40).keys(category) if k.severity]
    centres = []
    for key in keys:
        rows, columns = np.nonzero(make_picture(key).mask)
        centres.append((rows.mean() / 64, columns.mean() / 64))
    spread = np.asarray(centres)
    assert np.all(np.abs(spread.mean(0) - 0.5) < 0.15)
    assert np.all(spread.std(0) > 0.15)
