"""What the author of a method reads where it breaks: one line, and frames of the method alone."""

from __future__ import annotations

import math
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest
import torch

from bench.api import Method, MethodError, Prediction
from bench.plugins import methods
from bench.run.plugin_errors import own_frames, told
from bench.run.plugin_test import check_method
from bench.run.predicting import require_prediction
from bench.run.training import epochs_of
from bench.settings.config import load_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

METHOD = '''"""For a test."""
from dataclasses import dataclass

import torch

from bench.api import Method, Prediction


@dataclass
class Mine(Method):
    power: float = 1.0
    broken: bool = False

    def fit(self, train, run):
        self.mean = sum(x.sum(0) for x in train.batches(4)) / len(train)
        {fit}

    def predict(self, images):
        maps = (images - self.mean).abs().mean(1) ** self.power
        {predict}
'''


class Says(Method):
    """Returns from `fit` what it is told."""

    def __init__(self, fitted: Any) -> None:
        self.fitted = fitted

    def fit(self, train: Any, run: Any) -> Iterator[Mapping[str, float]]:
        found: Iterator[Mapping[str, float]] = self.fitted
        return found

    def predict(self, images: torch.Tensor) -> Prediction:
        raise NotImplementedError


Train: Any = None
NUMBERS = count()
"""A module of one name is imported once in a process."""


@pytest.mark.parametrize(
    ("fitted", "message"),
    [
        (None, "Says: fit returned None; it must `yield {}` after each epoch"),
        ({"loss": 1.0}, "Says: fit returned a dict"),
        (iter([1.0]), "Says: fit yielded a float; yield the figures of the epoch"),
    ],
)
def test_what_fit_gives_instead_of_epochs_is_named(fitted: Any, message: str) -> None:
    with pytest.raises(MethodError) as error:
        list(epochs_of(Says(fitted), Train, Train))
    assert str(error.value).startswith(message)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda x: x, "Says: predict returned a torch.Tensor; return Prediction(maps, scores)"),
        (lambda _: None, "Says: predict returned None; return"),
        (lambda x: Prediction(x.numpy()), "Says: predict gave maps as a numpy.ndarray; give a"),
        (lambda x: Prediction(x, x.tolist()), "Says: predict gave scores as a list; give a"),
    ],
)
def test_what_is_no_prediction_of_tensors_is_named(make: Callable[..., Any], message: str) -> None:
    with pytest.raises(MethodError) as error:
        require_prediction(Says(None), make(torch.zeros(2, 4, 4)))
    assert str(error.value).startswith(message)


def test_an_error_is_one_line_and_the_frames_of_the_plugin_alone(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("import json\n\ndef go():\n    json.loads('{')\n", encoding="utf-8")
    space: dict[str, Any] = {}
    exec(compile(file.read_text(encoding="utf-8"), str(file), "exec"), space)
    with pytest.raises(MethodError) as error, told("mine", [file]):
        space["go"]()
    first, *frames = str(error.value).splitlines()
    assert first.startswith("mine: JSONDecodeError: Expecting property name")
    assert frames == [f"  {file}:4 in go: json.loads('{{')"]
    assert own_frames(ValueError("never raised"), [file]) == ""


@pytest.fixture
def check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """`check("yield {}", "return ...", power=2)`: the problems of such a method."""
    (tmp_path / "bench.toml").touch()
    (tmp_path / "methods").mkdir()
    monkeypatch.setenv("BENCH_PROJECT", str(tmp_path))
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    # The folder of the project that this process first imported a method from stays otherwise.
    monkeypatch.setattr(methods, "__path__", [str(tmp_path / "methods")])

    def call(fit: str, predict: str, seconds: float = math.inf, **overrides: object) -> list[str]:
        text = METHOD.format(fit=fit, predict=predict)
        name = f"mine_{next(NUMBERS)}"
        (tmp_path / "methods" / f"{name}.py").write_text(text, encoding="utf-8")
        return check_method(load_settings(tmp_path, "quick"), name, print, overrides, seconds)

    return call


def test_rounding_of_the_range_is_no_dependence_on_the_batch(check: Callable[..., Any]) -> None:
    noise = "maps = maps + maps.max() * {share} * len(images)"
    fine = check("yield {}", f"{noise.format(share='2e-6')}\n        return Prediction(maps)")
    assert fine == []


def test_a_dependence_is_told_with_difference_range_and_tolerance(
    check: Callable[..., Any],
) -> None:
    (problem,) = check("yield {}", "return Prediction(maps + 0.01 * len(images))")
    assert problem.startswith("a map must not depend on the other images of its batch (difference")
    assert ", range " in problem
    assert ", tolerance " in problem


def test_a_finish_that_needs_the_whole_test_set_must_say_so(check: Callable[..., Any]) -> None:
    divide = "return Prediction(maps)\n\n    def finish(self, raw):\n        maps = raw.maps"
    (problem,) = check("yield {}", f"{divide}\n        return Prediction(maps / maps.max())")
    assert problem.startswith("finish lets one image change another: set is_transductive (diff")
    said = "\n\n    is_transductive = True"
    fine = check("yield {}", f"{divide}\n        return Prediction(maps / maps.max()){said}")
    assert fine == []


def test_options_reach_the_method(check: Callable[..., Any]) -> None:
    broken = "if self.broken: raise ValueError('as told')\n        return Prediction(maps)"
    with pytest.raises(MethodError, match=r"ValueError: as told\n  .*/mine_\d+.py:\d+ in predict"):
        check("yield {}", broken, broken=True)


def test_an_endless_training_ends_with_the_epoch_that_passes_the_limit(
    check: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert check("while True: yield {}", "return Prediction(maps)", seconds=0.0) == []
    said = capsys.readouterr().out
    assert "trains twice, each to the epoch that passes 0 s" in said
    assert "ended after 1 epoch of training, 0 s; --seconds sets another limit" in said


def test_both_trainings_have_as_many_epochs_as_the_first_had_time_for(
    check: Callable[..., Any],
) -> None:
    fit = "for i in range(10**9): self.rounds = torch.tensor(1.0 + i); yield {}"
    assert check(fit, "return Prediction(maps * self.rounds)", seconds=0.2) == []


def test_a_training_within_the_limit_runs_to_its_end(
    check: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    fit = "yield {}\n        self.gain = torch.tensor(2.0)"
    assert check(fit, "return Prediction(maps * self.gain)", seconds=1e6) == []
    assert "ended after" not in capsys.readouterr().out
