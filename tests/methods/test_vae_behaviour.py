"""The plain VAE as a whole: loss by distributions, maps by loops, training, and bad settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor
from torch.distributions import Bernoulli, Normal, kl_divergence

from bench.api import IMAGENET_MEAN, IMAGENET_STD, MethodError
from bench.plugins.methods.vae import Vae, vae_loss

if TYPE_CHECKING:
    from collections.abc import Callable

SMALL: dict[str, Any] = {
    "patch": 64,
    "latent": 5,
    "width": 4,
    "epochs": 2,
    "batch": 4,
    "patches_per_epoch": 10,
    "stride": 16,
}


def pictures(count: int, size: int = 80, seed: int = 0) -> Tensor:
    """Stripes with a phase and a little noise, ImageNet-normalised."""
    generator = torch.Generator().manual_seed(seed)
    phase = 6.3 * torch.rand(count, 1, 1, 1, generator=generator)
    stripes = 0.5 + 0.3 * torch.sin(torch.arange(float(size)) / 6 + phase)
    noise = 0.02 * torch.randn(count, 3, size, size, generator=generator)
    mean, std = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
    return ((stripes + noise).clamp(0, 1) - mean.view(3, 1, 1)) / std.view(3, 1, 1)


@pytest.fixture
def fit(make_images: Any, make_run: Any) -> Callable[..., Vae]:
    def fit(train: Tensor, seed: int = 0, **fields: Any) -> Vae:
        method = Vae(**{**SMALL, **fields})
        method.prepare(make_run((train.shape[-2], train.shape[-1]), seed=seed))
        list(method.fit(make_images(train, seed), make_run(seed=seed)))
        return method

    return fit


@pytest.mark.parametrize("kl_weight", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("reconstruction", ["mse", "bce"])
def test_the_loss_is_the_negative_evidence_bound(reconstruction: Any, kl_weight: float) -> None:
    generator = torch.Generator().manual_seed(0)
    shape = (3, 2, 4, 5)
    x, y = (torch.rand(*shape, generator=generator, dtype=torch.float64) for _ in range(2))
    mu, logvar = (torch.randn(3, 6, generator=generator, dtype=torch.float64) for _ in range(2))
    normal: Any = Normal
    bernoulli: Any = Bernoulli
    divergence = kl_divergence(Normal(mu, (logvar / 2).exp()), Normal(0.0, 1.0)).sum()
    if reconstruction == "mse":
        # A Gaussian of variance 1/2, without its constant.
        likelihood = normal(y, 0.5**0.5).log_prob(x) - normal(x, 0.5**0.5).log_prob(x)
        wanted = -likelihood.sum()
    else:
        wanted = -bernoulli(y, validate_args=False).log_prob(x).sum()
    found = vae_loss(x, y, mu, logvar, reconstruction, kl_weight)
    torch.testing.assert_close(found, wanted + kl_weight * divergence)


def test_a_map_is_the_smoothed_squared_error_of_the_decoded_means(
    fit: Callable[..., Vae],
) -> None:
    method = fit(pictures(4), sigma=2.0)
    image = pictures(1, seed=1)
    with torch.inference_mode():
        found = method.predict(image)
        total, count = torch.zeros(3, 80, 80), torch.zeros(80, 80)
        std, mean = torch.tensor(IMAGENET_STD), torch.tensor(IMAGENET_MEAN)
        pixels = image[0] * std.view(3, 1, 1) + mean.view(3, 1, 1)
        for top in (0, 16):
            for left in (0, 16):
                window = (slice(None), slice(top, top + 64), slice(left, left + 64))
                code = method.network.encoder(pixels[window][None])[0, :5]
                total[window] += method.network.decoder(code[None])[0]
                count[window[1:]] += 1
        error = (total / count - pixels).square().sum(0)
    assert found.maps is not None
    assert found.scores is not None
    wanted = torch.from_numpy(gaussian_filter(error.numpy(), sigma=2.0))
    torch.testing.assert_close(found.maps[0], wanted, rtol=1e-4, atol=1e-5)
    assert found.scores[0] == found.maps[0].max()


@pytest.mark.parametrize("kind", ["l2", "ssim"])
def test_an_images_map_does_not_depend_on_its_batch(kind: str, fit: Callable[..., Vae]) -> None:
    method = fit(pictures(4), map=kind)
    test = pictures(4, seed=1)
    with torch.inference_mode():
        together = method.raw(test)
        for i in range(4):
            alone = method.raw(test[i : i + 1])[0]
            torch.testing.assert_close(alone, together[i], rtol=1e-6, atol=1e-7)
        assert torch.equal(method.raw(test), together)  # no draw in evaluation


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("reconstruction", ["mse", "bce"])
def test_training_lowers_the_loss(
    reconstruction: str, batch_norm: bool, make_images: Any, make_run: Any
) -> None:
    fields = {"reconstruction": reconstruction, "batch_norm": batch_norm, "lr": 2e-3}
    method = Vae(**{**SMALL, **fields, "epochs": 5})
    method.prepare(make_run((80, 80)))
    losses = [epoch["loss"] for epoch in method.fit(make_images(pictures(6)), make_run())]
    assert len(losses) == 5
    assert losses[-1] < losses[0]


def test_the_loss_is_that_of_a_patch_whatever_the_batch(make_images: Any, make_run: Any) -> None:
    def first(batch: int) -> float:
        method = Vae(**{**SMALL, "batch": batch, "lr": 1e-9, "epochs": 1})
        method.prepare(make_run((80, 80)))
        (epoch,) = method.fit(make_images(pictures(6)), make_run())
        return float(epoch["loss"])

    assert first(2) == pytest.approx(first(10), rel=0.05)


def test_the_noise_is_the_runs(fit: Callable[..., Vae]) -> None:
    one, same, other = (fit(pictures(4), seed=seed).state() for seed in (1, 1, 2))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)


def test_a_planted_defect_gets_the_highest_score(fit: Callable[..., Vae]) -> None:
    method = fit(pictures(6), sigma=1.0)
    clean = pictures(1, seed=1)
    marked = clean.clone()
    marked[:, :, 30:50, 20:44] = 2.5
    with torch.inference_mode():
        good, bad = method.predict(clean), method.predict(marked)
    assert good.maps is not None
    assert bad.maps is not None
    assert bad.maps.max() > good.maps.max()
    row, column = divmod(int(bad.maps[0].argmax()), 80)
    assert 30 <= row < 50
    assert 20 <= column < 44


@pytest.mark.parametrize("batch_norm", [False, True])
def test_a_saved_state_predicts_the_same(
    batch_norm: bool, fit: Callable[..., Vae], make_run: Any
) -> None:
    method = fit(pictures(4), batch_norm=batch_norm)
    other = Vae(**SMALL, batch_norm=batch_norm)
    other.prepare(make_run((80, 80), seed=4))
    other.load_state({name: value.clone() for name, value in method.state().items()})
    test = pictures(2, seed=1)
    with torch.inference_mode():
        assert torch.equal(other.raw(test), method.raw(test))


def test_a_diverged_training_names_its_epoch(fit: Callable[..., Vae]) -> None:
    # The variance of a latent Gaussian overflows.
    with pytest.raises(MethodError, match=r"vae: the loss of epoch 1 is (nan|inf); training"):
        fit(pictures(4), lr=1e6)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"patch": 128}, "images of 80x80 pixels are smaller than a patch of 128"),
        ({"batch_norm": True, "width": 3}, "all of them positive"),
        ({"lr": -1.0}, "vae: lr = -1.0; it must be positive"),
        ({"epochs": 0}, "vae: epochs = 0; it must be at least 1"),
        ({"map": "ssim", "window": 4}, "choose an odd one"),
    ],
    ids=str,
)
def test_settings_that_cannot_work_are_refused(
    fields: dict[str, Any], message: str, fit: Callable[..., Vae]
) -> None:
    with pytest.raises(MethodError, match=message):
        fit(pictures(3), **fields)
