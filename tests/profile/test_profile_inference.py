"""The whole profile, with a method whose time, memory and size are known."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from bench.api import Method, Prediction
from bench.errors import DataError, MethodError
from bench.profile import FitMeter, profile
from bench.profile.full import Feed, predict_full
from bench.profile.mode import prediction_mode
from bench.rows.row import columns
from bench.settings.speed import SPEEDS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor

    from bench.api import Images, Run

CPU = torch.device("cpu")
BRIEF = replace(SPEEDS["brief"], min_steps_cpu=3)


@pytest.fixture(autouse=True)
def small_unit(monkeypatch: pytest.MonkeyPatch) -> None:
    """The unit's network is timed in its own test; here it may cost nothing."""
    monkeypatch.setattr("timm.create_model", lambda *_, **__: torch.nn.Conv2d(3, 1, 1, stride=8))


def images(count: int = 5, size: int = 6) -> Tensor:
    return torch.rand(count, 3, size, size)


def measured(method: Any, speed: Any = BRIEF, **options: Any) -> dict[str, Any]:
    options.setdefault("images", images())
    return profile(
        method=method,
        backbones=[method.backbone],
        sizes=options.pop("sizes", (6, 6)),
        speed=speed,
        device=CPU,
        clock=method.clock,
        memory=method.memory,
        **options,
    )


def test_profile_and_fit_meter_fill_every_complexity_column(make_timed: Any) -> None:
    fit = FitMeter(CPU)
    fit.memory.close()
    found = set(measured(make_timed())) | set(fit.columns())
    assert found | {"features"} == set(columns("condition", "cost"))  # which is the cell's to say


def test_where_nothing_is_timed_sizes_and_operations_are_counted_all_the_same(
    make_timed: Any,
) -> None:
    timed, found = measured(make_timed()), measured(make_timed(), SPEEDS["none"])
    assert (found.pop("speed"), found["gflops"] is not None) == ("", True)
    assert not [name for name in found if name.endswith(("_ms", "_mb")) and "state" not in name]
    assert found == {name: timed[name] for name in found}


def test_the_parts_and_the_whole_take_their_known_times(make_timed: Any) -> None:
    row = measured(make_timed(), preprocess=None)
    assert row["encoder_ms"] == pytest.approx(2)
    assert row["decoder_ms"] == pytest.approx(5)
    assert row["latency_p50_ms"] == pytest.approx(10)
    assert row["latency_p95_ms"] == pytest.approx(10)
    assert row["latency_p99_ms"] is None
    assert row["fps_b1"] == pytest.approx(100)
    assert row["fps"] == row["fps_mean"] == pytest.approx(100)
    assert row["fps_batch"] == 8
    assert row["latency_iqr"] == pytest.approx(0, abs=1e-9)
    assert row["noisy"] is False
    assert row["steps"] == 3
    assert row["cpu_ms"] == 0  # all of it was the device's time
    assert row["preprocess_ms"] is None
    assert row["speed"] == BRIEF.label()


def test_preprocessing_is_timed_when_it_is_given(make_timed: Any) -> None:
    method = make_timed()
    row = measured(method, preprocess=lambda: method.clock.host(0.004))
    assert row["preprocess_ms"] == pytest.approx(4)


def test_memory_is_measured_at_both_batch_sizes(make_timed: Any, fake_memory: Any) -> None:
    row = measured(make_timed(memory=fake_memory(reserved=640.0)))
    assert (row["infer_mb"], row["infer_batch_mb"]) == (110, 180)
    assert row["infer_reserved_mb"] == 640


def test_without_a_level_the_host_memory_stays_unknown(make_timed: Any) -> None:
    method = make_timed()
    row = profile(method, images(), [method.backbone], (6, 6), BRIEF, CPU, clock=method.clock)
    assert row["infer_mb"] is None
    assert row["infer_batch_mb"] is None


def test_cost_in_flops_and_state_is_known(make_timed: Any) -> None:
    row = measured(make_timed())
    assert row["gflops"] * 1e9 == pytest.approx(2 * 36 * 3 * 4)
    assert "aten.abs" in row["flops_uncounted"]
    assert row["params_m"] * 1e6 == row["params_trainable_m"] * 1e6 == pytest.approx(12)
    assert row["state_backbone_mb"] == pytest.approx(48e-6)
    assert row["state_fitted_mb"] == pytest.approx(1)
    assert row["unit_ms"] == 0  # the unit moves no fake clock


