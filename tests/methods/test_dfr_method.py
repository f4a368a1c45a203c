"""DFR as a whole: a slow definition, its promises, saved state, and bad settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from bench.api import MethodError
from bench.blocks.seeded import drawn_from
from bench.plugins.methods.dfr import DFR
from bench.plugins.methods.dfr.autoencoder import latent_dimension
from bench.plugins.methods.dfr.regional import Aggregation

if TYPE_CHECKING:
    from collections.abc import Callable

SMALL: dict[str, Any] = {
    "backbone": "tiny",
    "layers": ("relu1_1", "relu2_1", "relu3_1", "relu3_2"),
    "latent": 6,
    "epochs": 3,
    "lr": 1e-3,
}


def pictures(count: int, height: int = 32, width: int = 32, seed: int = 0) -> Tensor:
    """Stripes with a little noise: (count, 3, height, width)."""
    generator = torch.Generator().manual_seed(seed)
    stripes = torch.sin(torch.arange(width) * 0.8).expand(1, 3, height, width)
    return stripes + 0.2 * torch.randn(count, 3, height, width, generator=generator)


def tiny(name: str, blocks: int) -> nn.Module:
    """The first blocks of a VGG of small widths; timm takes seconds to draw a real one."""
    layers: list[nn.Module] = []
    width = 3
    for count, channels in ((1, 6), (1, 8), (2, 10), (2, 12), (2, 14))[:blocks]:
        layers += [nn.MaxPool2d(2)] if layers else []
        for _ in range(count):
            norm = [nn.BatchNorm2d(channels)] if name == "tiny_bn" else []
            layers += [nn.Conv2d(width, channels, 3, padding=1), *norm, nn.ReLU()]
            width = channels
    stem = [nn.Conv2d(3, 3, 7, padding=3)] if name == "no vgg" else []
    return nn.Sequential(*stem, *layers)


@pytest.fixture
def make_run(make_run: Any) -> Callable[..., Any]:
    """A run whose backbones are tiny VGGs."""

    def make(size: tuple[int, int] = (32, 32), seed: int = 0) -> Any:
        run = make_run(size, seed=seed)

        real = run.backbone

        def backbone(name: str, layers: tuple[Any, ...]) -> nn.Module:
            if name not in ("tiny", "tiny_bn", "no vgg"):
                found: nn.Module = real(name, layers)
                return found
            with drawn_from(torch.Generator().manual_seed(seed)):
                holder = nn.Module()
                holder.net = tiny(name, layers[0] + 1)
            return holder.eval().requires_grad_(False)

        run.backbone = backbone
        return run

    return make


@pytest.fixture
def fit(make_images: Any, make_run: Any) -> Callable[..., DFR]:
    def fit(train: Tensor, seed: int = 0, **fields: Any) -> DFR:
        run = make_run((train.shape[-2], train.shape[-1]), seed=seed)
        method = DFR(**{**SMALL, **fields})
        method.prepare(run)
        list(method.fit(make_images(train), run))
        return method

    return fit


def maps_of(method: DFR, images: Tensor) -> Tensor:
    with torch.inference_mode():
        maps: Tensor | None = method.predict(images).maps
    assert maps is not None
    return maps


def by_the_definition(method: DFR, images: Tensor) -> Tensor:
    """Layers from the network's own modules, stretched and averaged; errors in a loop."""
    weights = [m for m in method.taps.modules() if isinstance(m, torch.nn.Conv2d)]
    x = images
    cells = []
    # Three blocks of 1, 1 and 2 convolutions.
    for number, (convolution, is_last, pool) in enumerate(
        zip(weights, (True, True, False, True), (False, True, True, False), strict=True)
    ):
        x = functional.max_pool2d(x, 2) if pool else x
        x = functional.pad(x, (1,) * 4, mode="reflect") if number < 3 or is_last else x
        if number == 3:  # relu3_1 was waiting for this padding
            cells.append(x)
        x = functional.conv2d(x, convolution.weight, convolution.bias).relu()
        if is_last:
            cells.append(x)
    size = images.shape[-2:]
    joined = []
    for cell in cells:
        up = functional.interpolate(cell, size=size, mode="bilinear", align_corners=True)
        joined.append(functional.avg_pool2d(up, method.kernel, method.stride))
    features = torch.cat(joined, 1)
    error = torch.zeros(len(images), *features.shape[2:])
    for row in range(features.shape[2]):
        for column in range(features.shape[3]):
            vector = features[:, :, row : row + 1, column : column + 1]
            error[:, row, column] = (method.autoencoder(vector) - vector).square().mean((1, 2, 3))
    up = functional.interpolate(error[:, None], size=size, mode="bilinear", align_corners=True)
    return up[:, 0]


