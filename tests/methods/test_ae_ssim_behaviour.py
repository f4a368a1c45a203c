"""AE-SSIM as a whole: maps against loops, training, validation, saved state, and bad settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity
from torch import Tensor

from bench.api import IMAGENET_MEAN, IMAGENET_STD, MethodError
from bench.plugins.methods.ae_ssim import AeSsim

if TYPE_CHECKING:
    from collections.abc import Callable

SMALL: dict[str, Any] = {
    "patch": 64,
    "latent": 6,
    "width": 4,
    "epochs": 2,
    "batch": 4,
    "lr": 2e-3,
    "patches_per_epoch": 12,
    "stride": 16,
}


def pictures(count: int, height: int = 80, width: int = 80, seed: int = 0) -> Tensor:
    """Stripes with a phase and a little noise, in steps of 8 bits, ImageNet-normalised."""
    generator = torch.Generator().manual_seed(seed)
    phase = 6.3 * torch.rand(count, 1, 1, 1, generator=generator)
    stripes = 0.5 + 0.3 * torch.sin(torch.arange(float(width)) / 6 + phase)
    noise = 0.05 * torch.randn(count, 3, height, width, generator=generator)
    pixels = (255 * (stripes + noise).clamp(0, 1)).round() / 255
    mean, std = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
    return (pixels - mean.view(3, 1, 1)) / std.view(3, 1, 1)


@pytest.fixture
def fit(make_images: Any, make_run: Any) -> Callable[..., AeSsim]:
    def fit(train: Tensor, seed: int = 0, **fields: Any) -> AeSsim:
        method = AeSsim(**{**SMALL, **fields})
        method.prepare(make_run((train.shape[-2], train.shape[-1]), seed=seed))
        figures = list(method.fit(make_images(train, seed), make_run(seed=seed)))
        assert all(np.isfinite(list(epoch.values())).all() for epoch in figures)
        return method

    return fit


def bytes_of(image: Tensor) -> Any:
    mean, std = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
    pixels = image * std.view(3, 1, 1) + mean.view(3, 1, 1)
    return (255 * pixels).round().permute(1, 2, 0).numpy().astype(np.uint8)


def starts(length: int, patch: int, stride: int) -> list[int]:
    found = list(range(0, length - patch + 1, stride))
    return found if found[-1] == length - patch else [*found, length - patch]


@torch.no_grad()
def by_loops(method: AeSsim, image: Tensor) -> Any:
    """One patch at a time in NumPy, and scikit-image's SSIM."""
    pixels = bytes_of(image)
    height, width, _ = pixels.shape
    total = np.zeros(pixels.shape if method.average == "recon" else pixels.shape[:2])
    count = np.zeros(total.shape)

    def residual(x: Any, y: Any) -> Any:
        y = np.floor(255 * y).astype(np.uint8) if method.quantise else 255 * y
        x = x.astype(y.dtype)
        _, ssim = structural_similarity(  # type: ignore[no-untyped-call]
            x, y, win_size=method.window, channel_axis=-1, full=True, data_range=255
        )
        gap = np.abs(x.astype(float) - y)
        found = {
            "ssim": 1 - ssim.mean(-1),
            "l1": gap.mean(-1) / 255,
            "l2": ((gap / 255) ** 2).mean(-1),
        }
        found["ssim_l1"] = found["ssim"] + method.l1_weight * found["l1"]
        return found[method.map]

    for top in starts(height, method.patch, method.stride):
        for left in starts(width, method.patch, method.stride):
            window = (slice(top, top + method.patch), slice(left, left + method.patch))
            patch = torch.from_numpy(pixels[window]).permute(2, 0, 1)[None].float() / 255
            found = method.network(patch)[0].permute(1, 2, 0).numpy().astype(np.float32)
            total[window] += found if method.average == "recon" else residual(pixels[window], found)
            count[window] += 1
    mean = total / count
    maps = residual(pixels, mean.astype(np.float32)) if method.average == "recon" else mean
    border = np.full((height, width), method.border_weight)
    inner = slice(method.border, -method.border or None)
    border[inner, inner] = 1
    return maps * border


@pytest.mark.parametrize(
    "fields",
    [
        {"quantise": False},
        {"quantise": False, "average": "residual", "stride": 10, "border": 0},
        {"quantise": False, "map": "l1", "border": 9, "border_weight": 0.5},
        {"quantise": False, "map": "ssim_l1", "l1_weight": 3.0, "window": 7},
        {"quantise": False, "map": "l2", "average": "residual", "output": "linear"},
    ],
    ids=str,
)
def test_maps_equal_the_slow_definition(fields: dict[str, Any], fit: Callable[..., AeSsim]) -> None:
    method = fit(pictures(5), **fields)
    test = pictures(2, seed=1)
    with torch.inference_mode():
        found = method.predict(test)
    assert found.scores is not None
    assert found.maps is not None
    for image, one, score in zip(test, found.maps, found.scores, strict=True):
        np.testing.assert_allclose(one.numpy(), by_loops(method, image), atol=2e-5)
        assert score == one.max()


def test_quantised_maps_differ_where_a_level_falls_otherwise_only(
    fit: Callable[..., AeSsim],
) -> None:
    method = fit(pictures(5))
    image = pictures(1, seed=1)
    with torch.inference_mode():
        found = method.raw(image)[0].numpy()
    gap = np.abs(found - by_loops(method, image[0]))
    assert (gap > 1e-5).mean() < 0.02


