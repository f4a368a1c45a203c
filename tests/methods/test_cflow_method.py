"""CFLOW as the harness uses it: training, scores, variants, saved state and bad input."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest
import torch
from sklearn.metrics import roc_auc_score

from bench.api import MethodError, Prediction
from bench.blocks.position import position_code
from bench.plugins.methods.cflow import Cflow

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

SMALL: dict[str, Any] = {
    "backbone": "resnet18",
    "couplings": 2,
    "condition": 16,
    "fibers": 16,
    "batch": 4,
    "meta_epochs": 1,
    "sub_epochs": 1,
}


def pictures(count: int, size: int = 64, seed: int = 0) -> Tensor:
    """Smooth noise, a little different in each image: (count, 3, size, size)."""
    rng = torch.Generator().manual_seed(seed)
    coarse = torch.randn(count, 3, size // 8, size // 8, generator=rng) * 0.3
    texture = torch.sin(torch.arange(size) * 0.8).expand(size, size)
    return torch.nn.functional.interpolate(coarse, size=(size, size), mode="bilinear") + texture


@pytest.fixture
def prepare(make_run: Any) -> Any:
    """`prepare(**fields)`: a small method, prepared and not trained."""

    def make(**fields: Any) -> Cflow:
        method = Cflow(**{**SMALL, **fields})
        method.prepare(make_run())
        return method

    return make


@pytest.fixture(scope="module")
def images() -> Tensor:
    return pictures(8)


@pytest.fixture
def fitted(prepare: Any, make_images: Any, make_run: Any, images: Tensor) -> Cflow:
    method: Cflow = prepare()
    list(method.fit(make_images(images), make_run()))
    return method


def maps_of(method: Cflow, batch: Tensor) -> Tensor:
    with torch.inference_mode():
        maps: Tensor = method.predict(batch).maps
    return maps


def test_training_lowers_the_loss_and_is_usable_at_every_yield(
    prepare: Any, make_images: Any, make_run: Any, images: Tensor
) -> None:
    method = prepare(meta_epochs=3, sub_epochs=2, lr=2e-3)
    losses = []
    for figures in method.fit(make_images(images), make_run()):
        losses.append(figures["loss"])
        maps = maps_of(method, images[:2])
        assert maps.shape == (2, 64, 64)
        assert maps.isfinite().all()
    assert len(losses) == 3
    assert losses[0] > losses[1] > losses[2]


def test_equal_seeds_train_equal_methods(
    prepare: Any, make_images: Any, make_run: Any, images: Tensor
) -> None:
    results = []
    for _ in range(2):
        method = prepare()
        list(method.fit(make_images(images), make_run()))
        results.append(maps_of(method, images[:2]))
    assert torch.equal(results[0], results[1])


def test_a_map_does_not_depend_on_the_other_images(fitted: Cflow, images: Tensor) -> None:
    together = maps_of(fitted, images)
    alone = torch.cat([maps_of(fitted, image[None]) for image in images])
    torch.testing.assert_close(alone, together, rtol=0, atol=1e-5)
    assert not fitted.is_transductive
    raw = Prediction(together)
    assert fitted.finish(raw) is raw


def test_maps_equal_the_slow_definition(fitted: Cflow, images: Tensor) -> None:
    """FrEIA's own forward pass, fiber by fiber, with the maxima of the training images."""
    with torch.no_grad():
        total = torch.zeros(2, 64, 64, dtype=torch.float64)
        features = fitted.encoder(images)
        for decoder, x in zip(fitted.decoders, features, strict=True):
            code = position_code(16, *x.shape[-2:])
            q = torch.empty(len(x), *x.shape[-2:])
            for row in range(x.shape[2]):
                for column in range(x.shape[3]):
                    z, log_det = decoder(
                        x[:, :, row, column], [code[:, row, column].expand(len(x), -1)]
                    )
                    logp = log_det - 0.5 * (z**2).sum(1) - 0.5 * x.shape[1] * math.log(2 * math.pi)
                    q[:, row, column] = logp / x.shape[1]
            p = (q[:2].double() - q.max().double()).exp()
            total += torch.nn.functional.interpolate(
                p[:, None], size=(64, 64), mode="bilinear", align_corners=True
            )[:, 0]
    torch.testing.assert_close(maps_of(fitted, images[:2]), -total.float(), rtol=0, atol=1e-4)


