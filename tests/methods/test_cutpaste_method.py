"""CutPaste as the harness uses it: variants, densities, maps, the control, and bad input."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.covariance import LedoitWolf
from sklearn.neighbors import KernelDensity
from torch import Tensor

from bench.api import MethodError
from bench.plugins.methods.cutpaste import CutPaste, _inputs, _order
from bench.plugins.methods.cutpaste.augment import Draws, Shapes, cut_paste, scar
from bench.plugins.methods.cutpaste.localise import gaussian_window, patch_map, patches

if TYPE_CHECKING:
    from collections.abc import Callable

SMALL: dict[str, Any] = {
    "network": "test_resnet",
    "steps": 2,
    "steps_per_epoch": 1,
    "batch": 4,
    "head_width": 16,
    "projection": 8,
}
SHAPES = Shapes((0.02, 0.15), 0.3, (2, 16), (10, 25), 45, 0.1)


def pictures(count: int, size: int = 64, seed: int = 0) -> Tensor:
    """Smooth noise, a little different in each image: (count, 3, size, size)."""
    rng = torch.Generator().manual_seed(seed)
    coarse = torch.randn(count, 3, size // 8, size // 8, generator=rng) * 0.3
    texture = torch.sin(torch.arange(size) * 0.8).expand(size, size)
    return torch.nn.functional.interpolate(coarse, size=(size, size), mode="bilinear") + texture


@pytest.fixture
def fit(make_images: Any, make_run: Any) -> Callable[..., CutPaste]:
    def fit(train: Tensor, seed: int = 0, **fields: Any) -> CutPaste:
        run = make_run((train.shape[-2], train.shape[-1]), seed=seed)
        method = CutPaste(**{**SMALL, **fields})
        method.prepare(run)
        method.history = list(method.fit(make_images(train), run))
        return method

    return fit


def scores_of(method: CutPaste, images: Tensor) -> Tensor:
    with torch.inference_mode():
        scores: Tensor | None = method.predict(images).scores
    assert scores is not None
    return scores


def embeddings(method: CutPaste, images: Tensor) -> Tensor:
    with torch.no_grad():
        vectors: Tensor = method.classifier(images)[1]
        unit: Tensor = vectors / vectors.norm(dim=1, keepdim=True)
    return unit


@pytest.mark.parametrize("variant", ["3way", "cutpaste", "scar", "union"])
def test_every_variant_gives_scores_and_no_maps(variant: str, fit: Callable[..., CutPaste]) -> None:
    method = fit(pictures(6), variant=variant)
    assert [set(figures) for figures in method.history] == [{"loss", "accuracy", "lr"}] * 2
    prediction = method.predict(pictures(3, seed=1))
    assert prediction.maps is None
    assert prediction.scores is not None
    assert prediction.scores.shape == (3,)
    assert prediction.scores.isfinite().all()
    assert method.classifier.out.out_features == (3 if variant == "3way" else 2)


def test_training_learns_to_tell_copies_from_pictures(fit: Callable[..., CutPaste]) -> None:
    fields = {"variant": "cutpaste", "steps": 15, "steps_per_epoch": 5, "jitter": 0.5}
    losses = [f["loss"] for f in fit(pictures(8), **fields).history]
    assert len(losses) == 3
    assert losses[0] > losses[2]


def test_the_method_is_usable_at_every_yield(make_images: Any, make_run: Any) -> None:
    method, run = CutPaste(**SMALL), make_run()
    method.prepare(run)
    found = [
        scores_of(method, pictures(2, seed=1)) for _ in method.fit(make_images(pictures(6)), run)
    ]
    assert len(found) == method.epochs == 2
    assert not torch.equal(found[0], found[1])


def test_looking_at_scores_between_epochs_changes_no_later_epoch(
    fit: Callable[..., CutPaste], make_images: Any, make_run: Any
) -> None:
    method, run = CutPaste(**SMALL), make_run()
    method.prepare(run)
    for _ in method.fit(make_images(pictures(6)), run):
        scores_of(method, pictures(2, seed=1))
    other = fit(pictures(6))
    assert torch.equal(scores_of(other, pictures(2)), scores_of(method, pictures(2)))


def test_seeds_decide_everything(fit: Callable[..., CutPaste]) -> None:
    test = pictures(2, seed=1)
    one, same, other = (scores_of(fit(pictures(6), seed=s), test) for s in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


@pytest.mark.parametrize("localise", ["none", "gradcam", "patch"])
def test_a_prediction_does_not_depend_on_the_other_images(
    localise: str, fit: Callable[..., CutPaste]
) -> None:
    method = fit(pictures(6), localise=localise, patch=32, stride=16)
    test = pictures(3, seed=1)
    with torch.no_grad():
        together = method.predict(test)
        alone = [method.predict(image[None]) for image in test]
    for i, one in enumerate(alone):
        for ours, theirs in ((one.maps, together.maps), (one.scores, together.scores)):
            assert (ours is None) == (theirs is None)
            if ours is not None and theirs is not None:
                torch.testing.assert_close(ours[0], theirs[i], rtol=1e-4, atol=1e-5)


def test_gaussian_scores_equal_scikit_learns(fit: Callable[..., CutPaste]) -> None:
    train, test = pictures(9), pictures(4, seed=1)
    method = fit(train)
    fitted = LedoitWolf().fit(embeddings(method, train).double().numpy())
    wanted = np.sqrt(fitted.mahalanobis(embeddings(method, test).double().numpy()))
    np.testing.assert_allclose(scores_of(method, test).numpy(), wanted, rtol=1e-4)


def test_kernel_scores_equal_scikit_learns(fit: Callable[..., CutPaste]) -> None:
    train, test = pictures(6), pictures(4, seed=1)
    method = fit(train, density="kde", bandwidth=0.3)
    kernels = KernelDensity(bandwidth=0.3).fit(embeddings(method, train).double().numpy())
    wanted = -kernels.score_samples(embeddings(method, test).double().numpy())
    np.testing.assert_allclose(scores_of(method, test).numpy(), wanted, rtol=1e-4)


def test_without_steps_the_network_stays_as_it_came(
    fit: Callable[..., CutPaste], make_run: Any
) -> None:
    method = fit(pictures(6), steps=0, backbone="test_resnet")
    assert method.history == [{}]
    assert method.epochs == 1
    theirs = make_run().backbone("test_resnet", (4,)).state_dict()
    ours = method.classifier.encoder.state_dict()
    assert all(torch.equal(ours[name], value) for name, value in theirs.items())
    assert scores_of(method, pictures(2, seed=1)).isfinite().all()


def test_the_weights_of_a_backbone_stand_still_at_first(fit: Callable[..., CutPaste]) -> None:
    before = fit(pictures(6), steps=0, backbone="test_resnet").classifier.encoder.state_dict()
    for steps, moves in ((2, False), (3, True)):
        method = fit(pictures(6), steps=steps, backbone="test_resnet", freeze_steps=2)
        after = method.classifier.encoder.state_dict()
        changed = {k for k, v in after.items() if not torch.equal(v, before[k])}
        assert any(name.endswith("conv1.weight") for name in changed) == moves
        assert any(name.endswith("running_mean") for name in changed)


def test_inputs_stand_kind_by_kind() -> None:
    altered = [[np.full((2, 2, 3), 10 * i + k, np.uint8) for k in range(3)] for i in range(2)]
    found = _inputs(altered, torch.device("cpu"))
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    pixels = (found.mean((2, 3)) * std + mean) * 255
    assert pixels[:, 0].round().tolist() == [0, 10, 1, 11, 2, 12]


def test_a_pass_shows_every_picture_equally_often_and_drops_the_last_batch() -> None:
    order = _order(5, 4, 22, torch.Generator().manual_seed(0))
    first = [next(order) for _ in range(5)]
    counts = np.bincount(np.concatenate(first), minlength=5)
    assert counts.sum() == 20
    assert counts.min() >= 2
    assert counts.max() <= 5
    assert next(order) != first[0]


@pytest.mark.parametrize("size", [(64, 64), (80, 128)])
def test_an_altered_picture_differs_in_one_place_of_a_bounded_size(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(0, 255, (*size, 3), dtype=np.uint8))
    for seed in range(40):
        changed = np.asarray(cut_paste(picture, SHAPES, Draws(seed))) != np.asarray(picture)
        rows, columns = (np.flatnonzero(changed.any((2, axis))) for axis in (1, 0))
        area = (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
        assert area <= 0.16 * size[0] * size[1]
        changed = np.asarray(scar(picture, SHAPES, Draws(seed))) != np.asarray(picture)
        rows, columns = (np.flatnonzero(changed.any((2, axis))) for axis in (1, 0))
        assert len(rows) == 0 or max(np.ptp(rows), np.ptp(columns)) <= math.hypot(16, 25) + 2


def test_draws_fill_their_ranges_evenly() -> None:
    values = [Draws(seed).uniform(2, 16) for seed in range(400)]
    assert 2 <= min(values) < 2.5
    assert 15.5 < max(values) < 16
    assert np.mean(values) == pytest.approx(9, abs=0.7)
    orders = {tuple(jitter.order) for s in range(400) if (jitter := Draws(s).jitter(0.1))}
    assert len(orders) == 24


def test_union_draws_either_kind_half_of_the_time(make_run: Any) -> None:
    method = CutPaste(**SMALL, variant="union", jitter=0, picture_jitter=0)
    method.prepare(make_run())
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)
    areas = [
        (np.diff(method._alter(pixels, seed), axis=0) != 0).any(-1).sum() for seed in range(80)
    ]
    # The largest scar has 400 pixels; a rectangle of 2 to 15 % has 82 to 614, half above 348.
    assert 10 <= sum(area > 420 for area in areas) <= 35


def test_maps_of_grad_cam_explain_the_altered_classes(fit: Callable[..., CutPaste]) -> None:
    method = fit(pictures(6), localise="gradcam")
    assert method.needs_gradients
    test = pictures(2, seed=1)
    prediction = method.predict(test)
    assert prediction.maps is not None
    assert prediction.maps.shape == (2, 64, 64)
    assert not prediction.maps.requires_grad
    assert prediction.maps.min() >= 0
    torch.testing.assert_close(prediction.scores, scores_of(fit(pictures(6)), test))
    # By the definition: the derivative of the defect logits, one activation at a time.
    method.classifier.double()
    features = method.classifier.features(test[:1].double())
    step = 1e-6
    weights = torch.zeros(features.shape[1], dtype=torch.float64)
    with torch.no_grad():
        for channel in range(features.shape[1]):
            sums = []
            for sign in (1, -1):
                moved = features.clone()
                moved[0, channel] += sign * step
                sums.append(method.classifier.classify(moved.mean((2, 3)))[0, 1:].sum())
            weights[channel] = (sums[0] - sums[1]) / (2 * step) / features[0, 0].numel()
    wanted = (weights[:, None, None] * features[0]).sum(0).clamp(min=0)
    found = method._explain(features)[0]
    assert wanted.max() > 0
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-6)


def test_a_patch_map_is_the_weighted_mean_of_the_patches_over_a_pixel() -> None:
    rng = torch.Generator().manual_seed(0)
    scores = torch.rand(2, 4, 3, generator=rng)
    found = patch_map(scores, side=8, stride=4, size=(22, 16))
    window = gaussian_window(8)
    for y, x in ((0, 0), (9, 7), (19, 15), (12, 3)):
        above, below = torch.zeros(2, dtype=torch.float64), 0.0
        for row in range(4):
            for column in range(3):
                v, u = y - 4 * row, x - 4 * column
                if 0 <= v < 8 and 0 <= u < 8:
                    above += window[v, u] * scores[:, row, column]
                    below += float(window[v, u])
        torch.testing.assert_close(found[:, y, x].double(), above / below, rtol=1e-5, atol=0)
    assert torch.equal(found[:, 20:], found[:, 19:20].expand(-1, 2, -1))  # behind the last patch
    flat = patch_map(torch.ones(1, 4, 3), side=8, stride=4, size=(20, 16))
    torch.testing.assert_close(flat, torch.ones(1, 20, 16))


def test_patches_are_scored_one_by_one(fit: Callable[..., CutPaste]) -> None:
    fields = {"localise": "patch", "patch": 32, "stride": 16, "fit_stride": 32}
    train, test = pictures(6), pictures(2, seed=1)
    method = fit(train, **fields)
    with torch.inference_mode():
        prediction, found = method.predict(test), method._patch_scores(test)
    assert prediction.scores is None  # the map's maximum
    assert prediction.maps is not None
    assert prediction.maps.shape == (2, 64, 64)
    cells = [train[:, :, y : y + 32, x : x + 32] for y in (0, 32) for x in (0, 32)]
    fitted = LedoitWolf().fit(torch.cat([embeddings(method, c) for c in cells]).double().numpy())
    for row in range(3):
        for column in range(3):
            y, x = 16 * row, 16 * column
            one = embeddings(method, test[:, :, y : y + 32, x : x + 32]).double().numpy()
            wanted = np.sqrt(fitted.mahalanobis(one))
            np.testing.assert_allclose(found[:, row, column].numpy(), wanted, rtol=2e-3)
    assert patches(test, 32, 16).shape == (2, 3, 3, 3, 32, 32)


@pytest.mark.parametrize("density", ["gauss", "kde"])
def test_a_saved_state_predicts_the_same(
    density: str, fit: Callable[..., CutPaste], make_run: Any
) -> None:
    method = fit(pictures(6), density=density)
    state = {name: value.clone() for name, value in method.state().items()}
    other = CutPaste(**SMALL, density=density)
    other.prepare(make_run(seed=4))
    other.load_state(state)
    test = pictures(2, seed=1)
    assert torch.equal(scores_of(other, test), scores_of(method, test))
    with pytest.raises(MethodError, match="another method or with another density"):
        CutPaste(**SMALL, density="kde" if density == "gauss" else "gauss").load_state(state)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"batch": 0}, "batch = 0 must be above 0"),
        ({"steps": -1}, "steps = -1 must not be below 0"),
        ({"jitter": 0.6}, "jitter = 0.6 must be in 0 to 0.5"),
        ({"pass_items": 3}, "pass_items = 3 holds no batch of 4; raise it"),
        ({"area": (0.2, 0.1)}, "a patch is a share of the picture"),
        ({"aspect": 2.0}, "its least aspect ratio at most 1"),
        ({"patch": 33}, "patch = 33 must be even"),
        ({"localise": "gradcam", "steps": 0}, "steps = 0 learns nothing"),
        ({"localise": "patch", "patch": 128}, "64 x 64 pixels are smaller than patch = 128"),
        ({"scar_height": (10.0, 80.0)}, "64 x 64 pixels have no room for a patch of 84"),
    ],
)
def test_settings_that_cannot_work_are_refused(
    fields: dict[str, Any], message: str, fit: Callable[..., CutPaste]
) -> None:
    with pytest.raises(MethodError, match=message):
        fit(pictures(4), **fields)


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        (1, "embeddings of training images are not finite after epoch 1; lower lr"),
        (3, r"the loss is nan in epoch 1, step 2 of 3; lower lr"),
    ],
)
def test_diverged_training_names_its_epoch(
    steps: int, message: str, fit: Callable[..., CutPaste]
) -> None:
    with pytest.raises(MethodError, match=message):
        fit(pictures(4), lr=1e38, steps_per_epoch=steps, steps=3)


def test_equal_training_images_are_refused(fit: Callable[..., CutPaste]) -> None:
    with pytest.raises(MethodError, match="embeddings of all training images are equal"):
        fit(torch.zeros(2, 3, 64, 64), steps=0)