@pytest.mark.parametrize("average", ["recon", "residual"])
def test_an_images_map_does_not_depend_on_its_batch(
    average: str, fit: Callable[..., AeSsim]
) -> None:
    method = fit(pictures(5), average=average)
    test = pictures(5, seed=1)
    with torch.inference_mode():
        together = method.raw(test)
        # Equal to the bit: a level of the reconstruction that falls otherwise would be seen.
        assert all(torch.equal(method.raw(test[i : i + 1])[0], together[i]) for i in range(5))


def test_images_need_not_be_square(fit: Callable[..., AeSsim]) -> None:
    method = fit(pictures(4, 64, 101))
    with torch.inference_mode():
        assert method.raw(pictures(2, 64, 101, seed=1)).shape == (2, 64, 101)


@pytest.mark.parametrize("loss", ["ssim", "ssim_l1", "l2"])
def test_training_lowers_the_loss_of_a_patch(loss: str, make_images: Any, make_run: Any) -> None:
    whole = {"flip_horizontal": 0.0, "flip_vertical": 0.0, "rotate_probability": 0.0}
    settings = {**SMALL, **whole, "loss": loss, "grey": True, "epochs": 8, "patches_per_epoch": 4}
    method = AeSsim(**settings)
    method.prepare(make_run((64, 64)))
    images = make_images(pictures(1, 64, 64))
    figures = [epoch["loss"] for epoch in method.fit(images, make_run())]
    assert len(figures) == 8
    assert figures[-1] < figures[0]


def test_a_planted_defect_gets_the_highest_score(fit: Callable[..., AeSsim]) -> None:
    clean = pictures(1, seed=1)
    marked = clean.clone()
    marked[:, :, 30:50, 20:44] = 2.5
    method = fit(pictures(6), epochs=6, map="l2")
    with torch.inference_mode():
        good, bad = method.raw(clean)[0], method.raw(marked)[0]
    assert bad.max() > good.max()
    row, column = divmod(int(bad.argmax()), 80)
    assert 30 <= row < 50
    assert 20 <= column < 44


def test_a_saved_state_predicts_the_same(fit: Callable[..., AeSsim], make_run: Any) -> None:
    method = fit(pictures(4), seed=3)
    other = AeSsim(**SMALL)
    other.prepare(make_run((80, 80), seed=4))
    state = {name: value.clone() for name, value in method.state().items()}
    other.load_state(state)
    assert set(other.state()) == set(state)
    test = pictures(2, seed=1)
    with torch.inference_mode():
        assert torch.equal(other.raw(test), method.raw(test))


def test_the_same_seed_trains_the_same_network(fit: Callable[..., AeSsim]) -> None:
    one, same, other = (fit(pictures(4), seed=seed).state() for seed in (1, 1, 2))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)


def test_held_out_images_end_training_and_the_best_epoch_is_kept(
    make_images: Any, make_run: Any
) -> None:
    # A rate this high makes later epochs worse.
    fields = {**SMALL, "epochs": 30, "lr": 0.2, "validation": 0.3, "patience": 2}
    method = AeSsim(**fields)
    method.prepare(make_run((80, 80)))
    figures, states = [], []
    for epoch in method.fit(make_images(pictures(7)), make_run()):
        figures.append(epoch["validation_loss"])
        states.append({name: value.clone() for name, value in method.state().items()})
    best = int(np.argmin(figures))
    assert len(figures) == best + 3 < 30
    kept = method.state()
    assert all(torch.equal(kept[name], states[best][name]) for name in kept)


@pytest.mark.parametrize("validation", [0.0, 0.3])
def test_a_diverged_training_names_its_epoch(
    validation: float, make_images: Any, make_run: Any
) -> None:
    method = AeSsim(**SMALL, validation=validation)
    method.prepare(make_run((80, 80)))
    epochs = method.fit(make_images(pictures(5)), make_run())
    next(epochs)
    with torch.no_grad():
        next(method.network.parameters()).fill_(float("nan"))
    with pytest.raises(MethodError, match="ae_ssim: the loss of epoch 2 is nan; training diverged"):
        next(epochs)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"patch": 128}, "images of 80x80 pixels are smaller than a patch of 128"),
        ({"patch": 72}, "patch = 72; the auto-encoder takes patches of 64"),
        ({"stride": 65}, "stride = 65 leaves pixels out"),
        ({"width": 0}, "all of them positive"),
        ({"window": 10}, "choose an odd one"),
        ({"epochs": 0}, "ae_ssim: epochs = 0; it must be at least 1"),
        ({"batch": 0}, "ae_ssim: batch = 0"),
        ({"patches_per_epoch": 0}, "ae_ssim: patches_per_epoch = 0"),
        ({"lr": 0.0}, "ae_ssim: lr = 0.0; it must be positive"),
        ({"border": 40}, "ae_ssim: border = 40 leaves nothing"),
        ({"validation": 1.0}, "leaves no image on one side"),
    ],
    ids=str,
)
def test_settings_that_cannot_work_are_refused(
    fields: dict[str, Any], message: str, fit: Callable[..., AeSsim]
) -> None:
    with pytest.raises(MethodError, match=message):
        fit(pictures(3), **fields)
