"""VT-ADL as a whole: likelihoods by distributions, training, saved state, and bad settings."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from bench.api import IMAGENET_MEAN, IMAGENET_STD, MethodError
from bench.plugins.methods.vtadl import VtAdl
from bench.plugins.methods.vtadl.autoencoder import AutoEncoder
from bench.plugins.methods.vtadl.mixture import Mixture

if TYPE_CHECKING:
    from collections.abc import Callable

SMALL: dict[str, Any] = {
    "patch": 64,
    "dim": 16,
    "depth": 1,
    "heads": 2,
    "mlp": 8,
    "width": 2,
    "gaussians": 3,
    "epochs": 2,
    "batch": 2,
    "lr": 1e-3,
}


def pictures(count: int, size: int = 64, seed: int = 0) -> Tensor:
    """Grey fields of one brightness with a little noise, ImageNet-normalised."""
    generator = torch.Generator().manual_seed(seed)
    level = 0.3 + 0.2 * torch.rand(count, 1, 1, 1, generator=generator)
    pixels = level + 0.03 * torch.randn(count, 3, size, size, generator=generator)
    mean, std = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
    return (pixels.clamp(0, 1) - mean.view(3, 1, 1)) / std.view(3, 1, 1)


@pytest.fixture
def fit(make_images: Any, make_run: Any) -> Callable[..., VtAdl]:
    def fit(train: Tensor, seed: int = 0, **fields: Any) -> VtAdl:
        method = VtAdl(**{**SMALL, **fields})
        method.prepare(make_run((train.shape[-2], train.shape[-1]), seed=seed))
        list(method.fit(make_images(train, seed), make_run(seed=seed)))
        return method

    return fit


@pytest.fixture
def fresh(make_run: Any) -> VtAdl:
    """Before training: enough for what training does not touch."""
    method = VtAdl(**SMALL)
    method.prepare(make_run((64, 64)))
    return method


@torch.no_grad()
def test_the_mixture_likelihood_is_that_of_the_mixture() -> None:
    torch.manual_seed(0)
    mixture = Mixture(4, 5)
    tokens = torch.randn(2, 3, 4)
    weights, mu, s = mixture.components(tokens.flatten(0, 1))
    distribution: Any = MixtureSameFamily(
        Categorical(logits=weights),
        Independent(Normal(mu.transpose(1, 2), (s.transpose(1, 2) / 2).exp()), 1),
    )
    wanted = -distribution.log_prob(tokens.flatten(0, 1)).view(2, 3)
    torch.testing.assert_close(mixture.scores(tokens, "mixture"), wanted)


@torch.no_grad()
def test_the_weighted_likelihood_by_loops() -> None:
    torch.manual_seed(0)
    mixture = Mixture(4, 5)
    tokens = torch.randn(2, 3, 4)
    found = mixture.scores(tokens, "weighted")
    for image in range(2):
        for position in range(3):
            v = tokens[image, position]
            positive = [max(float(x), 2.2e-16) for x in v]
            linear = {
                name: getattr(mixture, name).weight.double() @ torch.tensor(positive).double()
                for name in ("pi", "mu", "log_variance")
            }
            pi, total = linear["pi"].softmax(0), 0.0
            for k in range(5):
                each = math.log(2 * math.pi)
                for d in range(4):
                    s = math.log1p(math.exp(linear["log_variance"][5 * d + k]))
                    each += s + (float(v[d]) - float(linear["mu"][5 * d + k])) ** 2 / math.exp(s)
                total += float(pi[k]) * each / 2
            assert float(found[image, position]) == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize("likelihood", ["weighted", "mixture"])
def test_blocks_of_tokens_change_nothing(likelihood: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    mixture = Mixture(4, 5)
    tokens = torch.randn(3, 7, 4, generator=torch.Generator().manual_seed(1))
    whole = mixture.scores(tokens, likelihood)
    monkeypatch.setattr("bench.plugins.methods.vtadl.mixture._BLOCK", 60)
    torch.testing.assert_close(mixture.scores(tokens, likelihood), whole)


def test_parameters_of_the_published_network() -> None:
    fields = VtAdl()
    sizes = (getattr(fields, n) for n in ("patch", "dim", "depth", "heads", "mlp", "width"))
    with torch.device("meta"):
        autoencoder = AutoEncoder(*sizes)
        mixtures = {k: Mixture(fields.dim, k) for k in (10, 150)}
    assert sum(p.numel() for p in autoencoder.parameters()) == 35_852_563
    assert sum(p.numel() for p in autoencoder.capsule.parameters()) == 16_777_216
    assert sum(p.numel() for p in autoencoder.transformer.parameters()) == 18_933_248
    assert sum(p.numel() for p in autoencoder.decoder.parameters()) == 142_099
    assert sum(p.numel() for p in mixtures[10].parameters()) == 5_248_000
    assert sum(p.numel() for p in mixtures[150].parameters()) == 78_720_000


def test_gradients_of_the_mixture_accumulate_or_not(make_run: Any) -> None:
    def gradients(accumulate: bool) -> list[Tensor]:
        method = VtAdl(**SMALL, accumulate=accumulate)
        method.prepare(make_run((512, 512)))
        optimizer = torch.optim.SGD(method.mixture.parameters(), 0.0)  # nothing moves
        pixels, noise = method.pixels(pictures(1)), torch.zeros(1, 64, 16)
        found = []
        for _ in range(2):
            method.update(optimizer, pixels, noise)
            gradient = method.mixture.mu.weight.grad
            assert gradient is not None
            found.append(gradient.clone())
        return found

    once, twice = gradients(accumulate=True)
    torch.testing.assert_close(twice, 2 * once)
    once, again = gradients(accumulate=False)
    torch.testing.assert_close(again, once)


def test_the_epoch_with_the_smallest_loss_is_kept(make_images: Any, make_run: Any) -> None:
    def states(keep: str) -> tuple[list[float], list[dict[str, Tensor]]]:
        # A rate this high makes the second epoch worse.
        method = VtAdl(**{**SMALL, "lr": 0.3, "keep": keep})
        method.prepare(make_run((64, 64)))
        losses, found = [], []
        for epoch in method.fit(make_images(pictures(1)), make_run()):
            losses.append(epoch["loss"])
            found.append({name: value.clone() for name, value in method.state().items()})
        return losses, found

    losses, best = states("best")
    same, last = states("last")
    assert losses == same
    assert losses[0] < losses[1]
    assert all(torch.equal(value, best[-1][name]) for name, value in last[0].items())
    assert not all(torch.equal(value, last[-1][name]) for name, value in last[0].items())


def test_training_lowers_the_loss(make_images: Any, make_run: Any) -> None:
    method = VtAdl(**{**SMALL, "lr": 1e-5})
    method.prepare(make_run((64, 64)))
    figures = list(method.fit(make_images(pictures(1)), make_run()))
    assert figures[-1]["loss"] < figures[0]["loss"]
    one = figures[0]
    total = 5 * one["mse"] - 0.5 * one["ssim"] + one["mixture_loss"]
    assert one["loss"] == pytest.approx(total, rel=1e-5)


def test_an_images_prediction_does_not_depend_on_its_batch(fresh: VtAdl) -> None:
    method = fresh
    test = pictures(2, seed=1)
    with torch.inference_mode():
        together = method.predict(test)
        assert together.maps is not None
        assert together.scores is not None
        assert together.maps.shape == (2, 512, 512)
        alone = method.predict(test[1:2])
        assert alone.maps is not None
        assert alone.scores is not None
        torch.testing.assert_close(alone.maps[0], together.maps[1], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(alone.scores[0], together.scores[1], rtol=1e-5, atol=1e-5)
        # `raw` is the part before the decoder and the upsampling.
        torch.testing.assert_close(method.maps(method.raw(test)), together.maps)


def test_the_sign_of_the_similarity_is_a_field() -> None:
    method = VtAdl(**SMALL)
    pixels, scores = method.pixels(pictures(2, seed=1)), torch.zeros(2, 64)
    same, other = pixels, torch.zeros_like(pixels)
    # Published: a perfect reconstruction scores higher than a black one.
    assert bool((method.image_scores(scores, pixels, same) == 1).all())
    assert bool((method.image_scores(scores, pixels, other) < 1).all())
    method.ssim_sign = "corrected"
    assert bool((method.image_scores(scores, pixels, same) == -1).all())
    assert bool((method.image_scores(scores, pixels, other) > -1).all())


def test_a_saved_state_predicts_the_same(fresh: VtAdl, make_run: Any) -> None:
    method = fresh
    other = VtAdl(**SMALL)
    other.prepare(make_run((64, 64), seed=4))
    other.load_state({name: value.clone() for name, value in method.state().items()})
    test = pictures(2, seed=1)
    with torch.inference_mode():
        assert torch.equal(other.raw(test), method.raw(test))


def test_the_same_seed_trains_the_same_networks(fit: Callable[..., VtAdl]) -> None:
    one, same, other = (fit(pictures(1), seed=seed, epochs=1).state() for seed in (1, 1, 2))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)


def test_a_diverged_training_names_its_epoch(make_images: Any, make_run: Any) -> None:
    method = VtAdl(**SMALL)
    method.prepare(make_run((64, 64)))
    epochs = method.fit(make_images(pictures(1)), make_run())
    next(epochs)
    with torch.no_grad():
        method.mixture.mu.weight.fill_(float("nan"))
    with pytest.raises(MethodError, match="vtadl: the loss of epoch 2 is nan; training diverged"):
        next(epochs)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"patch": 100}, "patches of 100 do not tile 512 pixels"),
        ({"heads": 3}, "3 heads do not divide dim = 16"),
        ({"width": 1}, "width = 1; the decoder needs at least 2"),
        ({"gaussians": 0}, "vtadl: gaussians = 0; it must be at least 1"),
        ({"noise": -0.1}, "the others at least 0"),
        ({"lr": 0.0}, "lr must be positive"),
    ],
    ids=str,
)
def test_settings_that_cannot_work_are_refused(
    fields: dict[str, Any], message: str, fit: Callable[..., VtAdl]
) -> None:
    with pytest.raises(MethodError, match=message):
        fit(pictures(3), **fields)
