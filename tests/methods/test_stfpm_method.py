"""STFPM as a whole: maps, the student that is kept, what it may see, saved state, bad input."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, nn

from bench.api import MethodError
from bench.files.held_out import published_split
from bench.plugins.methods.stfpm import STFPM

if TYPE_CHECKING:
    from collections.abc import Callable

SMALL: dict[str, Any] = {"backbone": "test_resnet", "epochs": 2, "batch": 4, "lr": 0.1}

Fit = Any
"""`fit(train, **fields)`: the fitted method, and the figures of its epochs."""


def pixels(count: int, height: int = 64, width: int = 64, seed: int = 0) -> Tensor:
    """Images that share a pattern."""
    generator = torch.Generator().manual_seed(seed)
    shared = torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(99))
    return shared + 0.3 * torch.randn(count, 3, height, width, generator=generator)


@pytest.fixture
def fit(make_images: Any, make_run: Any) -> Callable[..., tuple[Any, list[dict[str, float]]]]:
    def fit(train: Tensor, seed: int = 0, **fields: Any) -> tuple[Any, list[dict[str, float]]]:
        run = make_run((train.shape[-2], train.shape[-1]), seed=seed)
        method = STFPM(**{**SMALL, **fields})
        method.prepare(run)
        return method, list(method.fit(make_images(train), run))

    return fit


def student(method: Any) -> dict[str, Tensor]:
    state = method.state()
    return {name: value for name, value in state.items() if name.startswith("student.")}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(value, other[name]) for name, value in one.items())


def by_the_definition(method: Any, images: Tensor, side: int) -> Tensor:
    """Products of 2 - 2 cos, level by level, in float64."""
    with torch.no_grad():
        pairs = zip(method.teacher(images), method.student(images), strict=True)
        product = torch.ones(len(images), side, side, dtype=torch.float64)
        for teacher, own in pairs:
            cosine = nn.functional.cosine_similarity(teacher.double(), own.double(), dim=1)
            distance = (2 - 2 * cosine)[:, None]
            product *= nn.functional.interpolate(distance, (side, side), mode="bilinear")[:, 0]
    return product


@pytest.mark.parametrize("grid", [0, 20])
def test_maps_equal_the_definition(grid: int, fit: Fit) -> None:
    method, _ = fit(pixels(6), grid=grid, epochs=1)
    test = pixels(3, seed=1)
    wanted = by_the_definition(method, test, grid or 64)
    found = method.raw(test).double()
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-6 * float(wanted.max()))
    if not grid:
        torch.testing.assert_close(method.predict(test).maps.double(), found)


def test_the_student_is_drawn_as_torchvision_draws(make_run: Any) -> None:
    method = STFPM(**SMALL)
    method.prepare(make_run())
    for module in method.student.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert bool((module.weight == 1).all())
            assert bool((module.bias == 0).all())
        elif isinstance(module, nn.Conv2d) and module.weight.numel() > 10_000:
            fan_out = module.out_channels * math.prod(module.kernel_size)
            assert float(module.weight.detach().std()) == pytest.approx(
                math.sqrt(2 / fan_out), rel=0.03
            )


def test_the_same_seed_gives_the_same_student_and_another_seed_another(fit: Fit) -> None:
    train = pixels(6)
    assert same(student(fit(train)[0]), student(fit(train)[0]))
    assert not same(student(fit(train)[0]), student(fit(train, seed=1)[0]))


def test_the_student_with_the_smallest_validation_error_is_kept(fit: Fit) -> None:
    # A rate at which the last epoch is not the best one.
    train, rate = pixels(8), 1.0
    best, history = fit(train, epochs=4, lr=rate)
    errors = [figures["validation_error"] for figures in history]
    index = errors.index(min(errors))
    assert index < 3
    stopped, _ = fit(train, epochs=index + 1, lr=rate, keep="last")
    last, _ = fit(train, epochs=4, lr=rate, keep="last")
    assert same(student(best), student(stopped))
    assert not same(student(best), student(last))


@pytest.mark.parametrize("split_seed", [0, 5])
def test_the_student_does_not_see_the_validation_images(split_seed: int, fit: Fit) -> None:
    train = pixels(10)
    rest, held = published_split(10, STFPM.validation, split_seed, "validation")
    one, _ = fit(train, keep="last", split_seed=split_seed)
    train[held] += 1
    assert same(student(one), student(fit(train, keep="last", split_seed=split_seed)[0]))
    train[rest] += 1
    assert not same(student(one), student(fit(train, keep="last", split_seed=split_seed)[0]))


def test_the_split_can_come_from_the_runs_seed(fit: Fit) -> None:
    train = pixels(10)
    one, _ = fit(train, keep="last", split_seed=-1)
    assert not same(student(one), student(fit(train, keep="last", split_seed=0)[0]))


def test_the_scale_of_the_loss_acts_as_the_rate(fit: Fit) -> None:
    train = pixels(6)
    one, _ = fit(train, loss_scale=0.5, lr=0.2, weight_decay=0.0, keep="last")
    other, _ = fit(train, loss_scale=1.0, lr=0.1, weight_decay=0.0, keep="last")
    for name, value in student(one).items():
        torch.testing.assert_close(value, student(other)[name], rtol=1e-4, atol=1e-5)


def test_features_kept_in_a_file_give_the_same_student(fit: Fit) -> None:
    train = pixels(6)
    assert same(student(fit(train)[0]), student(fit(train, features_mb=0)[0]))


def test_the_loss_falls(fit: Fit) -> None:
    _, history = fit(pixels(8), epochs=4, lr=1.0)
    assert history[-1]["loss"] < 0.7 * history[0]["loss"]


def test_a_planted_defect_is_found(fit: Fit) -> None:
    method, _ = fit(pixels(16), epochs=8)
    clean = pixels(1, seed=1)
    marked = clean.clone()
    marked[:, :, 36:52, 8:24] = -3
    good, bad = method.predict(clean), method.predict(marked)
    assert bad.scores[0] > good.scores[0]
    row, column = divmod(int(bad.maps[0].argmax()), 64)
    assert 30 <= row < 58
    assert 2 <= column < 30


def test_an_images_map_does_not_depend_on_its_batch(fit: Fit) -> None:
    method, _ = fit(pixels(6))
    test = pixels(4, seed=1)
    together = method.predict(test)
    for index in range(4):
        alone = method.predict(test[index : index + 1])
        torch.testing.assert_close(alone.maps[0], together.maps[index], rtol=1e-4, atol=1e-6)


def test_images_need_not_be_square(fit: Fit) -> None:
    method, _ = fit(pixels(5, 64, 96), epochs=1)
    prediction = method.predict(pixels(2, 64, 96))
    assert prediction.maps.shape == (2, 64, 96)
    assert torch.equal(prediction.scores, prediction.maps.flatten(1).amax(1))


def test_a_saved_state_predicts_the_same(fit: Fit, make_run: Any) -> None:
    method, _ = fit(pixels(6), seed=3)
    test = pixels(2, seed=1)
    other = STFPM(**SMALL)
    other.prepare(make_run(seed=4))
    other.load_state({name: value.clone() for name, value in method.state().items()})
    assert torch.equal(other.predict(test).maps, method.predict(test).maps)


def test_a_state_of_another_method_is_refused(make_run: Any) -> None:
    method = STFPM(**SMALL)
    method.prepare(make_run())
    with pytest.raises(MethodError, match="no teacher and no student"):
        method.load_state({"mean": torch.zeros(1)})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"keep": "first"}, "keep='first'; known: best, last"),
        ({"epochs": 0}, "epochs=0 must be above 0"),
        ({"momentum": -0.1}, "momentum=-0.1 must not be below 0"),
        ({"validation": 0.0}, "must be a share between 0 and 1"),
    ],
)
def test_settings_that_cannot_work_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(MethodError, match=message):
        STFPM(**fields)


def test_one_position_for_a_batch_of_one_is_refused(fit: Fit) -> None:
    with pytest.raises(MethodError, match="one image of 16x16 pixels has one position"):
        fit(pixels(5, 16, 16), batch=1)


def test_a_loss_that_is_not_finite_is_named(fit: Fit) -> None:
    with pytest.raises(MethodError, match="in epoch 1; choose a smaller lr"):
        fit(pixels(6), lr=1e30)
