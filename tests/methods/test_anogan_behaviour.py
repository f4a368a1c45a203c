"""AnoGAN as a whole: the search by an independent loop, both variants, batches, bad settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor

from bench.api import IMAGENET_MEAN, IMAGENET_STD, MethodError
from bench.plugins.methods.anogan import AnoGAN
from bench.plugins.methods.anogan.plain import ChannelDropout

if TYPE_CHECKING:
    from collections.abc import Callable

SMALL: dict[str, Any] = {
    "size": 16,
    "latent": 3,
    "width": 4,
    "gan_epochs": 2,
    "batch": 4,
    "search_steps": 15,
    "encoder_epochs": 2,
    "encoder_lr": 1e-3,
}
VARIANTS: dict[str, dict[str, Any]] = {
    "search": {},
    "official": {"encoder": True},
    "a03ki": {"encoder": True, "networks": "a03ki", "penalty_mix": "channel"},
}


def pictures(count: int, size: int = 16, seed: int = 0) -> Tensor:
    """Grey fields of one brightness each with a little noise, ImageNet-normalised."""
    generator = torch.Generator().manual_seed(seed)
    level = 0.3 + 0.2 * torch.rand(count, 1, 1, 1, generator=generator)
    pixels = level + 0.03 * torch.randn(count, 3, size, size, generator=generator)
    mean, std = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
    return (pixels.clamp(0, 1) - mean.view(3, 1, 1)) / std.view(3, 1, 1)


@pytest.fixture
def fit(make_images: Any, make_run: Any) -> Callable[..., AnoGAN]:
    def fit(train: Tensor, seed: int = 0, **fields: Any) -> AnoGAN:
        method = AnoGAN(**{**SMALL, **fields})
        method.prepare(make_run((train.shape[-2], train.shape[-1]), seed=seed))
        figures = list(method.fit(make_images(train, seed), make_run(seed=seed)))
        assert len(figures) == method.epochs
        return method

    return fit


def by_hand(method: AnoGAN, image: Tensor) -> tuple[Tensor, Tensor]:
    """One image's search with Adam written out, f(x) recomputed in each step as published."""
    std, mean = torch.tensor(IMAGENET_STD), torch.tensor(IMAGENET_MEAN)
    x = 2 * (image * std.view(3, 1, 1) + mean.view(3, 1, 1))[None] - 1
    features: Any = method.discriminator.features
    z = method.start.clone()
    first, second = torch.zeros_like(z), torch.zeros_like(z)

    def score(z: Tensor) -> tuple[Tensor, Tensor]:
        generated = method.generator(z)
        residual = (x - generated).abs().sum()
        match = (features(x) - features(generated)).abs().sum()
        return 0.9 * residual + 0.1 * match, generated

    for t in range(1, method.search_steps + 1):
        z.requires_grad_()
        (gradient,) = torch.autograd.grad(score(z)[0], z)
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient.square()
        root = (second / (1 - 0.999**t)).sqrt() + 1e-8
        z = z.detach() - method.search_lr * first / (1 - 0.9**t) / root
    value, generated = score(z)
    return (x - generated).square().sum(1)[0].detach(), value.detach()


