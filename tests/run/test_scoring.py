"""Predictions of a test set: what is refused, what is suspect, how an epoch is chosen."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image

from bench.api import Method, MethodError, Prediction, Sample
from bench.evaluate import evaluate
from bench.files.tensors import ImageSet
from bench.report.choice.marks import marks
from bench.rows.row import DEGENERATE, NOT_FINITE, map_kind
from bench.run.artifacts import history_text
from bench.run.predicting import predict
from bench.run.scoring import Epochs, Scored, evaluated_at, suspicions
from bench.settings.protocol import PROTOCOLS
from tests.row_maker import make_row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from torch import Tensor

    from bench.api import Images, Run


class Says(Method):
    """Predicts what it is told."""

    def __init__(self, say: Callable[[Tensor], Prediction], gradients: bool = False) -> None:
        self.say = say
        self.gradients = gradients

    @property
    def needs_gradients(self) -> bool:  # type: ignore[override]
        return self.gradients

    def fit(self, train: Images, run: Run) -> Iterator[Mapping[str, float]]:
        yield {}

    def predict(self, images: Tensor) -> Prediction:
        return self.say(images)


@pytest.fixture
def three(tmp_path: Path) -> ImageSet:
    """Three images of 8 x 8 pixels."""
    rng = np.random.default_rng(0)
    for index in range(3):
        pixels = rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{index}.png")
    samples = [Sample(tmp_path / f"{index}.png", 0, "good") for index in range(3)]
    protocol = PROTOCOLS["standard"]
    return ImageSet(samples, protocol, method_size=None, device=torch.device("cpu"), seed=0)


def test_scores_alone_come_back_in_order(three: ImageSet) -> None:
    found = predict(Says(lambda x: Prediction(None, x.mean((1, 2, 3)))), three, 2)
    assert found.maps is None
    assert found.scores is not None
    assert torch.allclose(found.scores, torch.cat(list(three.batches(3))).mean((1, 2, 3)))


def test_nothing_at_all_is_refused(three: ImageSet) -> None:
    with pytest.raises(MethodError, match="neither maps nor scores"):
        predict(Says(lambda _: Prediction(None)), three, 2)


@pytest.mark.parametrize("what", ["maps", "scores"])
def test_what_some_batches_lack_is_refused(three: ImageSet, what: str) -> None:
    def say(images: Tensor) -> Prediction:
        parts: dict[str, Any] = {"maps": images[:, 0], "scores": images[:, 0, 0, 0]}
        return Prediction(**{**parts, **({what: None} if len(images) == 1 else {})})

    with pytest.raises(MethodError, match=f"{what} in 1 of 2 batches"):
        predict(Says(say), three, 2)


@pytest.mark.parametrize("what", ["maps", "scores"])
def test_what_holds_its_graph_is_refused(three: ImageSet, what: str) -> None:
    def say(images: Tensor) -> Prediction:
        grown = images.clone().requires_grad_() * 2
        maps, scores = grown[:, 0], grown[:, 0, 0, 0]
        return Prediction(
            maps if what == "maps" else maps.detach(),
            scores if what == "scores" else scores.detach(),
        )

    with pytest.raises(MethodError, match=f"{what} hold the graph"):
        predict(Says(say, gradients=True), three, 2)


@pytest.mark.parametrize("shape", [(2,), (3, 1)])
def test_scores_of_another_shape_are_refused(three: ImageSet, shape: tuple[int, ...]) -> None:
    with pytest.raises(MethodError, match="image scores of shape"):
        predict(Says(lambda _: Prediction(None, torch.zeros(shape))), three, 3)


def test_an_oracle_takes_the_best_image_auroc_where_there_are_no_maps() -> None:
    labels = np.array([0, 0, 1, 1])
    tries = [[0.1, 0.9, 0.2, 0.3], [0.1, 0.2, 0.8, 0.9], [0.1, 0.2, 0.15, 0.9]]
    scored = [
        Scored(n, evaluate(None, None, labels, np.array(s)), torch.tensor(s), None, "none")
        for n, s in enumerate(tries)
    ]
    assert max(scored, key=lambda s: s.standing).epoch == 1


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_maps_are_evaluated_on_the_device_with_the_same_numbers(device: str) -> None:
    maps = list(torch.rand(4, 30, 20, generator=torch.Generator().manual_seed(0)))
    masks = [None, np.eye(30, 20), np.ones((30, 20)), None]
    placed = evaluated_at(maps, torch.device(device))
    assert {m.device.type for m in placed} == {device}
    assert evaluate(placed, masks, [0, 1, 1, 0]) == evaluate(maps, masks, [0, 1, 1, 0])


def test_maps_are_constant_only_if_every_one_is() -> None:
    flat = torch.tensor([1.0, 2.0])[:, None, None].expand(-1, 3, 3)
    assert map_kind(flat) == "constant"
    assert map_kind([*flat.numpy(), np.eye(2)]) == ""
    assert map_kind(None) == "none"


@pytest.mark.parametrize("rule", ["last", "oracle", "oracle-per-metric"])
def test_maps_of_one_epoch_are_kept_those_of_the_epoch_that_the_row_shows(rule: Any) -> None:
    protocol = replace(PROTOCOLS["standard"], epoch=rule)
    epochs = Epochs(protocol)
    mask = np.zeros((2, 2), bool)
    mask[0, 0] = True
    best = {"last": 4, "oracle": 2, "oracle-per-metric": 2}[rule]
    for number, value in enumerate([0.3, 0.9, 0.5, 0.1], 1):
        maps = torch.tensor([[[0.6, 0.2], [0.4, 0.0]], [[value, 0.8], [0.4, 0.2]]])
        scores = torch.tensor([1.0, value + (number == 3)])
        evaluation = evaluate(list(maps.numpy()), [None, mask], [0, 1], scores.numpy())
        epochs.add(Scored(number, evaluation, scores, list(maps.numpy()), ""))
        assert [s.epoch for s in epochs.scored if s.maps is not None] == [epochs.shown.epoch]
    assert epochs.shown.epoch == best
    assert [s.kind for s in epochs.scored] == [""] * 4
    by_images = 3 if rule == "oracle-per-metric" else best
    assert epochs.image_scores is epochs.scored[by_images - 1].scores


@pytest.mark.parametrize(("value", "suspect"), [(0.0, [DEGENERATE]), (1.0, [])])
def test_equal_scores_everywhere_are_suspect_and_marked(value: float, suspect: list[str]) -> None:
    masks = [np.zeros((4, 4), np.uint8), np.eye(4, dtype=np.uint8)]
    maps = [np.zeros((4, 4), np.float32), np.eye(4, dtype=np.float32) * value]
    found = suspicions(evaluate(maps, masks, [0, 1], np.array([0.0, 1.0])))
    assert found == suspect
    assert ("≡" in marks(make_row(suspect=found))) == bool(suspect)


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_marks_the_row_and_is_null_in_json(loss: float) -> None:
    history = [{"loss": 0.5}, {"loss": loss}]
    maps = np.arange(32, dtype=np.float32).reshape(2, 4, 4)
    masks = [np.zeros((4, 4), np.uint8), np.eye(4, dtype=np.uint8)]
    found = suspicions(evaluate(maps, masks, [0, 1], np.array([0.0, 1.0])), history)
    assert found == [NOT_FINITE]
    assert "∞" in marks(make_row(suspect=found))
    assert json.loads(history_text(history)) == [{"loss": 0.5}, {"loss": None}]
    assert "NaN" not in history_text(history)