@pytest.mark.parametrize(("room", "batch"), [(1000, 32), (31, 16), (5, 4)])
def test_throughput_uses_the_largest_power_of_two_that_fits(
    room: int, batch: int, make_timed: Any
) -> None:
    row = measured(make_timed(room=room), replace(BRIEF, max_batch=47))
    assert row["fps_batch"] == batch
    assert row["fps"] == pytest.approx(100)
    assert row["fps_b8"] == (pytest.approx(100) if batch >= 8 else None)


def test_throughput_at_batch_8_is_not_measured_twice(make_timed: Any) -> None:
    row = measured(make_timed(), replace(BRIEF, max_batch=8))
    assert row["fps_batch"] == 8
    assert row["fps_b8"] == row["fps"]


def test_when_only_one_image_fits_both_figures_are_the_same(make_timed: Any) -> None:
    row = measured(make_timed(room=1))
    assert row["fps"] == row["fps_b1"]
    assert row["infer_batch_mb"] == row["infer_mb"]


def test_one_image_that_does_not_fit_is_an_error_that_says_so(make_timed: Any) -> None:
    with pytest.raises(MethodError, match=r"TimedMethod: predict on one image of \(3, 6, 6\)"):
        measured(make_timed(room=0))


def test_another_error_is_not_taken_for_full_memory(make_timed: Any) -> None:
    method = make_timed(room=1, failure=RuntimeError, message="shapes differ")
    with pytest.raises(RuntimeError, match="shapes differ"):
        measured(method)


def test_a_wide_spread_marks_the_row_as_noisy(make_timed: Any) -> None:
    method = make_timed()
    plain, turn = method.predict, [0]

    def uneven(batch: Tensor) -> Prediction:
        turn[0] += 1
        method.clock.work(0.004 * (turn[0] % 2))
        result: Prediction = plain(batch)
        return result

    method.predict = uneven
    row = measured(method, replace(BRIEF, min_steps_cpu=8))
    assert row["noisy"] is True
    assert row["latency_iqr"] > 0.1


