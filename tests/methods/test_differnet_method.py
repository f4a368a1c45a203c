"""DifferNet as a whole: slow definitions, its promises, saved state, and bad settings."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage
from torch import Tensor, nn

from bench.api import IMAGENET_MEAN, IMAGENET_STD, MethodError
from bench.blocks.seeded import drawn_from
from bench.plugins.methods.differnet import DifferNet
from bench.plugins.methods.differnet.rotation import rotate, rotate_back

if TYPE_CHECKING:
    from collections.abc import Callable

SMALL: dict[str, Any] = {
    "backbone": "tiny",
    "scales": 2,
    "blocks": 2,
    "hidden": 16,
    "rotations": 2,
    "test_rotations": 4,
    "chunk": 3,
    "batch": 4,
    "meta_epochs": 3,
    "sub_epochs": 2,
    "lr": 5e-3,
    "sigma": 1.0,
}


def pictures(count: int, height: int = 32, width: int = 32, seed: int = 0) -> Tensor:
    """Noise of the same kind in every direction: (count, 3, height, width)."""
    generator = torch.Generator().manual_seed(seed)
    return 0.3 * torch.randn(count, 3, height, width, generator=generator)


class Tiny(nn.Module):
    """An encoder of stride 4 and 5 channels that needs 8 pixels."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.channels, self.strides = [5], [4]
        with drawn_from(torch.Generator().manual_seed(seed)):
            self.net = nn.Sequential(nn.Conv2d(3, 5, 5, 2), nn.ReLU(), nn.MaxPool2d(2))

    def forward(self, images: Tensor) -> list[Tensor]:
        return [self.net(images)]


@pytest.fixture
def make_run(make_run: Any) -> Callable[..., Any]:
    """A run whose backbone is tiny."""

    def make(size: tuple[int, int] = (32, 32), seed: int = 0) -> Any:
        run = make_run(size, seed=seed)
        run.backbone = lambda *_: Tiny(seed).eval().requires_grad_(False)
        return run

    return make


@pytest.fixture
def fit(make_images: Any, make_run: Any) -> Callable[..., DifferNet]:
    def fit(train: Tensor, seed: int = 0, **fields: Any) -> DifferNet:
        run = make_run((train.shape[-2], train.shape[-1]), seed=seed)
        method = DifferNet(**{**SMALL, **fields})
        method.prepare(run)
        list(method.fit(make_images(train), run))
        return method

    return fit


def predicted(method: DifferNet, images: Tensor) -> tuple[Tensor, Tensor]:
    prediction = method.predict(images)
    assert prediction.maps is not None
    assert prediction.scores is not None
    assert not prediction.maps.requires_grad
    return prediction.maps, prediction.scores


def by_the_definition(method: DifferNet, image: Tensor) -> tuple[Tensor, Tensor]:
    """All copies at once, the loss differentiated, SciPy's rotation and filter; map and score."""
    angles = method.fixed_angles()
    copies = rotate(image, angles).requires_grad_()
    d = method.flow.length
    vectors = []
    for scale in range(method.scales):
        step = 2**scale
        vectors.append(method.encoder(copies[..., ::step, ::step])[0].mean((2, 3)))
    z, log_det = method.flow(torch.cat(vectors, 1))
    loss = (z.square().sum(1) / 2 - log_det).mean() / d
    (gradients,) = torch.autograd.grad(loss, copies)
    total = np.zeros(image.shape[1:])
    for gradient, angle in zip(gradients, angles.tolist(), strict=True):
        for channel in gradient.double().numpy():
            turned = ndimage.rotate(channel, -angle, reshape=False)
            total += np.abs(ndimage.gaussian_filter(turned, method.sigma))
    return torch.from_numpy((total / (3 * len(angles))) ** 2), z.detach().square().mean()


