"""PyramidFlow as a method: training, template, prediction, ablations and what bad input gets."""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor

from bench.api import MethodError

if TYPE_CHECKING:
    from collections.abc import Iterator
from bench.plugins.methods.pyramidflow import PyramidFlow
from bench.plugins.methods.pyramidflow.augment import flips_rot90

SIZE = (32, 48)
SMALL: dict[str, Any] = {"channels": 6, "levels": 3, "stacks": 2, "kernel": 3, "epochs": 2}


@pytest.fixture
def pixels() -> Tensor:
    generator = torch.Generator().manual_seed(1)
    texture = torch.randn(1, 3, *SIZE, generator=generator)
    return texture + 0.1 * torch.randn(5, 3, *SIZE, generator=generator)


@pytest.fixture
def fitted(pixels: Tensor, make_run: Any, make_images: Any) -> Any:
    """`fitted(**fields)`: a small method, trained on five images."""

    def build(**fields: Any) -> PyramidFlow:
        method = PyramidFlow(**{**SMALL, **fields})
        run = make_run(SIZE)
        method.prepare(run)
        for _ in method.fit(make_images(pixels), run):
            pass
        return method

    return build


def test_maps_have_the_size_of_the_images_and_find_a_planted_defect(
    fitted: Any, pixels: Tensor
) -> None:
    method = fitted()
    broken = pixels[:1].clone()
    broken[..., 8:14, 20:26] += 3
    normal, defect = method.predict(torch.cat([pixels[:1], broken])).maps
    assert normal.shape == SIZE
    assert defect.max() > normal.max()
    row, column = divmod(int(defect.argmax()), SIZE[1])
    assert 6 <= row < 16
    assert 18 <= column < 28


def test_an_image_is_scored_the_same_in_any_batch(fitted: Any, pixels: Tensor) -> None:
    method = fitted()
    together = method.predict(pixels).maps
    alone = torch.cat([method.predict(image[None]).maps for image in pixels])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)


def test_template_is_the_mean_of_latents_computed_one_at_a_time(
    fitted: Any, pixels: Tensor
) -> None:
    method = fitted()
    latents = [method.latents(image[None]) for image in pixels]
    for level, template in enumerate(method.template.levels()):
        mean = torch.cat([z[level] for z in latents]).double().mean(0, keepdim=True).float()
        torch.testing.assert_close(template, mean, rtol=0, atol=1e-6)


def test_memory_saving_changes_no_number(pixels: Tensor, make_run: Any, make_images: Any) -> None:
    losses, maps = [], []
    for saving in (True, False):
        method, run = PyramidFlow(**SMALL, save_memory=saving), make_run(SIZE)
        method.prepare(run)
        losses.append([epoch["loss"] for epoch in method.fit(make_images(pixels), run)])
        maps.append(method.predict(pixels).maps)
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    torch.testing.assert_close(*maps, rtol=0, atol=1e-4)


def test_same_seed_gives_the_same_maps(fitted: Any, pixels: Tensor) -> None:
    assert torch.equal(fitted().predict(pixels).maps, fitted().predict(pixels).maps)


def test_prediction_is_possible_after_every_epoch_and_does_not_change_training(
    pixels: Tensor, make_run: Any, make_images: Any
) -> None:
    ends = []
    for asks in (True, False):
        method, run = PyramidFlow(**SMALL), make_run(SIZE)
        method.prepare(run)
        maps = []
        for _ in method.fit(make_images(pixels), run):
            if asks:
                maps.append(method.predict(pixels).maps)
        ends.append(method.predict(pixels).maps)
        assert all(map.isfinite().all() for map in maps)
    assert torch.equal(*ends)