@pytest.mark.parametrize(
    ("threads", "host_s", "noisy"), [(1, 0.08, True), (1, 0.2, False), (2, 0.08, False)]
)
def test_steps_that_always_wait_for_the_processor_are_noisy_on_one_thread(
    threads: int, host_s: float, noisy: bool, make_timed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = make_timed()
    plain = method.predict

    def waits(batch: Tensor) -> Prediction:
        method.clock.host(host_s * len(batch))  # beside 10 ms that the process did not work
        result: Prediction = plain(batch)
        return result

    method.predict = waits
    monkeypatch.setattr("torch.get_num_threads", lambda: threads)
    row = measured(method)
    assert row["latency_iqr"] == pytest.approx(0, abs=1e-9)
    assert row["latency_p50_ms"] == pytest.approx(row["cpu_ms"] + 10)
    assert row["noisy"] is noisy


def test_a_method_that_calls_no_backbone_has_no_encoder_time(make_timed: Any) -> None:
    method = make_timed()
    row = profile(method, images(), [], (6, 6), BRIEF, CPU, clock=method.clock)
    assert row["encoder_ms"] is None
    assert row["decoder_ms"] == pytest.approx(5)
    assert row["state_backbone_mb"] == 0


def test_hooks_and_modes_are_gone_afterwards(make_timed: Any) -> None:
    method = make_timed()
    measured(method)
    assert method.backbone.training
    assert not method.backbone._forward_hooks
    assert not method.backbone._forward_pre_hooks


def test_a_number_of_sizes_that_is_not_that_of_the_images_is_refused(make_timed: Any) -> None:
    with pytest.raises(DataError, match="5 images but 2 map sizes"):
        measured(make_timed(), sizes=[(6, 6), (8, 8)])
    with pytest.raises(DataError, match="0 images"):
        measured(make_timed(), images=images(0))


def test_batches_go_round_through_all_images_with_their_sizes() -> None:
    pixels = torch.arange(3.0).view(3, 1, 1, 1).expand(3, 3, 2, 2).contiguous()
    feed = Feed(pixels, [(1, 1), (2, 2), (3, 3)], CPU)
    seen = []
    for batch in (1, 2, 4):
        tensor, sizes = feed.host(batch)
        seen += tensor[:, 0, 0, 0].tolist()
        assert [h - 1 for h, _ in sizes] == tensor[:, 0, 0, 0].tolist()
    assert seen == [0, 1, 2, 0, 1, 2, 0]


@dataclass
class Levels(Method):
    """Two levels that `finish` adds up, at half the size of the image."""

    flat: bool = False

    def fit(self, train: Images, run: Run) -> Iterator[Mapping[str, float]]:
        yield {}

    def predict(self, images: Tensor) -> Prediction:
        maps = images[:, :2, ::2, ::2]
        return Prediction(maps[:, 0] if self.flat else maps)


class Finished(Levels):
    """The same, with the step that puts levels together."""

    def finish(self, raw: Prediction) -> Prediction:
        maps = raw.require_maps()
        return Prediction(maps.sum(1), maps.amax((1, 2, 3)))


def test_the_step_ends_with_maps_at_their_sizes_and_scores() -> None:
    pixels = images(2, 8)
    maps, scores = predict_full(Finished(), pixels, [(8, 8), (5, 7)], CPU)
    assert [tuple(m.shape) for m in maps] == [(8, 8), (5, 7)]
    assert torch.equal(scores, pixels[:, :2, ::2, ::2].amax((1, 2, 3)))


def test_the_step_takes_the_highest_value_where_a_method_gives_no_score() -> None:
    pixels = images(2, 8)
    maps, scores = predict_full(Levels(flat=True), pixels, [(4, 4)] * 2, CPU)
    assert torch.equal(scores, torch.stack(maps).amax((1, 2)))


class ScoresAlone(Method):
    """An image-level method that follows the gradient of its input once."""

    needs_gradients = True

    def __init__(self) -> None:
        self.net = torch.nn.Conv2d(3, 4, 3).requires_grad_(False)

    def fit(self, train: Images, run: Run) -> Iterator[Mapping[str, float]]:
        yield {}

    def predict(self, images: Tensor) -> Prediction:
        images.requires_grad_()
        energy = self.net(images).square().sum((1, 2, 3))
        (slope,) = torch.autograd.grad(energy.sum(), images)
        return Prediction(None, slope.square().sum((1, 2, 3)))


def test_a_method_that_differentiates_and_gives_no_maps_is_measured() -> None:
    speed = replace(BRIEF, max_batch=2)
    found = profile(ScoresAlone(), images(), [], (6, 6), speed, CPU)
    assert found["fps"] > 0
    forward = 2 * 3 * 4 * 9 * 4 * 4  # of a 6x6 image
    assert found["gflops"] * 1e9 == pytest.approx(2 * forward)  # and back, to the input alone


def test_the_step_without_maps_returns_the_scores() -> None:
    with prediction_mode(ScoresAlone()):
        maps, scores = predict_full(ScoresAlone(), images(2, 8), [(8, 8)] * 2, CPU)
    assert maps == []
    assert scores.shape == (2,)


@pytest.mark.parametrize("around", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_gradients_are_on_for_a_method_that_asks_and_off_for_others(around: Any) -> None:
    with around():
        before = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
        with prediction_mode(ScoresAlone()):
            assert (torch.is_grad_enabled(), torch.is_inference_mode_enabled()) == (True, False)
        with prediction_mode(Levels()):
            assert torch.is_inference_mode_enabled()
        assert (torch.is_grad_enabled(), torch.is_inference_mode_enabled()) == before


def test_modules_are_in_evaluation_mode_and_back_in_their_own_afterwards() -> None:
    method = ScoresAlone()
    method.net.train()
    with prediction_mode(method):
        assert not method.net.training
    assert method.net.training
    with pytest.raises(ZeroDivisionError), prediction_mode(method):
        raise ZeroDivisionError
    assert method.net.training


def test_maps_are_brought_to_size_bilinearly() -> None:
    pixels = images(1, 8)
    maps, _ = predict_full(Levels(flat=True), pixels, [(8, 8)], CPU)
    expected = torch.nn.functional.interpolate(pixels[:, :1, ::2, ::2], (8, 8), mode="bilinear")
    assert torch.allclose(maps[0], expected[0, 0])


def test_maps_of_a_wrong_shape_are_named() -> None:
    with pytest.raises(MethodError, match=r"Levels: maps of shape \(1, 2, 4, 4\) for 1 images"):
        predict_full(Levels(), images(1, 8), [(8, 8)], CPU)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_counts_the_tensors_it_holds() -> None:
    device = torch.device("cuda")

    class Grey(Levels):
        def predict(self, images: Tensor) -> Prediction:
            return Prediction(images.repeat(1, 8, 1, 1).mean(1))

    row = profile(Grey(), images(4, 64), [], (64, 64), BRIEF, device)
    image_mb = 3 * 64 * 64 * 4 / 1e6
    assert row["infer_batch_mb"] >= 8 * 9 * image_mb * 0.9
    assert row["infer_reserved_mb"] >= row["infer_batch_mb"]
    assert row["unit_ms"] > 0
