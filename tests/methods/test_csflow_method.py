"""CS-Flow as a whole: a slow definition, memory, its promises, saved state, and bad settings."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from bench.api import MethodError
from bench.blocks.seeded import drawn_from
from bench.plugins.methods.csflow import CSFlow
from bench.plugins.methods.csflow.encoder import FixedPadding, set_padding

if TYPE_CHECKING:
    from collections.abc import Callable

SMALL: dict[str, Any] = {
    "backbone": "tiny",
    "padding": "own",
    "blocks": 2,
    "hidden": 8,
    "batch": 4,
    "meta_epochs": 3,
    "sub_epochs": 2,
    "lr": 5e-3,
}


def pictures(count: int, height: int = 32, width: int = 32, seed: int = 0) -> Tensor:
    """Stripes with a little noise: (count, 3, height, width)."""
    generator = torch.Generator().manual_seed(seed)
    stripes = torch.sin(torch.arange(width) * 0.8).expand(1, 3, height, width)
    return stripes + 0.2 * torch.randn(count, 3, height, width, generator=generator)


class Tiny(nn.Module):
    """An encoder of stride 4 and 5 channels."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.channels, self.strides = [5], [4]
        with drawn_from(torch.Generator().manual_seed(seed)):
            self.net = nn.Sequential(
                nn.Conv2d(3, 4, 3, 2, padding=1), nn.ReLU(), nn.Conv2d(4, 5, 3, 2, padding=1)
            )

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
def fit(make_images: Any, make_run: Any) -> Callable[..., CSFlow]:
    def fit(train: Tensor, seed: int = 0, **fields: Any) -> CSFlow:
        run = make_run((train.shape[-2], train.shape[-1]), seed=seed)
        method = CSFlow(**{**SMALL, **fields})
        method.prepare(run)
        list(method.fit(make_images(train), run))
        return method

    return fit


def predicted(method: CSFlow, images: Tensor) -> tuple[Tensor, Tensor]:
    with torch.inference_mode():
        prediction = method.predict(images)
    assert prediction.maps is not None
    assert prediction.scores is not None
    return prediction.maps, prediction.scores


def by_the_definition(method: CSFlow, image: Tensor) -> list[Tensor]:
    """Latents of one image, scale by scale and in words of the paper; (C, h, w) each."""
    maps = [
        method.encoder(functional.interpolate(image[None], scale_factor=2.0**-s))[0][0]
        for s in range(3)
    ]
    chain: list[Any] = list(method.flow.blocks)
    half = maps[0].shape[0] // 2

    def shifts(network: Any, parts: list[Tensor]) -> list[Tensor]:
        hidden = [
            functional.leaky_relu(c(p[None]), 0.1)
            for c, p in zip(network.first, parts, strict=True)
        ]
        up = [functional.interpolate(h, scale_factor=2, mode="bilinear") for h in hidden]
        fine = network.second[0](hidden[0]) + network.up[0](up[1])
        middle = network.second[1](hidden[1]) + network.down[0](hidden[0]) + network.up[1](up[2])
        coarse = network.second[2](hidden[2]) + network.down[1](hidden[1])
        return [g * o[0] for g, o in zip(network.gain, (fine, middle, coarse), strict=True)]

    def affine(x: Tensor, r: Tensor) -> Tensor:
        scale = method.clamp * 0.636 * (r[: len(x)] / method.clamp).atan()
        moved: Tensor = scale.exp() * x + r[len(x) :]
        return moved

    for number in range(method.blocks):
        first, second = chain[5 * number + 3].network, chain[5 * number + 4].network
        maps = [m[chain[5 * number + s].order] for s, m in enumerate(maps)]
        ones, twos = [m[:half] for m in maps], [m[half:] for m in maps]
        ones = [affine(x, r) for x, r in zip(ones, shifts(first, twos), strict=True)]
        twos = [affine(x, r) for x, r in zip(twos, shifts(second, ones), strict=True)]
        maps = [torch.cat(pair) for pair in zip(ones, twos, strict=True)]
    return maps


