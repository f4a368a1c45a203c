"""Patch SVDD: embeddings, draws, training, neighbours, maps, saved state, bad input."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import Tensor

from bench.api import MethodError
from bench.plugins.methods.patchsvdd import PatchSVDD
from bench.plugins.methods.patchsvdd.network import Encoder, PositionClassifier, draw_network
from bench.plugins.methods.patchsvdd.sampling import STEPS, Sampler, draw_near, draw_neighbours
from bench.plugins.methods.patchsvdd.scoring import cover_map, uncovered
from bench.plugins.methods.patchsvdd.training import losses, parameters, train_step

if TYPE_CHECKING:
    from collections.abc import Callable

SMALL: dict[str, Any] = {
    "embedding": 4,
    "width": 1 / 8,
    "epochs": 1,
    "repeats": 1,
    "batch": 4,
    "lr": 1e-3,
}
WIDTHS = (4, 5, 6, 7, 6, 5, 4)

Fit = Any
"""`fit(train, **fields)`: the fitted method."""


def pixels(count: int, height: int = 64, width: int = 80, seed: int = 0) -> Tensor:
    """Images that share a pattern."""
    shared = torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(99))
    generator = torch.Generator().manual_seed(seed)
    return shared + 0.1 * torch.randn(count, 3, height, width, generator=generator)


@pytest.fixture
def fit(make_images: Any, make_run: Any) -> Callable[..., Any]:
    def fit(train: Tensor, seed: int = 0, **fields: Any) -> Any:
        run = make_run((train.shape[-2], train.shape[-1]), seed=seed)
        method = PatchSVDD(**{**SMALL, **fields})
        method.prepare(run)
        assert len(list(method.fit(make_images(train), run))) == method.epochs
        return method

    return fit


def encoder(length: int = 3) -> Any:
    net = Encoder(length, WIDTHS, hidden=8)
    draw_network(net, torch.Generator().manual_seed(1))
    return net


@pytest.mark.parametrize("strides", [(16, 4), (6, 10)])
@torch.no_grad()
def test_the_dense_pass_equals_patch_by_patch(strides: tuple[int, int]) -> None:
    net = encoder()
    images = torch.randn(2, 3, 76, 84, generator=torch.Generator().manual_seed(0))
    for side, stride, found in zip(
        (64, 32), strides, net.embed_densely(images, strides), strict=True
    ):
        rows, columns = (range(0, n - side + 1, stride) for n in (76, 84))
        assert found.shape == (2, len(rows), len(columns), 3)
        for i, y in enumerate(rows):
            for j, x in enumerate(columns):
                wanted = net.embed(images[..., y : y + side, x : x + side])
                torch.testing.assert_close(found[:, i, j], wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("side", [32, 64])
def test_neighbours_lie_in_the_direction_that_is_told_unless_clipped(side: int) -> None:
    draw = np.random.RandomState(0)
    size = (200, 260)
    told = set()
    for _ in range(300):
        first, second, direction = draw_neighbours(draw, side, size)
        told.add(direction)
        for a, b, step, pixels_ in zip(first, second, STEPS[direction], size, strict=True):
            assert 0 <= a <= pixels_ - side
            assert 0 <= b <= pixels_ - side
            if b not in (0, pixels_ - side):
                assert (b - a) * step >= 3 * side // 4 if step else a == b
                assert abs(b - a) < side
    assert told == set(range(8))


@pytest.mark.parametrize("side", [32, 64])
def test_near_patches_are_a_pixel_or_two_apart(side: int) -> None:
    draw = np.random.RandomState(0)
    steps = set()
    for _ in range(300):
        first, second = draw_near(draw, side, (200, 260))
        steps.add((second[0] - first[0], second[1] - first[1]))
    reach = side // 32
    assert max(max(abs(y), abs(x)) for y, x in steps) == reach
    # Nothing stays in place but at the border, where a step is clipped.
    assert len(steps - {(0, 0)}) == (2 * reach + 1) ** 2 - 1


def test_without_noise_the_patches_are_cut_from_the_picture_of_the_index() -> None:
    pictures = torch.arange(3.0).view(3, 1, 1, 1).expand(3, 3, 70, 70)
    sampler = Sampler(pictures, np.random.RandomState(0), color_shift=0, noise=0)
    for side, pairs in sampler.batch([1, 5, 3]).items():
        for patches in (pairs.first, pairs.second, pairs.near, pairs.near_to):
            assert patches.shape == (3, 3, side, side)
            assert patches[:, 0, 0, 0].tolist() == [1, 2, 0]


def test_a_step_moves_all_but_the_classifiers_last_weights() -> None:
    net, classifiers = encoder(), {side: PositionClassifier(3) for side in (64, 32)}
    modules = {"encoder": net, **{str(side): c for side, c in classifiers.items()}}
    before = {
        f"{name}.{key}": value.clone()
        for name, module in modules.items()
        for key, value in module.state_dict().items()
    }
    sampler = Sampler(torch.randn(2, 3, 70, 70), np.random.RandomState(0))
    optimizer = torch.optim.Adam(parameters(net, classifiers), 1e-3)
    train_step(net, classifiers, sampler.batch(range(4)), 1.0, optimizer)
    still = {
        f"{name}.{key}"
        for name, module in modules.items()
        for key, value in module.state_dict().items()
        if torch.equal(value, before[f"{name}.{key}"])
    }
    assert still == {"64.fc3.weight", "32.fc3.weight"}


def test_the_total_is_the_sum_of_both_sides_with_the_closeness_weighted() -> None:
    net, classifiers = encoder(), {side: PositionClassifier(3) for side in (64, 32)}
    pairs = Sampler(torch.randn(2, 3, 70, 70), np.random.RandomState(0)).batch(range(4))
    found = losses(net, classifiers, pairs, 0.25)
    wanted = sum(found.position.values()) + 0.25 * sum(found.closeness.values())
    torch.testing.assert_close(found.total, wanted)


@pytest.mark.parametrize(
    ("size", "side", "stride"), [((64, 80), 32, 4), ((64, 80), 64, 16), ((41, 30), 8, 6)]
)
def test_a_pixel_is_the_mean_of_the_patches_that_cover_it(
    size: tuple[int, int], side: int, stride: int
) -> None:
    rows, columns = ((n - side) // stride + 1 for n in size)
    distances = torch.rand(2, rows, columns, generator=torch.Generator().manual_seed(0))
    total, count = torch.zeros(2, *size, dtype=torch.float64), torch.zeros(size)
    for i in range(rows):
        for j in range(columns):
            part = np.s_[..., i * stride : i * stride + side, j * stride : j * stride + side]
            total[part] += distances[:, i, j, None, None]
            count[part] += 1
    wanted = total / count.clamp(min=1)
    torch.testing.assert_close(cover_map(distances, side, stride, size), wanted)
    assert (count[:, 0] == 0).sum() == uncovered(size[0], side, stride)


@pytest.mark.parametrize("neighbours", [1, 3])
def test_distances_equal_the_definition(neighbours: int, fit: Fit) -> None:
    method = fit(pixels(3), neighbours=neighbours)
    test = pixels(2, seed=1)
    grids = method.encoder.embed_densely(method._standard(test), method.strides)
    for found, grid, gallery in zip(
        method.raw(test), grids, (method.gallery_64, method.gallery_32), strict=True
    ):
        all_of_them = torch.cdist(grid.double().flatten(0, 2), gallery.double())
        wanted = all_of_them.sort(dim=1).values[:, :neighbours].mean(1)
        torch.testing.assert_close(found.flatten().double(), wanted, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("combine", ["mult", "sum", "64", "32"])
def test_both_maps_are_combined_as_told(combine: str, fit: Fit) -> None:
    method = fit(pixels(3), combine=combine)
    test = pixels(2, seed=1)
    large, small = (
        cover_map(distances, side, stride, (64, 80))
        for distances, side, stride in zip(method.raw(test), (64, 32), (16, 4), strict=True)
    )
    wanted = {"mult": large * small, "sum": large + small, "64": large, "32": small}[combine]
    found = method.predict(test)
    torch.testing.assert_close(found.maps, wanted.float())
    assert torch.equal(found.scores, found.maps.flatten(1).amax(1))


def test_the_galleries_order_and_duplicates_change_nothing(fit: Fit) -> None:
    method = fit(pixels(3))
    test = pixels(2, seed=1)
    before = method.predict(test).maps
    for name in ("gallery_64", "gallery_32"):
        gallery = getattr(method, name)
        order = torch.randperm(len(gallery), generator=torch.Generator().manual_seed(0))
        setattr(method, name, torch.cat([gallery[order], gallery[:5]]))
    assert torch.equal(method.predict(test).maps, before)


def test_a_training_image_is_at_no_distance(fit: Fit) -> None:
    train = pixels(3)
    method = fit(train)
    with torch.no_grad():
        known, new = method.predict(train).maps, method.predict(pixels(3, seed=1)).maps
    assert float(known.amax()) < 1e-3 * float(new.amax())


def test_a_subset_keeps_every_nth_row_and_column(fit: Fit) -> None:
    whole, part = fit(pixels(2)), fit(pixels(2), train_subset=2)
    grid = whole.gallery_32.view(2, 9, 13, 4)[:, ::2, ::2]
    assert torch.equal(part.gallery_32, grid.flatten(0, 2))


def test_an_epoch_before_training_is_scored_where_wanted(make_images: Any, make_run: Any) -> None:
    run = make_run((64, 80))
    method = PatchSVDD(**{**SMALL, "epochs": 2}, untrained_epoch=True)
    method.prepare(run)
    epochs = method.fit(make_images(pixels(2)), run)
    assert next(epochs) == {}
    first = method.predict(pixels(1, seed=1)).maps
    (trained,) = epochs
    assert set(trained) == {"loss", "position", "svdd"}
    assert not torch.equal(method.predict(pixels(1, seed=1)).maps, first)


def test_a_planted_defect_is_found(fit: Fit) -> None:
    method = fit(pixels(6), repeats=4)
    clean = pixels(1, seed=1)
    marked = clean.clone()
    marked[:, :, 30:50, 8:28] = 4
    good, bad = method.predict(clean), method.predict(marked)
    assert bad.scores[0] > good.scores[0]
    row, column = divmod(int(bad.maps[0].argmax()), 80)
    assert 20 <= row < 60
    assert column < 40


def test_an_images_map_does_not_depend_on_its_batch(fit: Fit) -> None:
    method = fit(pixels(3))
    test = pixels(3, seed=1)
    together = method.predict(test).maps
    for index in range(3):
        alone = method.predict(test[index : index + 1]).maps[0]
        torch.testing.assert_close(alone, together[index], rtol=1e-3, atol=1e-7)


def test_the_same_seed_gives_the_same_maps(fit: Fit) -> None:
    test = pixels(2, seed=1)
    one, same, other = fit(pixels(3)), fit(pixels(3)), fit(pixels(3), seed=1)
    assert torch.equal(one.predict(test).maps, same.predict(test).maps)
    assert not torch.equal(one.predict(test).maps, other.predict(test).maps)


def test_a_saved_state_predicts_the_same(fit: Fit, make_run: Any) -> None:
    method = fit(pixels(3), seed=3)
    test = pixels(2, seed=1)
    other = PatchSVDD(**SMALL)
    other.prepare(make_run((64, 80), seed=4))
    other.load_state({name: value.clone() for name, value in method.state().items()})
    assert torch.equal(other.predict(test).maps, method.predict(test).maps)


def test_a_state_of_another_embedding_is_refused(fit: Fit, make_run: Any) -> None:
    method = fit(pixels(3))
    other = PatchSVDD(**{**SMALL, "embedding": 6})
    other.prepare(make_run((64, 80)))
    with pytest.raises(MethodError, match=r"gallery_64 of the saved state is \(6, 4\), expected"):
        other.load_state(method.state())


def test_images_of_another_size_than_in_training_are_refused(fit: Fit) -> None:
    method = fit(pixels(3))
    with pytest.raises(MethodError, match="images of 80x80, but the model was fitted on 64x80"):
        method.predict(pixels(1, 80, 80))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"combine": "max"}, "combine='max'; known: 32, 64, mult, sum"),
        ({"repeats": 0}, "repeats=0 must be above 0"),
        ({"noise": -1.0}, "noise=-1.0 must not be below 0"),
        ({"strides": (16, 3)}, "give two even numbers above 0"),
        ({"strides": (16,)}, "give two even numbers above 0"),
    ],
)
def test_settings_that_cannot_work_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(MethodError, match=message):
        PatchSVDD(**fields)


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ((100, 80), "stride 16 leave 4 of 100 pixels of the images' height uncovered"),
        ((64, 63), "leave 63 of 63 pixels of the images' width uncovered"),
    ],
)
def test_images_that_the_patches_do_not_tile_are_refused(
    size: tuple[int, int], message: str, make_run: Any
) -> None:
    with pytest.raises(MethodError, match=message):
        PatchSVDD(**SMALL).prepare(make_run(size))


def test_more_neighbours_than_training_patches_are_refused(fit: Fit) -> None:
    with pytest.raises(MethodError, match="there are 4 training patches; choose 1 to 4"):
        fit(pixels(2), neighbours=5)


def test_a_loss_that_is_not_finite_is_named(fit: Fit) -> None:
    with pytest.raises(MethodError, match="patchsvdd: loss nan in epoch"):
        fit(pixels(3) * float("inf"))