def test_maps_rank_very_unlikely_pixels(fitted: Cflow, images: Tensor) -> None:
    """Probabilities of e^-30 vanish beside 1 in float32, but not beside 0."""
    usual = maps_of(fitted, images[:1])
    fitted.maxima = fitted.maxima + 30
    shifted = maps_of(fitted, images[:1])
    assert -1e-12 < float(shifted.max()) < 0
    torch.testing.assert_close(shifted * math.exp(30), usual, rtol=1e-6, atol=0)


def test_the_most_likely_training_pixel_sets_the_shift(fitted: Cflow, images: Tensor) -> None:
    with torch.inference_mode():
        tops = [float(q.max()) for q in fitted.raw(images)]
    assert fitted.maxima.tolist() == pytest.approx(tops, abs=1e-5)


def test_published_aggregation_uses_the_whole_test_set(prepare: Any, images: Tensor) -> None:
    method = prepare(aggregation="test")
    assert method.is_transductive
    raw = torch.cat([maps_of(method, part) for part in torch.split(images, 3)])
    assert raw.shape == (8, 3, 8, 8)
    result = method.finish(Prediction(raw)).maps
    assert result.shape == (8, 64, 64)
    assert float(result.min()) == 0
    fewer = method.finish(Prediction(raw[:2])).maps
    assert not torch.allclose(fewer, result[:2])


def test_published_aggregation_works_for_a_single_image(prepare: Any, images: Tensor) -> None:
    method = prepare(aggregation="test")
    maps = method.finish(Prediction(maps_of(method, images[:1]))).maps
    assert maps.shape == (1, 64, 64)
    assert maps.isfinite().all()


@pytest.mark.parametrize("size", [(64, 96), (72, 104)])
def test_images_need_not_be_square_nor_divide_evenly(
    make_run: Any, make_images: Any, size: tuple[int, int]
) -> None:
    for aggregation in ("train", "test"):
        method = Cflow(**{**SMALL, "aggregation": aggregation, "levels": 2, "couplings": 1})
        run = make_run(image_size=size)
        method.prepare(run)
        batch = torch.randn(4, 3, *size, generator=torch.Generator().manual_seed(1))
        list(method.fit(make_images(batch), run))
        maps = method.finish(Prediction(maps_of(method, batch))).maps
        assert maps.shape == (4, *size)


def test_only_the_conditional_flow_sees_the_position(prepare: Any) -> None:
    for conditional in (True, False):
        method = prepare(conditional=conditional)
        features = [torch.randn(1, c, 1, 1).expand(1, c, 4, 4) for c in (128, 256, 512)]
        with torch.inference_mode():
            spread = [float(q.max() - q.min()) for q in method._score().decode(features)]
        assert all((s > 1e-4) == conditional for s in spread)


def test_fields_change_the_computation(prepare: Any, images: Tensor) -> None:
    usual = maps_of(prepare(), images[:1])
    for change in ({"couplings": 3}, {"clamp": 0.5}, {"conditional": False}, {"levels": 2}):
        assert not torch.allclose(maps_of(prepare(**change), images[:1]), usual, atol=1e-6), change
    assert [len(d) for d in prepare(levels=2, couplings=4).decoders] == [4, 4]
    assert prepare(levels=1).encoder.channels == [512]


@pytest.mark.parametrize("backbone", ["resnet34", "mobilenetv3_large_100", "efficientnet_b0"])
def test_other_backbones_give_maps(make_run: Any, make_images: Any, backbone: str) -> None:
    method = Cflow(**{**SMALL, "backbone": backbone, "couplings": 1, "levels": 2})
    run = make_run()
    method.prepare(run)
    batch = pictures(4)
    list(method.fit(make_images(batch), run))
    assert maps_of(method, batch).shape == (4, 64, 64)


