"""SPADE as a whole: the definition, galleries in a file, batches, order, saved state."""

from __future__ import annotations

import shutil
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor
from torch.nn.functional import interpolate

from bench.api import MethodError
from bench.blocks.backbone import build_backbone
from bench.plugins.methods.spade import SPADE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SMALL: dict[str, Any] = {"backbone": "resnet10t", "neighbours": 3}


def pixels(count: int, height: int = 64, width: int = 64, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    shared = torch.randn(1, 3, height, width, generator=generator)
    return shared + 0.3 * torch.randn(count, 3, height, width, generator=generator)


@pytest.fixture
def fit(make_images: Any, make_run: Any) -> Callable[..., SPADE]:
    def fit(train: Tensor, **fields: Any) -> SPADE:
        run = make_run((train.shape[-2], train.shape[-1]))
        method = SPADE(**{**SMALL, **fields})
        method.prepare(run)
        assert list(method.fit(make_images(train), run)) == [{}]
        return method

    return fit


def scores(method: SPADE, images: Tensor) -> Tensor:
    found: Tensor | None = method.predict(images).scores
    assert found is not None
    return found


def cells(feature: Tensor) -> Tensor:
    """(B, C, h, w) -> (B, h w, C)."""
    return feature.flatten(2).transpose(1, 2)


def to_gallery(feature: Tensor, gallery: Tensor, count: int) -> Tensor:
    """(h, w) mean distance to the nearest cells of some images, one subtraction for each pair."""
    known = cells(gallery).flatten(0, 1).double()
    new = cells(feature[None])[0].double()
    distances = torch.stack([(known - one).square().sum(1).sqrt() for one in new])
    return distances.sort(1).values[:, :count].mean(1).view(feature.shape[1:])


def by_the_definition(
    method: SPADE, train: Tensor, test: Tensor
) -> tuple[Tensor, list[list[Tensor]], Tensor]:
    """Image scores, distances by image and layer, and maps; in float64 but for the features."""
    *known, last = method.extractor(train)
    *new, new_last = method.extractor(test)
    if method.combine == "joined":
        known, new = [joined(known)], [joined(new)]
    pooled, queries = (x.double().mean((2, 3)) for x in (last, new_last))
    image_scores, distances, maps = [], [], []
    for image in range(len(test)):
        apart = (pooled - queries[image]).square().sum(1)
        near = apart.argsort()[: method.neighbours]
        chosen = apart[near] if method.image_score == "squared" else apart[near].sqrt()
        image_scores.append(chosen.mean())
        layers = [
            to_gallery(feature[image], gallery[near], method.feature_neighbours)
            for feature, gallery in zip(new, known, strict=True)
        ]
        distances.append(layers)
        size = (test.shape[-2], test.shape[-1])
        up = [interpolate(d[None, None], size=size, mode="bilinear")[0, 0] for d in layers]
        maps.append(gaussian_filter(torch.stack(up).mean(0).numpy(), sigma=method.sigma))
    return torch.stack(image_scores), distances, torch.from_numpy(np.stack(maps))


def joined(features: Sequence[Tensor]) -> Tensor:
    size = features[0].shape[2:]
    return torch.cat([interpolate(f, size=size, mode="bilinear") for f in features], 1)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"neighbours": 1, "feature_neighbours": 3},
        {"neighbours": 5, "image_score": "squared"},
        {"combine": "joined"},
        {"layers": (2, 3), "pooled_layer": 1, "sigma": 2.0},
    ],
)
def test_scores_distances_and_maps_equal_the_definition(
    fields: dict[str, Any], fit: Callable[..., SPADE]
) -> None:
    train, test = pixels(5), pixels(2, seed=1)
    method = fit(train, **fields)
    wanted_scores, wanted, wanted_maps = by_the_definition(method, train, test)
    found = method.raw(test)
    assert len(found) == len(wanted[0])
    for image, layers in enumerate(wanted):
        for distances, layer in zip(found, layers, strict=True):
            torch.testing.assert_close(distances[image].double(), layer, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(scores(method, test).double(), wanted_scores, rtol=1e-5, atol=0)
    maps = method.predict(test).maps
    torch.testing.assert_close(maps.double(), wanted_maps, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("fields", [{"batch": 2}, {"memory_mb": 0}, {"memory_mb": 0, "batch": 1}])
def test_batches_and_the_place_of_the_gallery_change_nothing(
    fields: dict[str, Any], fit: Callable[..., SPADE]
) -> None:
    test = pixels(2, seed=1)
    one, other = fit(pixels(5)), fit(pixels(5), **fields)
    for a, b in zip(one.raw(test), other.raw(test), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(scores(one, test), scores(other, test), rtol=1e-4, atol=0)


@pytest.mark.parametrize("combine", ["mean", "joined"])
def test_an_images_map_does_not_depend_on_its_batch(
    combine: str, fit: Callable[..., SPADE]
) -> None:
    test = pixels(5, seed=1)
    method = fit(pixels(6), combine=combine)
    together = method.predict(test)
    assert together.scores is not None
    for i in range(5):
        alone = method.predict(test[i : i + 1])
        assert alone.scores is not None
        torch.testing.assert_close(alone.maps[0], together.maps[i], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(alone.scores[0], together.scores[i], rtol=1e-5, atol=0)


def test_the_order_of_training_images_changes_nothing(fit: Callable[..., SPADE]) -> None:
    train, test = pixels(6), pixels(2, seed=1)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    one, other = fit(train), fit(train[order])
    torch.testing.assert_close(one.predict(test).maps, other.predict(test).maps)
    torch.testing.assert_close(scores(one, test), scores(other, test))


def test_duplicates_of_training_images_change_no_distance_to_the_nearest(
    fit: Callable[..., SPADE],
) -> None:
    train, test = pixels(4), pixels(2, seed=1)
    twice = torch.cat((train, train))
    one, other = fit(train, neighbours=1), fit(twice, neighbours=1)
    torch.testing.assert_close(scores(one, test), scores(other, test))
    # All images and all of them twice are the same gallery.
    one, other = fit(train, neighbours=4), fit(twice, neighbours=8)
    torch.testing.assert_close(one.predict(test).maps, other.predict(test).maps)


def test_a_training_image_has_no_anomaly(fit: Callable[..., SPADE]) -> None:
    train = pixels(4)
    method = fit(train, neighbours=1)
    assert float(method.predict(train).maps.max()) < 1e-4
    assert float(scores(method, train).max()) < 1e-4
    assert float(method.predict(pixels(1, seed=1)).maps.min()) > 1e-3


def test_more_nearest_images_leave_smaller_distances(fit: Callable[..., SPADE]) -> None:
    test = pixels(2, seed=1)
    few, many = fit(pixels(6), neighbours=2), fit(pixels(6), neighbours=5)
    for less, more in zip(few.raw(test), many.raw(test), strict=True):
        assert bool((more <= less).all())


def test_dropping_the_rest_leaves_larger_distances(fit: Callable[..., SPADE]) -> None:
    test = pixels(2, seed=1)
    whole, cut = (fit(pixels(8), neighbours=7, drop_rest=drop) for drop in (False, True))
    for less, more in zip(whole.raw(test), cut.raw(test), strict=True):
        assert bool((more >= less).all())
    # 7 images of 4x4 cells: of 112 vectors 100 are compared with.
    assert bool((cut.raw(test)[2] > whole.raw(test)[2]).any())


def test_a_planted_defect_is_found(fit: Callable[..., SPADE]) -> None:
    clean = pixels(11)[10:]
    marked = clean.clone()
    marked[:, :, 40:52, 8:20] += 4
    method = fit(pixels(10))
    good, bad = method.predict(clean), method.predict(marked)
    assert good.scores is not None
    assert bad.scores is not None
    assert bad.scores[0] > good.scores[0]
    row, column = divmod(int(bad.maps[0].argmax()), 64)
    assert 32 <= row < 60
    assert 0 <= column < 28


def test_images_need_not_be_square_or_tile(fit: Callable[..., SPADE]) -> None:
    method = fit(pixels(4, 72, 104))
    assert method.predict(pixels(2, 72, 104, seed=1)).maps.shape == (2, 72, 104)
    shapes = [tuple(d.shape) for d in method.raw(pixels(2, 72, 104, seed=1))]
    assert shapes == [(2, 18, 26), (2, 9, 13), (2, 5, 7)]


@pytest.mark.parametrize("combine", ["mean", "joined"])
def test_a_saved_state_predicts_the_same(
    combine: str, fit: Callable[..., SPADE], make_run: Any
) -> None:
    test = pixels(2, seed=1)
    method = fit(pixels(4), combine=combine, memory_mb=0)
    state = {name: tensor.clone() for name, tensor in method.state().items()}
    other = SPADE(**SMALL, combine=combine)
    other.prepare(make_run(seed=4))
    other.load_state(state)
    assert torch.equal(other.predict(test).maps, method.predict(test).maps)
    names = {name for name in state if not name.startswith("extractor.")}
    assert names == {"gallery", "pooled"}


def test_a_state_of_another_kind_is_refused(fit: Callable[..., SPADE], make_run: Any) -> None:
    method = fit(pixels(3))
    other = SPADE(**SMALL, layers=(1, 2))
    other.prepare(make_run())
    with pytest.raises(MethodError, match=r"has 28672 features of each image, these .* 24576"):
        other.load_state(method.state())
    with pytest.raises(MethodError, match="no gallery; not a SPADE model"):
        other.load_state({"pooled": method.pooled})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"neighbours": 5}, r"neighbours = 5, but there are 4 training images; choose 1 to 4"),
        ({"neighbours": 0}, r"neighbours = 0; it must be at least 1"),
        ({"feature_neighbours": 0}, r"feature_neighbours = 0; it must be at least 1"),
        (
            {"feature_neighbours": 49},
            r"3 neighbours have 48 cells of 4x4 maps, of which 48 are compared with",
        ),
        ({"drop_rest": True}, r"48 cells of 4x4 maps, of which 0 .* set drop_rest to false"),
        ({"layers": (1, 7)}, r"layer 7 requested; choose layers from 0 to 4"),
        ({"pooled_layer": 9}, r"layer 9 requested; choose layers from 0 to 4"),
        ({"memory_mb": 0}, r"gallery"),
    ],
)
def test_settings_that_cannot_work_are_refused_before_an_image_is_read(
    fields: dict[str, Any],
    message: str,
    make_images: Any,
    make_run: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Unread(make_images):  # type: ignore[misc]
        def batches(self, *_: Any, **__: Any) -> Any:
            raise AssertionError("training images were read")

    def train() -> None:
        run = make_run()
        run.backbone = build_backbone
        method = SPADE(**{**SMALL, **fields})
        method.prepare(run)
        list(method.fit(Unread(pixels(4)), run))

    # A disk with room for 1000 bytes, for the gallery that must go there.
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(MethodError, match=message):
        train()


def test_images_with_nan_are_named(fit: Callable[..., SPADE]) -> None:
    train = pixels(5)
    train[4, 0, 3, 3] = float("nan")
    with pytest.raises(MethodError, match="training images 3 to 4 are not finite"):
        fit(train, batch=3)