def test_map_and_score_equal_a_search_by_hand(fit: Callable[..., AnoGAN]) -> None:
    method = fit(pictures(8))
    test = pictures(2, seed=1)
    found = method.predict(test)
    assert found.maps is not None
    assert found.scores is not None
    assert not found.maps.requires_grad
    assert not found.scores.requires_grad
    for i in range(2):
        wanted, score = by_hand(method, test[i])
        torch.testing.assert_close(found.maps[i], wanted, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(found.scores[i], score, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("variant", VARIANTS)
def test_an_images_map_does_not_depend_on_its_batch(
    variant: str, fit: Callable[..., AnoGAN]
) -> None:
    method = fit(pictures(8), **VARIANTS[variant])
    test = pictures(4, seed=1)
    together = method.predict(test)
    assert together.maps is not None
    assert together.scores is not None
    for i in range(4):
        alone = method.predict(test[i : i + 1])
        assert alone.maps is not None
        assert alone.scores is not None
        torch.testing.assert_close(alone.maps[0], together.maps[i], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(alone.scores[0], together.scores[i], rtol=1e-4, atol=1e-5)


def test_no_restart_is_better_than_the_one_taken(fit: Callable[..., AnoGAN]) -> None:
    method = fit(pictures(6), restarts=3)
    test = pictures(3, seed=1)
    _, best = method.raw(test)
    each = []
    start = method.start
    method.restarts = 1
    for i in range(3):
        method.start = start[i : i + 1]
        each.append(method.raw(test)[1])
    torch.testing.assert_close(best, torch.stack(each).amin(0), rtol=1e-4, atol=1e-4)


def test_a_longer_search_scores_no_higher(fit: Callable[..., AnoGAN]) -> None:
    method = fit(pictures(6), search_lr=0.1)
    test = pictures(3, seed=1)
    scores = []
    for steps in (0, 5, 60):
        method.search_steps = steps
        scores.append(method.raw(test)[1])
    assert bool((scores[2] < scores[0]).all())
    assert float(scores[1].mean()) <= float(scores[0].mean())


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_saved_state_predicts_the_same(
    variant: str, fit: Callable[..., AnoGAN], make_run: Any
) -> None:
    method = fit(pictures(6), **VARIANTS[variant])
    other = AnoGAN(**{**SMALL, **VARIANTS[variant]})
    other.prepare(make_run((16, 16), seed=4))
    state = {name: value.clone() for name, value in method.state().items()}
    other.load_state(state)
    assert set(other.state()) == set(state)
    test = pictures(2, seed=1)
    assert torch.equal(other.raw(test)[0], method.raw(test)[0])


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_same_seed_gives_the_same_networks(variant: str, fit: Callable[..., AnoGAN]) -> None:
    fields = VARIANTS[variant]
    one, same, other = (fit(pictures(5), seed=seed, **fields).state() for seed in (1, 1, 2))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)


def test_prediction_leaves_the_networks_as_they_are(fit: Callable[..., AnoGAN]) -> None:
    method = fit(pictures(5))
    before = {name: value.clone() for name, value in method.state().items()}
    method.predict(pictures(3, seed=1))
    assert all(torch.equal(value, before[name]) for name, value in method.state().items())
    assert all(p.grad is None for m in method.modules() for p in m.parameters())
    assert not any(p.requires_grad for m in method.modules() for p in m.parameters())


def test_tiles_cover_a_larger_image(fit: Callable[..., AnoGAN]) -> None:
    fields = {"patches": True, "stride": 8, "patches_per_epoch": 8}
    method = fit(pictures(4, size=28), **fields)
    test = pictures(2, size=28, seed=1)
    found = method.predict(test)
    assert found.maps is not None
    assert found.scores is not None
    assert found.maps.shape == (2, 28, 28)
    # Starts at 0, 8 and, flush with the edge, 12: a corner belongs to one tile alone.
    maps, scores = method.raw(test)
    tiles = maps.view(2, 9, 16, 16)
    torch.testing.assert_close(found.maps[:, :8, :8], tiles[:, 0, :8, :8])
    assert torch.equal(found.scores, scores.view(2, 9).amax(1))


def test_a_larger_image_is_resized(fit: Callable[..., AnoGAN]) -> None:
    found = fit(pictures(4, size=40)).predict(pictures(2, size=40, seed=1))
    assert found.maps is not None
    assert found.maps.shape == (2, 16, 16)


def test_a_planted_defect_gets_the_highest_score(fit: Callable[..., AnoGAN]) -> None:
    method = fit(pictures(12), gan_epochs=5, search_lr=0.1)
    clean = pictures(1, seed=1)
    marked = clean.clone()
    marked[:, :, 4:9, 6:12] = 2.6
    good, bad = method.predict(clean), method.predict(marked)
    assert good.scores is not None
    assert bad.scores is not None
    assert bad.scores[0] > good.scores[0]


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_map_may_be_absolute(variant: str, fit: Callable[..., AnoGAN]) -> None:
    method = fit(pictures(4), **VARIANTS[variant])
    test = pictures(1, seed=1)
    square = method.raw(test)[0]
    method.map = "l1"
    absolute = method.raw(test)[0]
    # Of three channels: |a| + |b| + |c| lies between the root of the squares and sqrt(3) times it.
    assert bool((absolute >= square.sqrt() * (1 - 1e-5)).all())
    assert bool((absolute <= (3 * square).sqrt() * (1 + 1e-5)).all())


def test_dropout_drops_whole_channels_in_training_and_keeps_the_mean() -> None:
    dropout = ChannelDropout(0.25, torch.Generator().manual_seed(0))
    ones = torch.ones(200, 50, 2, 2)
    found = dropout.train()(ones)
    assert found.unique().tolist() == pytest.approx([0, 1 / 0.75])
    assert torch.equal(found, found[..., :1, :1].expand_as(found))
    assert float(found.mean()) == pytest.approx(1, abs=0.02)
    assert torch.equal(dropout.eval()(ones), ones)


def test_only_the_search_needs_gradients() -> None:
    assert AnoGAN().needs_gradients
    assert not AnoGAN(encoder=True).needs_gradients
    assert AnoGAN(gan_epochs=3).epochs == 3
    assert AnoGAN(gan_epochs=3, encoder=True, encoder_epochs=4).epochs == 7


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_diverged_training_names_its_epoch(variant: str, make_images: Any, make_run: Any) -> None:
    method = AnoGAN(**{**SMALL, **VARIANTS[variant]})
    method.prepare(make_run((16, 16)))
    epochs = method.fit(make_images(pictures(5)), make_run())
    next(epochs)
    with torch.no_grad():
        next(method.generator.parameters()).fill_(float("nan"))
    with pytest.raises(MethodError, match=r"anogan: .*loss of epoch 2 is nan; training diverged"):
        next(epochs)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"size": 24}, "anogan: size = 24; choose 16, 32"),
        ({"size": 8}, "anogan: size = 8"),
        ({"size": 32}, "images of 16x16 pixels are smaller than size = 32"),
        ({"size": 32, "patches": True}, "images of 16x16 pixels are smaller than a patch of 32"),
        ({"latent": 0}, "anogan: latent = 0; it must be at least 1"),
        ({"batch": 1}, "anogan: batch = 1; it must be at least 2"),
        ({"search_lr": 0.0}, "anogan: search_lr = 0.0; it must be positive"),
        ({"feature_weight": 1.5}, "the weight is from 0 to 1"),
        ({"dropout": 1.0}, "it must be from 0 to below 1"),
        ({"encoder": True, "encoder_epochs": 0}, "anogan: encoder_epochs = 0"),
        ({"patches": True, "patches_per_epoch": 0}, "anogan: patches_per_epoch = 0"),
    ],
    ids=str,
)
def test_settings_that_cannot_work_are_refused(
    fields: dict[str, Any], message: str, fit: Callable[..., AnoGAN]
) -> None:
    with pytest.raises(MethodError, match=message):
        fit(pictures(3), **fields)
