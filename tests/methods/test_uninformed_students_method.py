"""Uninformed Students: dense passes, patches, losses, calibration, saved state, bad input."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import pad

from bench.api import IMAGENET_MEAN, IMAGENET_STD, MethodError
from bench.plugins.methods.uninformed_students import UninformedStudents
from bench.plugins.methods.uninformed_students.network import LAYERS, PatchNetwork
from bench.plugins.methods.uninformed_students.students import Target, student_step
from bench.plugins.methods.uninformed_students.teacher import (
    PatchSampler,
    compactness,
    metric_learning,
    rotate,
    to_half,
    train_teacher,
)

if TYPE_CHECKING:
    from collections.abc import Callable

SMALL: dict[str, Any] = {
    "backbone": "test_resnet",
    "layer": 3,
    "patches": (17,),
    "students": 2,
    "width": 1 / 16,
    "teacher_epochs": 3,
    "teacher_lr": 1e-3,
    "epochs": 2,
    "lr": 1e-3,
}

Fit = Any
"""`fit(train, **fields)`: the fitted method."""


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pixels(count: int, height: int = 24, width: int = 28, seed: int = 0) -> Tensor:
    """Images that share a pattern."""
    shared = torch.randn(1, 3, height, width, generator=generator(99))
    return shared + 0.3 * torch.randn(count, 3, height, width, generator=generator(seed))


@pytest.fixture
def fit(make_images: Any, make_run: Any) -> Callable[..., Any]:
    def fit(train: Tensor, seed: int = 0, stop: int = 0, **fields: Any) -> Any:
        run = make_run((train.shape[-2], train.shape[-1]), seed=seed)
        method = UninformedStudents(**{**SMALL, **fields})
        method.prepare(run)
        for epoch, figures in enumerate(method.fit(make_images(train), run), start=1):
            assert set(figures) == {f"loss_{patch}" for patch in method.patches}
            if epoch == stop:
                break
        return method

    return fit


def tiny(patch: int, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    return PatchNetwork(patch, [4 + i for i in range(len(LAYERS[patch]))], outputs=5)


@pytest.mark.parametrize("patch", list(LAYERS))
@pytest.mark.parametrize("size", [(7, 10), (9, 5)])
@torch.no_grad()
def test_the_dense_pass_equals_patch_by_patch(patch: int, size: tuple[int, int]) -> None:
    net = tiny(patch)
    images = torch.randn(2, 3, *size, generator=generator())
    found = net.decoded(net.embed_densely(images).permute(0, 2, 3, 1))
    padded = pad(images, [(patch - 1) // 2] * 4)
    for y in range(size[0]):
        for x in range(size[1]):
            wanted = net(padded[..., y : y + patch, x : x + patch])
            torch.testing.assert_close(found[:, y, x], wanted, rtol=1e-5, atol=1e-6)


def test_a_patch_of_another_size_is_refused() -> None:
    with pytest.raises(MethodError, match="patches of 31 pixels; choose among 17, 33, 65"):
        PatchNetwork(31)


def test_a_student_step_is_plain_gradient_descent_on_the_mean_over_pixels(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("bench.plugins.methods.uninformed_students.students.PIXELS", 11)
    teacher, images = tiny(17, 1), torch.randn(1, 3, 8, 9, generator=generator())
    target = Target(teacher, torch.full((5,), 0.1), torch.full((5,), 0.7), True)
    wanted, found = tiny(17), tiny(17)
    with torch.no_grad():
        taught = teacher.embed_densely(images).permute(0, 2, 3, 1).reshape(-1, teacher.embedding)
        goal = (teacher.decoded(taught) - 0.1) / 0.7
    own = wanted.decoded(wanted.embed_densely(images).permute(0, 2, 3, 1).reshape(72, -1))
    loss = (own - goal).square().sum(1).mean()
    optimizer = torch.optim.SGD(wanted.parameters(), 0.1)
    loss.backward()
    optimizer.step()
    stepped = student_step(found, images, taught, target, torch.optim.SGD(found.parameters(), 0.1))
    assert float(stepped) == pytest.approx(float(loss.detach()), rel=1e-6)
    for name, value in found.state_dict().items():
        torch.testing.assert_close(value, wanted.state_dict()[name], rtol=1e-5, atol=1e-6)


def numbered(height: int, width: int) -> Tensor:
    """An image whose pixels tell their position after `to_half`."""
    values = torch.arange(float(height * width)).view(height, width) / (height * width)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
    return (values.expand(3, -1, -1) - mean) / std


def test_patches_are_cut_from_the_picture_and_flipped() -> None:
    image = numbered(20, 23)
    whole = to_half(image)[0]
    sampler = PatchSampler(17, degrees=0)
    corners, flips = set(), set()
    for seed in range(200):
        patch = sampler(image, generator(seed))[0]
        ways = {
            (up, left): patch.flip([a for a, on in ((0, up), (1, left)) if on])
            for up in (False, True)
            for left in (False, True)
        }
        # Of the four ways, the one whose numbers rise along both axes is the one as cut.
        (way,) = [w for w, p in ways.items() if p[0, 0] < p[0, 1] and p[0, 0] < p[1, 0]]
        index = int((whole.flatten() - ways[way][0, 0]).abs().argmin())
        corner = divmod(index, 23)
        torch.testing.assert_close(
            ways[way], whole[corner[0] : corner[0] + 17, corner[1] : corner[1] + 17]
        )
        corners.add(corner)
        flips.add(way)
    assert len(flips) == 4
    assert {c[0] for c in corners} == set(range(4))
    assert {c[1] for c in corners} == set(range(7))


def test_a_rotation_keeps_values_and_brings_black_into_the_corners() -> None:
    patch = torch.rand(3, 17, 17, generator=generator())
    assert torch.equal(rotate(patch, 0.0), patch)
    quarter = rotate(patch, math.pi / 2)
    assert any(torch.equal(quarter, torch.rot90(patch, k, (1, 2))) for k in (1, 3))
    turned = rotate(patch, math.pi / 4)
    assert bool((turned[:, 0, 0] == -1).all())
    assert torch.isin(turned, torch.cat([patch.flatten(), torch.tensor([-1.0])])).all()


def test_a_second_view_lies_a_few_pixels_off() -> None:
    image = numbered(40, 40)
    sampler = PatchSampler(17, flip=False, degrees=0, shift=2)
    for seed in range(50):
        both = sampler(image, generator(seed))
        offsets = ((both[3, 0, 0] - both[0, 0, 0]) / 2 * 1600).round()
        rows = round(float(offsets) / 40)
        assert abs(rows) <= 2
        assert abs(float(offsets) - 40 * rows) <= 2


def test_compactness_is_the_sum_of_squared_correlations_of_pairs() -> None:
    output = torch.randn(5, 9, generator=generator(), dtype=torch.float64)
    correlation = np.corrcoef(output.numpy())
    wanted = sum(correlation[i, j] ** 2 for i in range(5) for j in range(i + 1, 5))
    assert float(compactness(output)) == pytest.approx(wanted, rel=1e-12)
    assert float(compactness(output[:1])) == 0


def test_the_metric_loss_takes_the_nearest_other_patch_as_negative() -> None:
    anchor, positive = torch.randn(2, 4, 3, generator=generator()).double()
    wanted = 0.0
    for i in range(4):
        near = float((anchor[i] - positive[i]).square().sum())
        far = min(
            float((own[i] - anchor[j]).square().sum())
            for own in (anchor, positive)
            for j in range(4)
            if j != i
        )
        wanted += max(0.0, 2.0 + near - far) / 4
    assert float(metric_learning(anchor, positive, 2.0)) == pytest.approx(wanted, rel=1e-12)
    assert float(metric_learning(anchor[:1], positive[:1], 2.0)) == 0


@pytest.mark.parametrize(
    ("losses", "best"), [([1.0, 5.0, 3.0, 4.0], 2), ([1.0, 2.0, 3.0], 1), ([7.0], 0)]
)
def test_the_best_teacher_is_kept_and_the_first_epoch_does_not_count(
    losses: list[float], best: int
) -> None:
    class Trainer:
        """Each epoch sets a weight to its number and reports the loss given."""

        network = tiny(17)
        epoch = -1

        def step(self, _: Tensor) -> Tensor:
            self.epoch += 1
            torch.nn.init.constant_(self.network.decode.bias, self.epoch)
            return torch.tensor([losses[self.epoch], 0.0])

    for keep, wanted in (("best", best), ("last", len(losses) - 1)):
        trainer: Any = Trainer()
        teacher = train_teacher(trainer, [[torch.zeros(1)]] * len(losses), keep)
        assert float(teacher.decode.bias[0]) == wanted
        assert not any(p.requires_grad for p in teacher.parameters())


def test_a_teacher_that_diverges_is_named() -> None:
    class Trainer:
        network = tiny(33)

        def step(self, _: Tensor) -> Tensor:
            return torch.tensor([math.nan, 0.0])

    trainer: Any = Trainer()
    with pytest.raises(MethodError, match="for patches of 33 pixels is nan in epoch 1"):
        train_teacher(trainer, [[torch.zeros(1)]], "best")


def test_both_maps_are_standardised_over_the_calibration_pictures(fit: Fit) -> None:
    train = pixels(5)
    method = fit(train, students=3)
    ((errors, variances),) = method.raw(train)
    for which, maps in enumerate((errors, variances)):
        standard = method._standard(0, which, maps)
        assert float(standard.mean()) == pytest.approx(0, abs=1e-5)
        assert float(standard.std(correction=0)) == pytest.approx(1, rel=1e-5)


def test_calibration_can_have_pictures_of_its_own(fit: Fit) -> None:
    train = pixels(10)
    method = fit(train, calibration="split", held_out=0.3)
    ((errors, _),) = method.raw(train)
    assert float(method._standard(0, 0, errors).mean()) != pytest.approx(0, abs=1e-3)


def test_the_map_is_the_mean_over_scales_of_both_standardised_maps(fit: Fit) -> None:
    method = fit(pixels(4, 34, 34), patches=(17, 33), students=2, epochs=1)
    test = pixels(2, 34, 34, seed=1)
    wanted = torch.zeros(2, 34, 34, dtype=torch.float64)
    for index, maps in enumerate(method.raw(test)):
        for which, one in enumerate(maps):
            wanted += (one - method.offset[index, which]) / method.scale[index, which] / 2
    found = method.predict(test)
    torch.testing.assert_close(found.maps.double(), wanted, rtol=1e-4, atol=1e-4)
    assert torch.equal(found.scores, found.maps.flatten(1).amax(1))


def test_one_student_is_scored_by_its_error(fit: Fit) -> None:
    method = fit(pixels(4), students=1)
    test = pixels(2, seed=1)
    ((errors, variances),) = method.raw(test)
    assert bool((variances == 0).all())
    assert torch.equal(method.predict(test).maps, method._standard(0, 0, errors))


def test_an_epoch_scored_on_the_way_is_that_of_a_shorter_training(fit: Fit) -> None:
    train, test = pixels(4), pixels(2, seed=1)
    stopped, short = fit(train, epochs=3, stop=2), fit(train, epochs=2)
    assert torch.equal(stopped.predict(test).maps, short.predict(test).maps)
    unsaved = fit(train, epochs=3, stop=2).state()
    assert torch.equal(unsaved["scale"], short.state()["scale"])


@pytest.mark.parametrize("fields", [{}, {"descriptor": "embedding", "metric": 1.0}])
def test_a_planted_defect_is_found(fields: dict[str, Any], fit: Fit) -> None:
    method = fit(pixels(8), epochs=6, **fields)
    clean = pixels(1, seed=1)
    marked = clean.clone()
    marked[:, :, 12:20, 4:12] = 4
    good, bad = method.predict(clean), method.predict(marked)
    assert bad.scores[0] > good.scores[0]
    row, column = divmod(int(bad.maps[0].argmax()), 28)
    assert 4 <= row < 24
    assert 0 <= column < 20


def test_an_images_map_does_not_depend_on_its_batch(fit: Fit) -> None:
    method = fit(pixels(4))
    test = pixels(3, seed=1)
    together = method.predict(test).maps
    for index in range(3):
        assert torch.equal(method.predict(test[index : index + 1]).maps[0], together[index])


def test_the_same_seed_gives_the_same_maps(fit: Fit) -> None:
    test = pixels(2, seed=1)
    one, same, other = fit(pixels(4)), fit(pixels(4)), fit(pixels(4), seed=1)
    assert torch.equal(one.predict(test).maps, same.predict(test).maps)
    assert not torch.equal(one.predict(test).maps, other.predict(test).maps)


def test_a_saved_state_predicts_the_same(fit: Fit, make_run: Any) -> None:
    method = fit(pixels(4), seed=3)
    test = pixels(2, seed=1)
    other = UninformedStudents(**SMALL)
    other.prepare(make_run((24, 28), seed=4))
    other.load_state({name: value.clone() for name, value in method.state().items()})
    assert torch.equal(other.predict(test).maps, method.predict(test).maps)


def test_a_state_of_other_settings_is_refused(fit: Fit, make_run: Any) -> None:
    method = fit(pixels(4))
    other = UninformedStudents(**{**SMALL, "descriptor": "embedding"})
    other.prepare(make_run((24, 28)))
    with pytest.raises(MethodError, match="target_mean of the saved state is"):
        other.load_state(method.state())
    with pytest.raises(MethodError, match="is missing"):
        other.load_state({})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"descriptor": "both"}, "descriptor='both'; known: decoded, embedding"),
        ({"patches": (17, 31)}, "choose one or more of 17, 33, 65, each once"),
        ({"patches": (17, 17)}, "each once"),
        ({"students": 0}, "students=0 must be above 0"),
        ({"metric": -1.0}, "metric=-1.0 must not be below 0"),
        ({"dropout": 1.0}, "from 0 to below 1"),
        ({"held_out": 0.0}, "between 0 and 1"),
    ],
)
def test_settings_that_cannot_work_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(MethodError, match=message):
        UninformedStudents(**fields)


def test_images_smaller_than_a_patch_are_refused(make_run: Any) -> None:
    with pytest.raises(MethodError, match="patches of 65 pixels do not fit images of 64x80"):
        UninformedStudents(**{**SMALL, "patches": (17, 65)}).prepare(make_run((64, 80)))


def test_a_loss_that_is_not_finite_is_named(fit: Fit) -> None:
    with pytest.raises(MethodError, match="loss_17 is nan in epoch 1; choose a smaller lr"):
        fit(pixels(4), lr=1e30)
