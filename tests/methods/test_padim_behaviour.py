"""PaDiM as a whole: forms of the covariance, batches, sizes, saved state, and bad settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor

from bench.api import MethodError
from bench.plugins.methods.padim import PaDiM

if TYPE_CHECKING:
    from collections.abc import Callable

SMALL: dict[str, Any] = {"backbone": "resnet10t", "dimensions": 12}


def pixels(count: int, height: int = 64, width: int = 64, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    shared = torch.randn(1, 3, height, width, generator=generator)
    return shared + 0.3 * torch.randn(count, 3, height, width, generator=generator)


@pytest.fixture
def fit(make_images: Any, make_run: Any) -> Callable[..., PaDiM]:
    def fit(train: Tensor, seed: int = 0, **fields: Any) -> PaDiM:
        run = make_run((train.shape[-2], train.shape[-1]), seed=seed)
        method = PaDiM(**{**SMALL, **fields})
        method.prepare(run)
        assert list(method.fit(make_images(train), run)) == [{}]
        return method

    return fit


def by_the_definition(method: PaDiM, train: Tensor, test: Tensor) -> Tensor:
    """Distances from a covariance, its inverse and a loop over positions, in float64."""
    kept = method.index.sort().values

    def embed(images: Tensor) -> Tensor:
        fine, *coarse = method.extractor(images)
        size = fine.shape[-2:]
        up = [torch.nn.functional.interpolate(c, size=size, mode="nearest") for c in coarse]
        return torch.cat([fine, *up], 1)[:, kept].double()

    known, new = embed(train), embed(test)
    result = torch.empty(len(new), *new.shape[-2:], dtype=torch.float64)
    for y in range(new.shape[2]):
        for x in range(new.shape[3]):
            covariance = torch.cov(known[:, :, y, x].T) + method.epsilon * torch.eye(len(kept))
            delta = new[:, :, y, x] - known[:, :, y, x].mean(0)
            squares = ((delta @ torch.linalg.inv(covariance)) * delta).sum(1)
            result[:, y, x] = squares.sqrt()
    return result


@pytest.mark.parametrize("count", [2, 5, 12, 13, 30])
def test_distances_equal_the_definition(count: int, fit: Callable[..., PaDiM]) -> None:
    train, test = pixels(count), pixels(3, seed=1)
    method = fit(train)
    is_low_rank = method.factor.shape[-1] < 12
    assert is_low_rank == (count <= 12)
    wanted = by_the_definition(method, train, test)
    torch.testing.assert_close(method.raw(test).double(), wanted, rtol=1e-4, atol=0)


@pytest.mark.parametrize("count", [3, 12])
def test_both_forms_agree(count: int, fit: Callable[..., PaDiM]) -> None:
    train, test = pixels(count), pixels(3, seed=1)
    low, full = fit(train, covariance="lowrank"), fit(train, covariance="full")
    torch.testing.assert_close(low.raw(test), full.raw(test), rtol=1e-4, atol=0)


def test_the_low_rank_state_is_at_most_n_over_d_of_the_full_one(
    fit: Callable[..., PaDiM],
) -> None:
    low, full = fit(pixels(4)), fit(pixels(4), covariance="full")
    low_numbers = low.factor.numel() + low.mean.numel()
    assert low_numbers <= 4 / 12 * (full.factor.numel() + full.mean.numel())


@pytest.mark.parametrize("count", [10, 20])
def test_the_training_batch_changes_nothing(count: int, fit: Callable[..., PaDiM]) -> None:
    test = pixels(2, seed=1)
    one, other = fit(pixels(count), batch=32), fit(pixels(count), batch=3)
    torch.testing.assert_close(one.raw(test), other.raw(test), rtol=1e-4, atol=1e-4)


def test_an_images_map_does_not_depend_on_its_batch(fit: Callable[..., PaDiM]) -> None:
    test = pixels(5, seed=1)
    method = fit(pixels(8))
    together = method.predict(test)
    assert together.scores is not None
    for i in range(5):
        alone = method.predict(test[i : i + 1])
        assert alone.scores is not None
        torch.testing.assert_close(alone.maps[0], together.maps[i], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(alone.scores[0], together.scores[i], rtol=1e-5, atol=1e-5)


def test_images_need_not_be_square(fit: Callable[..., PaDiM]) -> None:
    method = fit(pixels(4, 64, 96))
    prediction = method.predict(pixels(2, 64, 96, seed=1))
    assert prediction.maps.shape == (2, 64, 96)
    assert method.raw(pixels(2, 64, 96, seed=1)).shape == (2, 16, 24)


def test_the_score_is_the_maximum_of_the_map(fit: Callable[..., PaDiM]) -> None:
    prediction = fit(pixels(4)).predict(pixels(3, seed=1))
    assert prediction.scores is not None
    assert torch.equal(prediction.scores, prediction.maps.flatten(1).max(1).values)


def test_a_planted_defect_is_found(fit: Callable[..., PaDiM]) -> None:
    train = pixels(20)
    clean = pixels(21)[20:]
    marked = clean.clone()
    marked[:, :, 40:52, 8:20] += 4
    method = fit(train)
    good, bad = method.predict(clean), method.predict(marked)
    assert good.scores is not None
    assert bad.scores is not None
    assert bad.scores[0] > good.scores[0]
    row, column = divmod(int(bad.maps[0].argmax()), 64)
    assert 32 <= row < 60
    assert 0 <= column < 28


@pytest.mark.parametrize("count", [6, 20])
def test_a_saved_state_predicts_the_same(
    count: int, fit: Callable[..., PaDiM], make_run: Any
) -> None:
    test = pixels(2, seed=1)
    method = fit(pixels(count), seed=3)
    state = {name: tensor.clone() for name, tensor in method.state().items()}
    other = PaDiM(**SMALL)
    other.prepare(make_run(seed=4))
    other.load_state(state)
    assert torch.equal(other.predict(test).maps, method.predict(test).maps)
    assert set(other.state()) == set(state)


def test_a_state_of_another_kind_is_refused(fit: Callable[..., PaDiM], make_run: Any) -> None:
    method = fit(pixels(4))
    other = PaDiM(backbone="resnet10t", dimensions=20)
    other.prepare(make_run())
    with pytest.raises(MethodError, match="keeps 12 dimensions, the settings say 20"):
        other.load_state(method.state())
    with pytest.raises(MethodError, match="no factor, mean; not a PaDiM model"):
        other.load_state({"index": method.index})


def test_channels_can_be_drawn_from_the_runs_seed(make_run: Any) -> None:
    def drawn(seed: int, index_seed: int) -> list[int]:
        method = PaDiM(**SMALL, index_seed=index_seed)
        method.prepare(make_run(seed=seed))
        return [int(channel) for channel in method.index]

    assert drawn(0, 1024) == drawn(1, 1024)
    assert drawn(0, -1) != drawn(1, -1)
    assert drawn(0, -1) == drawn(0, -1)
    assert len(set(drawn(0, -1))) == 12


def test_layers_whose_maps_do_not_tile_are_refused(fit: Callable[..., PaDiM]) -> None:
    with pytest.raises(MethodError, match="18x18, 9x9, 5x5 do not tile each other"):
        fit(pixels(4, 72, 72))


def test_an_image_of_another_size_than_in_training_is_refused(fit: Callable[..., PaDiM]) -> None:
    method = fit(pixels(4))
    with pytest.raises(MethodError, match="24x24 grid, but the model was fitted on 16x16"):
        method.predict(pixels(1, 96, 96))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"dimensions": 449}, "have 448 channels; choose 1 to 448"),
        ({"dimensions": 0}, "choose 1 to 448"),
        ({"epsilon": 0.0}, "it must be positive"),
        ({"covariance": "lowrank", "dimensions": 3}, "at most as many images as dimensions"),
    ],
)
def test_settings_that_cannot_work_are_refused(
    fields: dict[str, Any], message: str, fit: Callable[..., PaDiM]
) -> None:
    with pytest.raises(MethodError, match=message):
        fit(pixels(4), **fields)


def test_images_with_nan_are_named(fit: Callable[..., PaDiM]) -> None:
    train = pixels(5)
    train[4, 0, 3, 3] = float("nan")
    with pytest.raises(MethodError, match="training images 3 to 4 are not finite"):
        fit(train, batch=3)


def test_smoothing_settings_that_do_not_exist_are_refused(fit: Callable[..., PaDiM]) -> None:
    with pytest.raises(MethodError, match=r"sigma = -1\.0 is negative"):
        fit(pixels(3), sigma=-1.0).predict(pixels(1))
    with pytest.raises(MethodError, match="choose edge or mirror"):
        fit(pixels(3), smoothing_border="wrap").predict(pixels(1))
