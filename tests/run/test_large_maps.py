"""Test sets whose maps are more than the budget: the scores of a run do not depend on it."""

from __future__ import annotations

import tempfile
from collections import namedtuple
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from PIL import Image

from bench.api import Method, MethodError, Prediction, Sample
from bench.files.tensors import ImageSet, load_masks
from bench.run.scoring import CellTest, Epochs, score, too_large
from bench.run.spool import MapSpool
from bench.settings.protocol import Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from torch import Tensor

    from bench.api import Images, Run

PROTOCOL = Protocol("native", mask_size="native")


class Brightness(Method):
    """Maps of half the size; `finish` divides, by the brightest test image if it may see it."""

    def __init__(self, transductive: bool = False, gives_maps: bool = True) -> None:
        self.transductive = transductive
        self.gives_maps = gives_maps
        self.finished: list[int] = []

    @property
    def is_transductive(self) -> bool:
        return self.transductive

    def fit(self, train: Images, run: Run) -> Iterator[Mapping[str, float]]:
        yield {}

    def predict(self, images: Tensor) -> Prediction:
        if not self.gives_maps:
            return Prediction(None, images.mean((1, 2, 3)))
        return Prediction(images[:, 0, ::2, ::2])

    def finish(self, raw: Prediction) -> Prediction:
        if raw.maps is None:
            return raw
        self.finished.append(len(raw.maps))
        return Prediction(raw.maps / (raw.maps.max() if self.transductive else 7))


@pytest.fixture
def test(tmp_path: Path) -> CellTest:
    """Seven images of 24 x 20 pixels, three of them with a bright square."""
    rng = np.random.default_rng(0)
    samples = []
    for index in range(7):
        pixels = rng.integers(0, 200, (20, 24, 3), dtype=np.uint8)
        mask = np.zeros((20, 24), np.uint8)
        if index > 3:
            mask[4 : 4 + index, 6:15] = 255
            pixels[mask > 0] += 40
        image, truth = tmp_path / f"{index}.png", tmp_path / f"{index}.mask"
        Image.fromarray(pixels).save(image)
        Image.fromarray(mask).save(truth, format="PNG")
        samples.append(Sample(image, int(index > 3), "dot", truth))
    images = ImageSet(samples, PROTOCOL, method_size=None, device=torch.device("cpu"), seed=0)
    masks = load_masks(samples, PROTOCOL, images.image_size)
    labels, names = [s.label for s in samples], [s.image.name for s in samples]
    return CellTest(samples, images, masks, labels, names)


@pytest.mark.parametrize("rule", ["max", "method"])
@pytest.mark.parametrize("transductive", [False, True])
def test_scores_and_maps_from_a_file_are_those_from_memory(
    test: CellTest, transductive: bool, rule: str
) -> None:
    protocol = replace(PROTOCOL, image_score=rule)  # type: ignore[arg-type]
    method = Brightness(transductive)
    inside = score(method, test, protocol, batch=3, epoch=1)
    assert isinstance(inside.maps, list)
    outside = score(method, replace(test, budget_mb=0.01), protocol, batch=3, epoch=1)
    assert isinstance(outside.maps, MapSpool)
    assert torch.equal(inside.scores, outside.scores)
    for ours, theirs in zip(inside.maps, outside.maps, strict=True):
        assert np.array_equal(ours, theirs)
    assert outside.evaluation.values == pytest.approx(inside.evaluation.values, abs=1e-12)
    assert outside.evaluation.counts == inside.evaluation.counts
    assert outside.kind == inside.kind == ""


def test_only_a_transductive_method_sees_the_whole_test_set_at_once(test: CellTest) -> None:
    large = replace(test, budget_mb=0.01)
    for transductive, seen in ((False, [3, 3, 1]), (True, [7])):
        method = Brightness(transductive)
        score(method, large, PROTOCOL, batch=3, epoch=1)
        assert method.finished == seen
        assert ("all predictions at once" in too_large(large, method)) == transductive


def test_image_scores_alone_need_no_file(test: CellTest) -> None:
    found = score(Brightness(gives_maps=False), replace(test, budget_mb=0.01), PROTOCOL, 3, 1)
    assert (found.maps, found.kind) == (None, "none")
    assert found.evaluation.values["image_auroc"] is not None


def test_the_file_of_an_epoch_that_is_not_shown_is_given_back(test: CellTest) -> None:
    epochs = Epochs(replace(PROTOCOL, epoch="oracle"))
    large = replace(test, budget_mb=0.01)
    for number in (1, 2):
        epochs.add(score(Brightness(), large, PROTOCOL, 3, number))
    kept = [s.epoch for s in epochs.scored if s.maps is not None]
    assert kept == [epochs.shown.epoch]


def test_a_disk_without_room_for_the_maps_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage(10**9, 0, 5 * 10**6))
    with pytest.raises(MethodError, match=r"maps of the test set takes 8 MB, but .* has 5 MB free"):
        MapSpool(8 * 10**6)


def test_maps_of_several_sizes_and_types_come_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    rng = np.random.default_rng(0)
    maps = [rng.normal(size=(3 + i, 5)).astype(t) for i, t in enumerate(("f2", "f4", "f8"))]
    spool = MapSpool(0)
    for one in maps:
        spool.append(one.T)
    assert len(spool) == 3
    for index in (2, 0, 1):
        assert np.array_equal(spool[index], maps[index].T)
        assert spool[index].dtype == maps[index].dtype
    assert not list(tmp_path.iterdir())