@pytest.mark.parametrize("size", [(32, 32), (32, 48)])
def test_maps_and_scores_equal_the_definition(
    size: tuple[int, int], fit: Callable[..., DifferNet]
) -> None:
    method = fit(pictures(6, *size), test_rotations=5)
    image = pictures(1, *size, seed=1)
    maps, scores = predicted(method, image)
    wanted, score = by_the_definition(method, image[0])
    assert float((maps[0] - wanted).abs().max() / wanted.max()) < 1e-4
    torch.testing.assert_close(scores[0], score, rtol=1e-5, atol=0)


@pytest.mark.parametrize("angle", [0.0, 90.0, 180.0, 45.0, -33.3, 271.5])
@pytest.mark.parametrize("size", [(16, 16), (15, 22)])
def test_turning_back_equals_scipys_rotation(angle: float, size: tuple[int, int]) -> None:
    maps = torch.randn(2, *size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    wanted = [ndimage.rotate(m, -angle, reshape=False) for m in maps.numpy()]
    found = rotate_back(maps, angle)
    torch.testing.assert_close(found, torch.from_numpy(np.stack(wanted)), rtol=0, atol=1e-9)


@pytest.mark.parametrize("angle", [0.0, 90.0, 180.0, 45.0, 135.0, -33.3, 5.625])
@pytest.mark.parametrize("size", [(16, 16), (15, 22)])
def test_copies_show_the_pixels_that_pillow_shows(angle: float, size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    raw = rng.integers(1, 256, (*size, 3), dtype=np.uint8)
    turned = np.array(Image.fromarray(raw).rotate(angle, Image.Resampling.NEAREST))
    mean, std = (
        torch.tensor(IMAGENET_MEAN)[:, None, None],
        torch.tensor(IMAGENET_STD)[:, None, None],
    )

    def normalised(pixels: Any) -> Tensor:
        return (torch.from_numpy(pixels).permute(2, 0, 1).float() / 255 - mean) / std

    found = rotate(normalised(raw), torch.tensor([angle], dtype=torch.float64))[0]
    torch.testing.assert_close(found, normalised(turned), rtol=0, atol=1e-6)


@pytest.mark.parametrize("chunk", [1, 2, 100])
def test_copies_at_a_time_change_nothing(chunk: int, fit: Callable[..., DifferNet]) -> None:
    method, test = fit(pictures(4), test_rotations=5), pictures(2, seed=1)
    maps, scores = predicted(method, test)
    method.chunk = chunk
    other, same = predicted(method, test)
    torch.testing.assert_close(other, maps, rtol=1e-4, atol=1e-12)
    torch.testing.assert_close(same, scores, rtol=1e-5, atol=0)


def test_without_maps_scores_alone_are_given(fit: Callable[..., DifferNet]) -> None:
    method, test = fit(pictures(4)), pictures(2, seed=1)
    _, scores = predicted(method, test)
    assert method.needs_gradients
    method.maps = "none"
    assert not method.needs_gradients
    with torch.inference_mode():
        prediction = method.predict(test)
    assert prediction.maps is None
    assert prediction.scores is not None
    torch.testing.assert_close(prediction.scores, scores, rtol=1e-5, atol=0)


def test_random_test_angles_belong_to_the_picture(fit: Callable[..., DifferNet]) -> None:
    method = fit(pictures(4), test_angles="random")
    test = pictures(3, seed=1)
    _, scores = predicted(method, test)
    _, again = predicted(method, test.flip(0))
    torch.testing.assert_close(again.flip(0), scores, rtol=1e-5, atol=0)
    angles = [method.random_angles(image) for image in test]
    assert not torch.equal(angles[0], angles[1])
    assert all(float(a.abs().max()) <= 180 for a in angles)
    method.test_angles = "fixed"
    assert not torch.allclose(predicted(method, test)[1], scores, rtol=1e-5)


def test_training_lowers_the_loss_and_is_usable_at_every_yield(
    make_images: Any, make_run: Any
) -> None:
    method, run = DifferNet(**SMALL), make_run()
    method.prepare(run)
    losses = []
    for figures in method.fit(make_images(pictures(6)), run):
        losses.append(figures["loss"])
        assert predicted(method, pictures(1))[0].isfinite().all()
    assert len(losses) == method.epochs == 3
    assert losses[0] > losses[1] > losses[2]


def test_equal_seeds_train_equal_methods(fit: Callable[..., DifferNet]) -> None:
    one, same, other = (fit(pictures(5), seed) for seed in (1, 1, 2))
    test = pictures(2, seed=1)
    assert torch.equal(predicted(one, test)[0], predicted(same, test)[0])
    assert not torch.equal(predicted(one, test)[0], predicted(other, test)[0])


def test_a_map_does_not_depend_on_the_other_images(fit: Callable[..., DifferNet]) -> None:
    method, test = fit(pictures(5)), pictures(3, seed=1)
    maps, scores = predicted(method, test)
    for number, image in enumerate(test):
        alone, score = predicted(method, image[None])
        torch.testing.assert_close(alone[0], maps[number], rtol=1e-4, atol=1e-12)
        torch.testing.assert_close(score[0], scores[number], rtol=1e-5, atol=0)
    assert not method.is_transductive


def test_a_planted_defect_scores_higher(fit: Callable[..., DifferNet]) -> None:
    method = fit(pictures(8), sub_epochs=8)
    clean = pictures(1, seed=1)
    marked = clean.clone()
    marked[:, :, 16:28, 6:18] += 3
    _, scores = predicted(method, torch.cat([clean, marked]))
    assert scores[1] > scores[0]


def test_no_parameter_gets_a_gradient_from_a_map(fit: Callable[..., DifferNet]) -> None:
    method = fit(pictures(4))
    for parameter in method.flow.parameters():
        parameter.grad = None
    predicted(method, pictures(1))
    assert all(parameter.grad is None for parameter in method.flow.parameters())


@pytest.mark.parametrize(
    "fields",
    [
        {"scales": 1},
        {"blocks": 3},
        {"hidden": 8},
        {"clamp": 0.2},
        {"rotations": 3},
        {"betas": (0.9, 0.999)},
        {"eps": 1e-2},
        {"weight_decay": 1.0},
        {"test_rotations": 6},
    ],
)
def test_fields_change_the_score(fields: dict[str, Any], fit: Callable[..., DifferNet]) -> None:
    train, test = pictures(5), pictures(2, seed=1)
    usual = predicted(fit(train), test)[1]
    assert not torch.allclose(predicted(fit(train, **fields), test)[1], usual, rtol=1e-5)


def test_a_saved_state_predicts_the_same(fit: Callable[..., DifferNet], make_run: Any) -> None:
    method, test = fit(pictures(5), seed=3), pictures(2, seed=1)
    state = {name: value.clone() for name, value in method.state().items()}
    other = DifferNet(**SMALL)
    other.prepare(make_run(seed=4))
    other.load_state(state)
    assert torch.equal(predicted(other, test)[0], predicted(method, test)[0])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"test_angles": "fixd"}, "did you mean 'fixed'"),
        ({"maps": "gradients"}, "did you mean 'gradient'"),
        ({"rotations": 0}, "rotations=0 must be above 0"),
        ({"sigma": -1.0}, "sigma"),
        ({"betas": (0.8, 1.0)}, "two numbers in"),
    ],
)
def test_settings_that_cannot_work_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(MethodError, match=message):
        DifferNet(**{**SMALL, **fields})


def test_images_smaller_than_the_network_allows_are_refused(make_run: Any) -> None:
    message = r"12x32 pixels are 6x16 at the coarsest of 2 scales.* at least 14 pixels"
    with pytest.raises(MethodError, match=message):
        DifferNet(**SMALL).prepare(make_run((12, 32)))
    DifferNet(**SMALL).prepare(make_run((14, 32)))


def test_a_diverged_training_is_named_with_its_epoch(fit: Callable[..., DifferNet]) -> None:
    train = pictures(4)
    train[2, 0, 16, 16] = math.nan
    with pytest.raises(MethodError, match=r"loss is nan in epoch 1, step 1 of 1; lower lr"):
        fit(train)