def test_maps_and_scores_equal_the_definition(fit: Callable[..., CSFlow]) -> None:
    method = fit(pictures(6, 32, 48), sub_epochs=4)
    image = pictures(1, 32, 48, seed=1)
    with torch.no_grad():
        latents = by_the_definition(method, image[0])
    maps, scores = predicted(method, image)
    torch.testing.assert_close(maps[0], latents[0].square().mean(0), rtol=1e-4, atol=1e-5)
    joined = torch.cat([z.flatten() for z in latents])
    torch.testing.assert_close(scores[0], joined.square().mean() / 2, rtol=1e-5, atol=0)


def test_a_fresh_flow_only_rearranges(make_run: Any) -> None:
    method = CSFlow(**SMALL)
    method.prepare(make_run())
    features = method.features(pictures(2))
    latents, log_dets = method.flow(features)
    assert not any(d.any() for d in log_dets)
    for x, z in zip(features, latents, strict=True):
        assert torch.equal(x.sort(1).values, z.detach().sort(1).values)


def test_maps_of_three_scales_have_the_images_size(fit: Callable[..., CSFlow]) -> None:
    method, test = fit(pictures(4)), pictures(2, seed=1)
    finest, scores = predicted(method, test)
    assert finest.shape == (2, 8, 8)
    for how in ("mean", "product"):
        method.maps = how
        maps, same = predicted(method, test)
        assert maps.shape == (2, 32, 32)
        assert torch.equal(same, scores)


def test_saving_memory_trains_the_same(fit: Callable[..., CSFlow]) -> None:
    test = pictures(2, seed=1)
    one, other = (predicted(fit(pictures(6), save_memory=s), test) for s in (True, False))
    torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_only_latents_and_parameters_are_saved_for_the_backward_pass(make_run: Any) -> None:
    method = CSFlow(**SMALL)
    method.prepare(make_run())
    features = method.features(pictures(2))
    counts = []
    for save_memory in (True, False):
        saved: list[Tensor] = []

        def pack(tensor: Tensor, saved: list[Tensor] = saved) -> Tensor:
            saved.append(tensor)
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            method.flow(features, save_memory=save_memory)
        counts.append(len([t for t in saved if not isinstance(t, nn.Parameter)]))
    assert counts[0] == 6 < counts[1] / 10


def test_training_lowers_the_loss_and_is_usable_at_every_yield(
    make_images: Any, make_run: Any
) -> None:
    method, run = CSFlow(**SMALL), make_run()
    method.prepare(run)
    losses = []
    for figures in method.fit(make_images(pictures(6)), run):
        losses.append(figures["loss"])
        assert predicted(method, pictures(2))[0].isfinite().all()
    assert len(losses) == method.epochs == 3
    assert losses[0] > losses[1] > losses[2]


def test_equal_seeds_train_equal_methods(fit: Callable[..., CSFlow]) -> None:
    one, same, other = (fit(pictures(5), seed) for seed in (1, 1, 2))
    test = pictures(2, seed=1)
    assert torch.equal(predicted(one, test)[0], predicted(same, test)[0])
    assert not torch.equal(predicted(one, test)[0], predicted(other, test)[0])