def test_bf16_scores_stay_within_a_tenth_of_a_point(
    prepare: Any, make_images: Any, make_run: Any, images: Tensor
) -> None:
    method = prepare(meta_epochs=2, sub_epochs=2, lr=2e-3)
    list(method.fit(make_images(images), make_run()))
    test = pictures(6, seed=5)
    masks = torch.zeros(6, 64, 64)
    masks[::2, 20:36, 24:48] = 1
    noise = torch.randn(6, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    test = test + 0.7 * masks[:, None] * noise
    scores = []
    for precision in ("float32", "bf16"):
        method.precision = precision
        method._scorer = None
        scores.append(roc_auc_score(masks.flatten(), maps_of(method, test).flatten()))
    assert 0.6 < scores[0] < 0.9999
    assert scores[1] == pytest.approx(scores[0], abs=1e-3)


def test_saved_state_restores_every_map(fitted: Cflow, prepare: Any, images: Tensor) -> None:
    other = prepare()
    other.decoders[0][0].global_offset.data += 1
    before = maps_of(other, images)
    other.load_state(fitted.state())
    assert torch.equal(maps_of(other, images), maps_of(fitted, images))
    assert not torch.equal(before, maps_of(other, images))
    assert all(value.is_contiguous() for value in fitted.state().values())


def test_state_of_other_settings_is_refused(fitted: Cflow, prepare: Any) -> None:
    with pytest.raises(MethodError, match="other levels"):
        prepare(levels=2).load_state(fitted.state())
    with pytest.raises(MethodError, match="does not fit decoders"):
        prepare(couplings=3).load_state(fitted.state())
    with pytest.raises(MethodError, match="maxima none"):
        prepare().load_state({})


def test_augmentation_is_of_the_training_pictures_only(
    make_run: Any, images: Tensor, make_images: Any
) -> None:
    seen = []

    class Watched(make_images):  # type: ignore[misc]
        def batches(self, size: int, **options: Any) -> Iterator[Tensor]:
            seen.append((options.get("shuffle", False), options.get("augment") is not None))
            yield from super().batches(size, **options)

    for degrees in (5.0, 0.0):
        method = Cflow(**{**SMALL, "augment_degrees": degrees, "couplings": 1})
        method.prepare(make_run())
        list(method.fit(Watched(images), make_run()))
    assert seen == [(True, True), (False, False), (True, False), (False, False)]


def test_reflect_padding_changes_the_features(prepare: Any, images: Tensor) -> None:
    plain, reflected = prepare(), prepare(padding="reflect")
    with torch.inference_mode():
        a, b = plain.encoder(images), reflected.encoder(images)
    assert all(not torch.allclose(x, y) for x, y in zip(a, b, strict=True))


def test_reflect_padding_is_refused_where_it_cannot_be_had(make_run: Any) -> None:
    with pytest.raises(MethodError, match="Conv2dSame"):
        Cflow(**{**SMALL, "backbone": "tf_efficientnet_b0", "padding": "reflect"}).prepare(
            make_run()
        )
    with pytest.raises(MethodError, match="at least 64 pixels"):
        Cflow(**{**SMALL, "padding": "reflect"}).prepare(make_run(image_size=(64, 32)))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"aggregation": "tset"}, "did you mean 'test'"),
        ({"padding": "mirror"}, "known: reflect, zeros"),
        ({"precision": "fp16"}, "bf16"),
        ({"optimizer_steps": "each"}, "known: all, own"),
        ({"condition": 30}, "multiple of 4"),
        ({"levels": 0}, "levels=0"),
        ({"fibers": -1}, "fibers=-1"),
        ({"augment_degrees": -2.0}, "augment_degrees"),
    ],
)
def test_impossible_settings_are_refused_with_the_choices(
    fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(MethodError, match=message):
        Cflow(**fields)


def test_unknown_backbones_and_levels_are_refused(make_run: Any) -> None:
    with pytest.raises(MethodError, match="resnet18"):
        Cflow(backbone="resnet81").prepare(make_run())
    with pytest.raises(MethodError, match="choose 1 to 5"):
        Cflow(backbone="resnet18", levels=6).prepare(make_run())


def test_too_few_fibers_are_refused_before_any_update(
    prepare: Any, make_images: Any, make_run: Any, images: Tensor
) -> None:
    method = prepare(fibers=17)
    start = [p.clone() for p in method.decoders.parameters()]
    with pytest.raises(MethodError, match=r"level 2 has 4 x 2 x 2 = 16 fibers .* fibers=17"):
        list(method.fit(make_images(images), make_run()))
    assert all(map(torch.equal, start, method.decoders.parameters()))


def test_too_few_images_are_refused(
    prepare: Any, make_images: Any, make_run: Any, images: Tensor
) -> None:
    with pytest.raises(MethodError, match=r"3 training images .* at most 3"):
        list(prepare().fit(make_images(images[:3]), make_run()))


def test_a_planted_defect_scores_higher_than_its_surroundings(
    prepare: Any, make_images: Any, make_run: Any, images: Tensor
) -> None:
    method = prepare(meta_epochs=2, sub_epochs=2, lr=2e-3)
    list(method.fit(make_images(images), make_run()))
    test = pictures(1, seed=9)
    test[:, :, 16:48, 16:48] += 2 * torch.randn(
        3, 32, 32, generator=torch.Generator().manual_seed(0)
    )
    result = maps_of(method, test)[0]
    rest = torch.ones(64, 64, dtype=torch.bool)
    rest[8:56, 8:56] = False
    assert result[20:44, 20:44].mean() > result[rest].mean()
