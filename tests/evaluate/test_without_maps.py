"""Image metrics of methods that give scores and no maps."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from bench.errors import ConfigError, DataError
from bench.evaluate import evaluate
from bench.evaluate.result import NO_MAPS

LABELS = np.array([0, 0, 1, 1, 0, 1])
SCORES = np.array([0.1, 0.4, 0.35, 0.8, 0.4, 0.9])


def test_image_metrics_are_those_of_scikit_learn() -> None:
    found = evaluate(None, None, LABELS, SCORES)
    assert found.values["image_auroc"] == pytest.approx(roc_auc_score(LABELS, SCORES))
    assert found.values["image_ap"] == pytest.approx(average_precision_score(LABELS, SCORES))


def test_image_metrics_are_those_beside_maps() -> None:
    maps = np.random.default_rng(0).random((6, 8, 8))
    masks = [np.eye(8, dtype=bool) if label else None for label in LABELS]
    alone, beside = evaluate(None, None, LABELS, SCORES), evaluate(maps, masks, LABELS, SCORES)
    image_level = [name for name in beside.values if name.startswith("image")]
    assert {n: alone.values[n] for n in image_level} == {n: beside.values[n] for n in image_level}
    assert set(alone.values) == set(beside.values)


def test_every_other_metric_says_why_it_is_undefined() -> None:
    found = evaluate(None, None, LABELS, SCORES, published=["aupro_cflow"])
    others = {name for name in found.values if not name.startswith("image")}
    assert {found.values[name] for name in others} == {None}
    assert found.undefined == dict.fromkeys(others, NO_MAPS)
    assert found.published == {"aupro_cflow": None}
    assert found.counts == {"n_test": 6, "n_normal": 3, "n_anomalous": 3}


@pytest.mark.parametrize(
    ("labels", "scores", "message"),
    [
        (LABELS, SCORES[:5], "6 images need"),
        (LABELS, np.where(SCORES > 0.8, np.nan, SCORES), "NaN among"),
        (None, SCORES, "no labels were given"),
        (np.array([0, 2]), np.array([0.1, 0.2]), "values besides 0 and 1"),
        (np.array([]), np.array([]), "at least one image"),
    ],
)
def test_bad_input_is_named(labels: object, scores: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        evaluate(None, None, labels, scores)


def test_masks_without_maps_and_unknown_protocols_are_refused() -> None:
    with pytest.raises(DataError, match="masks were given without maps"):
        evaluate(None, [None] * 6, LABELS, SCORES)
    with pytest.raises(ConfigError, match="unknown published metric 'aupro_clfow'"):
        evaluate(None, None, LABELS, SCORES, published=["aupro_clfow"])


def test_one_class_alone_leaves_the_image_metrics_undefined() -> None:
    found = evaluate(None, None, np.zeros(3, int), SCORES[:3])
    assert found.values["image_auroc"] is None
    assert found.undefined["image_auroc"] == "no anomalous image in the test set"