def test_template_is_computed_only_when_it_is_needed(
    pixels: Tensor, make_run: Any, make_images: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = make_images(pixels)
    shuffled = []
    original = images.batches

    def batches(size: int, **how: Any) -> Iterator[Tensor]:
        shuffled.append(how.get("shuffle", False))
        yield from original(size, **how)

    monkeypatch.setattr(images, "batches", batches)
    method, run = PyramidFlow(**SMALL), make_run(SIZE)
    method.prepare(run)
    for _ in method.fit(images, run):
        pass
    # Two training passes, and one for the template after the last epoch.
    assert shuffled == [True, True, False]


@pytest.mark.parametrize("norm", ["cvn", "svn", "none"])
def test_saved_state_loads_into_a_fresh_method(
    norm: str, fitted: Any, pixels: Tensor, make_run: Any
) -> None:
    method = fitted(volume_norm=norm)
    fresh = PyramidFlow(**SMALL, volume_norm=norm)
    fresh.prepare(make_run(SIZE))
    fresh.load_state(method.state())
    assert torch.equal(fresh.predict(pixels).maps, method.predict(pixels).maps)


def test_state_of_another_size_is_refused(fitted: Any, make_run: Any) -> None:
    other = PyramidFlow(**SMALL)
    other.prepare(make_run((32, 32)))
    with pytest.raises(MethodError, match="saved state does not fit"):
        other.load_state(fitted().state())


def test_running_means_keep_no_graph(fitted: Any) -> None:
    method = fitted(epochs=1)
    assert all(not buffer.requires_grad for buffer in method.flow.buffers())
    assert copy.deepcopy(method).flow is not method.flow


def test_resnet_stem_gives_maps_at_a_quarter_and_follows_its_images(
    fitted: Any, pixels: Tensor
) -> None:
    adapting = fitted(stem="resnet18", epochs=1)
    frozen = fitted(stem="resnet18", epochs=1, adapt_stem_norm=False)
    assert adapting.predict(pixels).maps.shape == (5, 8, 12)
    assert adapting.flow.shape.channels == 64
    assert frozen.encoder.net.net.bn1.running_mean.abs().max() == 0
    assert adapting.encoder.net.net.bn1.running_mean.abs().max() > 0
    assert not any(p.requires_grad for p in adapting.encoder.parameters())


@pytest.mark.parametrize(
    "change",
    [
        {"volume_norm": "svn"},
        {"volume_norm": "none"},
        {"fourier_loss": False},
        {"latent_template": False},
        {"pyramid_difference": False},
        {"augment": "flips_rot90"},
    ],
    ids=lambda change: "-".join(f"{k}={v}" for k, v in change.items()),
)
def test_every_switch_changes_what_is_computed(
    change: dict[str, Any], fitted: Any, pixels: Tensor
) -> None:
    usual, other = fitted().predict(pixels).maps, fitted(**change).predict(pixels).maps
    assert (usual - other).abs().max() > 1e-4


def test_without_latent_template_latents_are_compared_with_zero(
    fitted: Any, pixels: Tensor
) -> None:
    method = fitted(latent_template=False)
    assert all(not level.any() for level in method.template.levels())
    latents = method.latents(pixels[:2])
    both = method.loss([torch.cat([z[:1], torch.zeros_like(z[:1])]) for z in latents])
    pair = fitted().loss([torch.cat([z[:1], torch.zeros_like(z[:1])]) for z in latents])
    # Two images against zero, one of them zero itself, is half of their difference.
    assert both.item() == pytest.approx(pair.item() / 2, rel=1e-5)


@pytest.mark.parametrize("size", [(30, 48), (32, 50)])
def test_a_size_that_the_pyramid_cannot_divide_names_the_nearest(
    size: tuple[int, int], make_run: Any
) -> None:
    with pytest.raises(MethodError, match=r"32 x 48, or set levels to at most 2"):
        PyramidFlow(**SMALL).prepare(make_run(size))


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("volume_norm", "cnv", "did you mean 'cvn'"),
        ("augment", "flip", "did you mean 'flips_rot90'|known: flips_rot90, none"),
        ("kernel", 4, "take 3 or 5"),
        ("batch", 1, "at least 2"),
        ("levels", 1, "at least 2"),
        ("channels", 2, "at least 3"),
        ("epochs", 0, "at least 1"),
        ("lr", -1.0, "must be above 0"),
        ("clip", 0.0, "must be above 0"),
        ("beta1", 1.0, r"not in \[0, 1\)"),
        ("weight_decay", -1e-5, "is below 0"),
    ],
)
def test_a_field_that_cannot_be_used_names_the_choices(
    field: str, value: object, message: str, make_run: Any
) -> None:
    with pytest.raises(MethodError, match=message):
        PyramidFlow(**{**SMALL, field: value}).prepare(make_run(SIZE))


