"""PatchCore as a whole: the definition, batches, order of images, saved state, bad settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor

from bench.api import MethodError
from bench.blocks.backbone import build_backbone
from bench.blocks.smoothing import upsample_and_smooth
from bench.plugins.methods.patchcore import PatchCore

if TYPE_CHECKING:
    from collections.abc import Callable

SMALL: dict[str, Any] = {
    "backbone": "resnet10t",
    "layers": (1, 2),
    "layer_dimensions": 48,
    "dimensions": 40,
    "projection": 16,
}


def pixels(count: int, height: int = 64, width: int = 64, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    shared = torch.randn(1, 3, height, width, generator=generator)
    return shared + 0.3 * torch.randn(count, 3, height, width, generator=generator)


@pytest.fixture
def fit(make_images: Any, make_run: Any) -> Callable[..., PatchCore]:
    def fit(train: Tensor, seed: int = 0, **fields: Any) -> PatchCore:
        run = make_run((train.shape[-2], train.shape[-1]), seed=seed)
        method = PatchCore(**{**SMALL, **fields})
        method.prepare(run)
        assert list(method.fit(make_images(train), run)) == [{}]
        return method

    return fit


def scores(method: PatchCore, images: Tensor) -> Tensor:
    found: Tensor | None = method.predict(images).scores
    assert found is not None
    return found


def embedded(method: PatchCore, images: Tensor) -> Tensor:
    """(B, cells, dimensions) in float64."""
    embedding: Tensor = method._embed(images)
    return embedding.double().flatten(1, 2)


def to_memory(method: PatchCore, images: Tensor) -> Tensor:
    """(B, cells, kept) distances to the memory bank, one subtraction for each pair."""
    memory: Tensor = method.memory.double()
    return (embedded(method, images)[:, :, None] - memory).square().sum(3).sqrt()


@pytest.mark.parametrize("neighbours", [1, 3])
@pytest.mark.parametrize("squared", [True, False])
def test_patch_scores_equal_the_definition(
    neighbours: int, squared: bool, fit: Callable[..., PatchCore]
) -> None:
    method = fit(pixels(4), neighbours=neighbours, squared=squared)
    test = pixels(2, seed=1)
    near = to_memory(method, test).sort(2).values[..., :neighbours]
    wanted = (near.square() if squared else near).mean(2).view(2, 16, 16)
    found = method.raw(test)
    torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=0)
    prediction = method.predict(test)
    assert torch.equal(scores(method, test), found.amax((1, 2)))
    assert torch.equal(prediction.maps, upsample_and_smooth(found, (64, 64), 4.0))


@pytest.mark.parametrize("count", [1, 2, 9])
def test_image_scores_of_the_paper_equal_the_definition(
    count: int, fit: Callable[..., PatchCore]
) -> None:
    method = fit(pixels(4), image_score="paper", reweight_neighbours=count, neighbours=2)
    test = pixels(3, seed=1)
    found = scores(method, test)
    memory = method.memory.double()
    for image, distances in enumerate(to_memory(method, test)):
        worst = int(distances.min(1).values.argmax())
        member = int(distances[worst].argmin())
        around = (memory - memory[member]).norm(dim=1).argsort()[:count]
        share = torch.softmax(distances[worst][around], 0)[0]  # the nearest to a member is itself
        weight = 1 - share if count > 1 else 1
        wanted = float(distances[worst, member] * weight)
        assert float(found[image]) == pytest.approx(wanted, rel=1e-5)


def test_the_share_of_patches_kept_is_cut_not_rounded(fit: Callable[..., PatchCore]) -> None:
    assert len(fit(pixels(3), coreset=0.0349).memory) == 26  # 0.0349 * 768 = 26.8


@pytest.mark.parametrize("selection", ["approximate", "greedy", "random"])
def test_the_memory_bank_holds_different_training_patches(
    selection: str, fit: Callable[..., PatchCore]
) -> None:
    train = pixels(3)
    method = fit(train, selection=selection)
    known = embedded(method, train).flatten(0, 1).float()
    rows = [int((known - patch).square().sum(1).argmin()) for patch in method.memory]
    torch.testing.assert_close(known[rows], method.memory, rtol=0, atol=1e-6)
    assert len(set(rows)) == len(rows) == 76


def test_the_coreset_covers_better_than_a_random_choice(fit: Callable[..., PatchCore]) -> None:
    train = pixels(4)

    def radius(selection: str) -> float:
        method = fit(train, selection=selection, coreset=0.05)
        return float(to_memory(method, train).amin(2).max())

    assert max(radius("greedy"), radius("approximate")) < radius("random")


@pytest.mark.parametrize(
    "fields", [{"batch": 3}, {"memory_mb": 0}, {"batch": 1, "memory_mb": 0, "coreset": 1.0}]
)
def test_batches_and_the_place_of_features_change_nothing(
    fields: dict[str, Any], fit: Callable[..., PatchCore]
) -> None:
    test = pixels(2, seed=1)
    share = {"coreset": fields.get("coreset", 0.1)}
    one, other = fit(pixels(5), **share), fit(pixels(5), **fields)
    torch.testing.assert_close(one.raw(test), other.raw(test), rtol=1e-4, atol=1e-6)


def test_an_images_map_does_not_depend_on_its_batch(fit: Callable[..., PatchCore]) -> None:
    test = pixels(5, seed=1)
    method = fit(pixels(4), image_score="paper")
    together = method.predict(test)
    assert together.scores is not None
    for i in range(5):
        alone = method.predict(test[i : i + 1])
        assert alone.scores is not None
        torch.testing.assert_close(alone.maps[0], together.maps[i], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(alone.scores[0], together.scores[i], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("fields", [{"coreset": 1.0}, {"selection": "greedy"}])
def test_the_order_of_training_images_changes_nothing(
    fields: dict[str, Any], fit: Callable[..., PatchCore]
) -> None:
    train, test = pixels(6), pixels(2, seed=1)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    one, other = fit(train, **fields), fit(train[order], **fields)
    torch.testing.assert_close(one.raw(test), other.raw(test), rtol=1e-5, atol=1e-6)


def test_duplicates_of_a_training_image_change_nothing_where_all_is_kept(
    fit: Callable[..., PatchCore],
) -> None:
    train, test = pixels(4), pixels(2, seed=1)
    one, other = fit(train, coreset=1.0), fit(torch.cat((train, train[1:3])), coreset=1.0)
    torch.testing.assert_close(one.raw(test), other.raw(test), rtol=1e-5, atol=1e-6)


def test_a_training_image_has_no_anomaly_where_all_is_kept(fit: Callable[..., PatchCore]) -> None:
    train = pixels(4)
    method = fit(train, coreset=1.0)
    assert float(method.raw(train).max()) < 1e-9
    assert float(method.raw(pixels(1, seed=1)).min()) > 1e-6


def test_a_planted_defect_is_found(fit: Callable[..., PatchCore]) -> None:
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


def test_images_need_not_be_square_and_may_have_another_size_than_in_training(
    fit: Callable[..., PatchCore],
) -> None:
    method = fit(pixels(3, 64, 96))
    assert method.predict(pixels(2, 64, 96, seed=1)).maps.shape == (2, 64, 96)
    assert method.raw(pixels(2, 96, 64, seed=1)).shape == (2, 24, 16)


def test_layers_whose_maps_do_not_tile_are_interpolated(fit: Callable[..., PatchCore]) -> None:
    assert fit(pixels(2, 72, 72), layers=(2, 3)).raw(pixels(1, 72, 72)).shape == (1, 9, 9)


def test_the_draws_depend_on_the_seed_alone(fit: Callable[..., PatchCore], make_run: Any) -> None:
    method = PatchCore(**SMALL)
    method.prepare(make_run())
    one, same, other = (method._draw(500, make_run(seed=seed)) for seed in (0, 0, 1))
    assert torch.equal(one.rows, same.rows)
    assert not torch.equal(one.rows, other.rows)
    for draws in (one, same, other):
        assert draws.projection is not None
        assert float(draws.projection.abs().max()) <= 40**-0.5
        assert draws.projection.shape == (16, 40)
    assert one.projection is not None
    assert same.projection is not None
    assert torch.equal(one.projection, same.projection)


def test_a_projection_to_the_width_of_a_patch_is_left_out(make_run: Any) -> None:
    method = PatchCore(**{**SMALL, "projection": 40})
    method.prepare(make_run())
    assert method._draw(500, make_run()).projection is None


@pytest.mark.parametrize("score", ["max", "paper"])
def test_a_saved_state_predicts_the_same(
    score: str, fit: Callable[..., PatchCore], make_run: Any
) -> None:
    test = pixels(2, seed=1)
    method = fit(pixels(4), image_score=score)
    state = {name: tensor.clone() for name, tensor in method.state().items()}
    other = PatchCore(**SMALL, image_score=score)
    other.prepare(make_run(seed=4))
    other.load_state(state)
    assert torch.equal(other.predict(test).maps, method.predict(test).maps)
    assert torch.equal(scores(other, test), scores(method, test))
    assert {name for name in state if not name.startswith("extractor.")} == {"memory"}


def test_a_state_of_another_kind_is_refused(fit: Callable[..., PatchCore], make_run: Any) -> None:
    method = fit(pixels(2))
    other = PatchCore(**{**SMALL, "dimensions": 30})
    other.prepare(make_run())
    with pytest.raises(MethodError, match="has 40 dimensions, the settings say 30"):
        other.load_state(method.state())
    with pytest.raises(MethodError, match="no memory; not a PatchCore model"):
        other.load_state({"mean": method.memory})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"coreset": 0.0}, r"coreset = 0\.0; it is a share"),
        ({"coreset": 1.5}, r"coreset = 1\.5; it is a share"),
        ({"coreset": 0.001}, r"keeps 0 of the 512 patches of 2 training images, fewer than"),
        (
            {"coreset": 0.01, "neighbours": 9},
            r"keeps 5 .* fewer than neighbours = 9; raise coreset",
        ),
        (
            {"coreset": 0.01, "image_score": "paper"},
            r"keeps 5 .* fewer than reweight_neighbours = 9",
        ),
        ({"patch": 4}, r"patch = 4; it must be odd"),
        ({"dimensions": 0}, r"must be positive"),
        ({"neighbours": 0}, r"neighbours = 0; it must be at least 1"),
        ({"start_points": 0}, r"start_points = 0; it must be at least 1"),
        ({"projection": -1}, r"projection = -1; it must be at least 1"),
        ({"layers": (2, 1)}, r"8x8, 16x16: the first layer gives the grid"),
        ({"layers": (1, 7)}, r"layer 7 requested; choose layers from 0 to 4"),
    ],
)
def test_settings_that_cannot_work_are_refused_before_an_image_is_read(
    fields: dict[str, Any], message: str, make_images: Any, make_run: Any
) -> None:
    class Unread(make_images):  # type: ignore[misc]
        def batches(self, *_: Any, **__: Any) -> Any:
            raise AssertionError("training images were read")

    def train() -> None:
        run = make_run()
        run.backbone = build_backbone
        method = PatchCore(**{**SMALL, **fields})
        method.prepare(run)
        list(method.fit(Unread(pixels(2)), run))

    with pytest.raises(MethodError, match=message):
        train()


def test_images_with_nan_are_named(fit: Callable[..., PatchCore]) -> None:
    train = pixels(5)
    train[4, 0, 3, 3] = float("nan")
    with pytest.raises(MethodError, match="training images 3 to 4 are not finite"):
        fit(train, batch=3)