def test_a_map_does_not_depend_on_the_other_images(fit: Callable[..., CSFlow]) -> None:
    method, test = fit(pictures(5)), pictures(4, seed=1)
    maps, scores = predicted(method, test)
    for number, image in enumerate(test):
        alone, score = predicted(method, image[None])
        torch.testing.assert_close(alone[0], maps[number], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(score[0], scores[number], rtol=1e-4, atol=1e-5)
    assert not method.is_transductive


def test_a_planted_defect_scores_higher_where_it_lies(fit: Callable[..., CSFlow]) -> None:
    method = fit(pictures(8), sub_epochs=6)
    clean = pictures(1, seed=1)
    marked = clean.clone()
    marked[:, :, 16:28, 4:16] += 4
    maps, scores = predicted(method, torch.cat([clean, marked]))
    assert scores[1] > scores[0]
    row, column = divmod(int(maps[1].argmax()), 8)
    assert 3 <= row <= 7
    assert 0 <= column <= 4


@pytest.mark.parametrize(
    "fields",
    [
        {"blocks": 3},
        {"hidden": 6},
        {"clamp": 0.5},
        {"kernel": 1},
        {"last_kernel": 3},
        {"clip": 0.01},
        {"weight_decay": 1.0},
        {"eps": 1e-2},
    ],
)
def test_fields_change_the_computation(fields: dict[str, Any], fit: Callable[..., CSFlow]) -> None:
    train, test = pictures(5), pictures(2, seed=1)
    usual = predicted(fit(train), test)[0]
    assert not torch.allclose(predicted(fit(train, **fields), test)[0], usual, rtol=1e-5)


def test_a_saved_state_predicts_the_same(fit: Callable[..., CSFlow], make_run: Any) -> None:
    method, test = fit(pictures(5), seed=3), pictures(2, seed=1)
    state = {name: value.clone() for name, value in method.state().items()}
    other = CSFlow(**SMALL)
    other.prepare(make_run(seed=4))
    other.load_state(state)
    assert torch.equal(predicted(other, test)[0], predicted(method, test)[0])
    wrong = CSFlow(**{**SMALL, "hidden": 4})
    wrong.prepare(make_run())
    with pytest.raises(MethodError, match="does not fit flow"):
        wrong.load_state(state)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"padding": "0.7.2"}, "known: 0.6.3, 0.7.0, 0.7.1, own"),
        ({"maps": "scale1"}, "did you mean 'scale0'"),
        ({"last_kernel": 4}, "last_kernel=4 must be odd"),
        ({"hidden": 0}, "hidden=0 must be above 0"),
        ({"weight_decay": -1.0}, "weight_decay"),
        ({"padding": "0.7.1"}, "rule of EfficientNet, and the backbone is none"),
    ],
)
def test_settings_that_cannot_work_are_refused(
    fields: dict[str, Any], message: str, fit: Callable[..., CSFlow]
) -> None:
    with pytest.raises(MethodError, match=message):
        fit(pictures(3), **fields)


def test_sides_that_cannot_be_halved_are_refused(make_run: Any) -> None:
    with pytest.raises(MethodError, match="sides that 16 divides, got 40 x 64; resize to 32 x 64"):
        CSFlow(**SMALL).prepare(make_run((40, 64)))


def test_a_diverged_training_is_named_with_its_epoch(fit: Callable[..., CSFlow]) -> None:
    train = pictures(4)
    train[2, 0, 3, 3] = math.nan
    with pytest.raises(MethodError, match=r"loss is nan in epoch 1, step 1 of 1; lower lr"):
        fit(train)
    with pytest.raises(MethodError, match=r"reach the clamp of 1e\+06 in epoch 1, step 1 of 1"):
        fit(pictures(4) * 1e9)


def test_each_release_pads_other_convolutions_of_an_efficientnet() -> None:
    import timm

    found = {}
    for rule in ("0.6.3", "0.7.0", "0.7.1"):
        net = timm.create_model("tf_efficientnet_b0", features_only=True, out_indices=(3,))
        set_padding(net, rule)
        padded = [m for m in net.modules() if isinstance(m, FixedPadding)]
        found[rule] = [m.margins[:2] for m in padded]
    early = [(0, 1), (0, 1), (1, 2)]
    assert found["0.6.3"] == [*early, (0, 1), (1, 2)]
    assert found["0.7.0"] == [(1, 1), (1, 1), (2, 2), (1, 1), (2, 2)]
    assert found["0.7.1"] == [*early, (1, 1), (2, 2)]