def test_too_few_images_for_a_batch_are_refused_before_training(
    pixels: Tensor, make_run: Any, make_images: Any
) -> None:
    method, run = PyramidFlow(**{**SMALL, "batch": 8}), make_run(SIZE)
    method.prepare(run)
    with pytest.raises(MethodError, match=r"5 training images make no batch of 8.*2 and 5"):
        next(method.fit(make_images(pixels), run))


@pytest.mark.parametrize("saving", [True, False])
def test_a_loss_that_is_not_finite_names_block_and_step(
    saving: bool, pixels: Tensor, make_run: Any, make_images: Any
) -> None:
    method, run = PyramidFlow(**SMALL, save_memory=saving), make_run(SIZE)
    method.prepare(run)
    epochs = method.fit(make_images(pixels), run)
    next(epochs)
    with torch.no_grad():
        method.flow.chain()[4].last.fill_(float("nan"))
    with pytest.raises(
        MethodError, match=r"loss nan in epoch 2, step 3, first at block 4 of 6 \(Up"
    ):
        next(epochs)


@pytest.mark.parametrize("lag", [0, 1])
@pytest.mark.parametrize("bad", ["loss", "gradient"])
def test_a_bad_step_is_named_and_leaves_the_parameters_also_one_step_later(
    bad: str, lag: int, pixels: Tensor, make_run: Any, make_images: Any
) -> None:
    method, run = PyramidFlow(**SMALL), make_run(SIZE)
    method.prepare(run)
    method._readings.lag = lag  # 1 is that of a GPU
    optimiser = method.optimiser()
    method.training_mode(True)
    for step in range(3):
        method.step(pixels[step : step + 2], optimiser, f"step {step}")
    before = [parameter.clone() for parameter in method.flow.parameters()]
    good, broken = pixels[:2], pixels[2:4].clone()
    if bad == "loss":
        broken[:] = math.inf
        message = "loss nan in step 3, first at the features"
    else:
        method.flow.chain()[2].last.register_hook(lambda grad: grad * math.nan)
        message = r"gradient norm nan in step 3, first at block 2 \(gradient\)"
    if lag:
        method.step(broken, optimiser, "step 3")
    with pytest.raises(MethodError, match=message):
        method.step(good if lag else broken, optimiser, f"step {3 + lag}")
    assert all(map(torch.equal, method.flow.parameters(), before))


def test_an_image_that_is_not_finite_is_named_as_the_cause(
    pixels: Tensor, make_run: Any, make_images: Any
) -> None:
    method, run = PyramidFlow(**SMALL), make_run(SIZE)
    method.prepare(run)
    pixels[:] = float("inf")
    with pytest.raises(MethodError, match="the features, before block 0"):
        next(method.fit(make_images(pixels), run))


def test_augmentation_moves_pixels_and_keeps_them_all() -> None:
    image, generator = torch.arange(12.0).view(1, 3, 4), torch.Generator().manual_seed(0)
    drawn = [flips_rot90(image, generator) for _ in range(30)]
    assert all(turned.shape == image.shape for turned in drawn)
    assert all(torch.equal(turned.flatten().sort().values, image.flatten()) for turned in drawn)
    assert len({tuple(turned.flatten().tolist()) for turned in drawn}) == 4


def test_augmentation_of_a_square_reaches_all_eight_positions() -> None:
    image, generator = torch.arange(9.0).view(1, 3, 3), torch.Generator().manual_seed(0)
    drawn = [flips_rot90(image, generator) for _ in range(150)]
    assert len({tuple(turned.flatten().tolist()) for turned in drawn}) == 8