def test_maps_equal_the_definition(fit: Callable[..., DFR]) -> None:
    method = fit(pictures(6, 32, 48))
    test = pictures(2, 32, 48, seed=1)
    with torch.no_grad():
        wanted = by_the_definition(method, test)
    torch.testing.assert_close(maps_of(method, test), wanted, rtol=1e-4, atol=1e-6)


def test_the_latent_dimension_equals_scikit_learns(fit: Callable[..., DFR]) -> None:
    from sklearn.decomposition import PCA

    train = pictures(5)
    method = fit(train, latent=0, latent_images=3, epochs=1)
    with torch.no_grad():
        vectors = method.features(train[:3]).permute(0, 2, 3, 1).flatten(0, 2)
    wanted = PCA(n_components=0.9).fit(vectors.double().numpy()).n_components_
    assert len(method.autoencoder.encoder[6].weight) == wanted


def test_components_of_known_variances_are_counted() -> None:
    rotation = torch.linalg.qr(torch.randn(4, 4, generator=torch.Generator().manual_seed(0)))[0]
    spread = torch.tensor([6.0, 3.0, 0.9, 0.1]).sqrt()
    corners = torch.cartesian_prod(*([torch.tensor([-1.0, 1.0])] * 4))
    vectors = corners * spread @ rotation + 5
    for share, wanted in ((0.5, 1), (0.65, 2), (0.95, 3), (0.995, 4)):
        assert latent_dimension(vectors.split(3), share) == wanted


def test_training_lowers_the_loss_and_is_usable_at_every_yield(
    make_images: Any, make_run: Any
) -> None:
    method, run = DFR(**SMALL), make_run((32, 32))
    method.prepare(run)
    losses = []
    for figures in method.fit(make_images(pictures(6)), run):
        losses.append(figures["loss"])
        assert maps_of(method, pictures(2)).isfinite().all()
    assert len(losses) == method.epochs
    assert losses[0] > losses[1] > losses[2]


@pytest.mark.parametrize("keep", [True, False])
def test_equal_seeds_train_equal_methods(keep: bool, fit: Callable[..., DFR]) -> None:
    one, same, other = (fit(pictures(5), seed, keep_features=keep) for seed in (1, 1, 2))
    test = pictures(2, seed=1)
    assert torch.equal(maps_of(one, test), maps_of(same, test))
    assert not torch.equal(maps_of(one, test), maps_of(other, test))


def test_a_map_does_not_depend_on_the_other_images(fit: Callable[..., DFR]) -> None:
    method, test = fit(pictures(5)), pictures(4, seed=1)
    alone = torch.cat([maps_of(method, image[None]) for image in test])
    torch.testing.assert_close(alone, maps_of(method, test), rtol=1e-4, atol=1e-5)
    assert not method.is_transductive


def test_the_order_of_the_layers_changes_nothing(fit: Callable[..., DFR]) -> None:
    train, test = pictures(5), pictures(2, seed=1)
    there, back = fit(train), fit(train, layers=SMALL["layers"][::-1])
    assert torch.equal(maps_of(there, test), maps_of(back, test))


def test_a_planted_defect_scores_higher_where_it_lies(fit: Callable[..., DFR]) -> None:
    method = fit(pictures(8), epochs=6)
    clean = pictures(1, seed=1)
    marked = clean.clone()
    marked[:, :, 18:28, 4:14] += 3
    with torch.inference_mode():
        scores = method.predict(torch.cat([clean, marked])).scores
    assert scores is not None
    assert scores[1] > scores[0]
    row, column = divmod(int(maps_of(method, marked)[0].argmax()), 32)
    assert 14 <= row < 32
    assert 0 <= column < 18


@pytest.mark.parametrize(
    "fields",
    [
        {"padding": "zeros"},
        {"upsample": "nearest"},
        {"kernel": 8},
        {"stride": 2},
        {"batch_norm": False},
        {"latent": 3},
        {"layers": ("relu2_1",)},
        {"freeze_dead_biases": False, "lr": 1e-2},
    ],
)
def test_fields_change_the_computation(fields: dict[str, Any], fit: Callable[..., DFR]) -> None:
    train, test = pictures(5), pictures(2, seed=1)
    usual = maps_of(fit(train, lr=fields.get("lr", SMALL["lr"])), test)
    assert not torch.allclose(maps_of(fit(train, **fields), test), usual, rtol=1e-5)


def test_zero_padding_gives_the_networks_own_activations(make_run: Any) -> None:
    run = make_run((32, 32))
    method = DFR(**{**SMALL, "layers": ("relu1_1", "relu2_1", "relu3_2"), "padding": "zeros"})
    method.prepare(run)
    images = pictures(2)
    with torch.no_grad():
        found = method.taps(images)
        x, wanted = images, []
        for module in run.backbone("tiny", (2,)).net:
            if isinstance(module, nn.MaxPool2d):
                wanted.append(x)
            x = module(x)
    torch.testing.assert_close(list(found.values()), [*wanted, x])


def test_modules_of_any_network_serve_by_their_names(fit: Callable[..., DFR]) -> None:
    train, test = pictures(4), pictures(2, seed=1)
    fields: dict[str, Any] = {"backbone": "resnet10t", "padding": "zeros", "epochs": 1}
    method = fit(train, layers=("layer1", "layer2"), **fields)
    with torch.no_grad():
        found = method.features(test)
        shallow, deep = method.taps.extractor(test)
    assert found.shape == (2, shallow.shape[1] + deep.shape[1], 8, 8)
    assert maps_of(method, test).shape == (2, 32, 32)


def test_networks_with_batch_norm_serve_too(fit: Callable[..., DFR]) -> None:
    method = fit(pictures(4), backbone="tiny_bn", epochs=1)
    assert maps_of(method, pictures(2)).shape == (2, 32, 32)


@pytest.mark.parametrize("fields", [{}, {"latent": 0}, {"batch_norm": False, "latent": 0}])
def test_a_saved_state_predicts_the_same(
    fields: dict[str, Any], fit: Callable[..., DFR], make_run: Any
) -> None:
    method, test = fit(pictures(5), seed=3, **fields), pictures(2, seed=1)
    state = {name: value.clone() for name, value in method.state().items()}
    other = DFR(**{**SMALL, **fields})
    other.prepare(make_run((32, 32), seed=3))
    other.load_state(state)
    assert torch.equal(maps_of(other, test), maps_of(method, test))
    assert set(other.state()) == set(state)


def test_a_state_of_another_kind_is_refused(fit: Callable[..., DFR], make_run: Any) -> None:
    method = fit(pictures(4), epochs=1)
    other = DFR(**{**SMALL, "latent": 4})
    other.prepare(make_run((32, 32)))
    with pytest.raises(MethodError, match="latent=6, the settings say 4"):
        other.load_state(method.state())
    with pytest.raises(MethodError, match="not a DFR model"):
        other.load_state({})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"padding": "mirror"}, "known: reflect, zeros"),
        ({"upsample": "bilinaer"}, "did you mean 'bilinear'"),
        ({"epochs": 0}, "epochs=0 must be above 0"),
        ({"latent": -1}, "latent=-1"),
        ({"latent_variance": 1.0}, r"not in \(0, 1\)"),
        ({"layers": ()}, "layers is empty"),
        ({"layers": ("conv1_1",)}, "are not all relu.* need padding = 'zeros'"),
        ({"layers": ("relu1_2",)}, "no layer 'relu1_2'; did you mean 'relu1_1'"),
        ({"backbone": "no vgg"}, r"Conv2d of kernel \(7, 7\) and is no"),
        ({"kernel": 40, "stride": 40}, "kernel 40 is larger than an image side of 32"),
    ],
)
def test_settings_that_cannot_work_are_refused(
    fields: dict[str, Any], message: str, fit: Callable[..., DFR]
) -> None:
    with pytest.raises(MethodError, match=message):
        fit(pictures(3), **fields)


def test_images_that_the_deepest_layer_cannot_reflect_are_refused(make_run: Any) -> None:
    method = DFR(**{**SMALL, "layers": ("relu5_1",)})
    with pytest.raises(MethodError, match="at least 32 pixels"):
        method.prepare(make_run((31, 64)))


def test_a_diverged_training_is_named_with_its_epoch(fit: Callable[..., DFR]) -> None:
    train = pictures(4)
    train[2, 0, 3, 3] = float("nan")
    with pytest.raises(MethodError, match=r"loss is nan in epoch 1, step [12] of 2; lower lr"):
        fit(train, batch=2)


def test_features_that_do_not_vary_have_no_components(fit: Callable[..., DFR]) -> None:
    with pytest.raises(MethodError, match="do not vary over 3072 positions"):
        fit(torch.zeros(3, 3, 32, 32), latent=0, stride=1, kernel=1)


def test_cells_that_overlap_repeat_the_edge() -> None:
    aggregation = Aggregation((8, 6), (4, 4), (2, 2), "bilinear")
    x = torch.rand(1, 2, 8, 6, generator=torch.Generator().manual_seed(0))
    padded = functional.pad(x, (1,) * 4, mode="replicate")
    wanted = functional.avg_pool2d(padded, 4, 2)
    assert aggregation.grid == wanted.shape[2:]
    torch.testing.assert_close(aggregation([x]), wanted)
