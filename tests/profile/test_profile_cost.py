"""FLOPs, parameters, state, switches and the machine's unit, where the answer is known."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest
import torch
from torch import nn

from bench.api import Method, Prediction
from bench.profile import Clock
from bench.profile.flops import count_flops
from bench.profile.size import size_of
from bench.profile.switches import switches
from bench.profile.unit import unit_network, unit_s
from bench.settings.speed import SPEEDS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor

    from bench.api import Images, Run


def test_a_convolution_costs_two_flops_per_multiply_add() -> None:
    conv = nn.Conv2d(3, 8, 3, bias=False)
    image = torch.zeros(1, 3, 10, 12)
    with torch.inference_mode():
        flops = count_flops(lambda: conv(image))
    assert flops.total == 2 * (8 * 8 * 10) * (3 * 3 * 3)
    assert flops.uncounted == ()


def test_what_was_made_in_inference_mode_may_be_written_to() -> None:
    linear = nn.Linear(4, 2, bias=False)
    with torch.inference_mode():
        room = torch.zeros(1, 4)
        flops = count_flops(lambda: linear(torch.sub(torch.ones(1, 4), 0.5, out=room)))
    assert flops.total == 2 * 4 * 2
    assert flops.uncounted == ("aten.sub",)


def test_operators_without_a_formula_are_named() -> None:
    x = torch.rand(1, 5, 4)

    def work() -> None:
        torch.cdist(x, x)
        torch.fft.rfft(x)
        x.topk(2)
        (x @ x.mT).clone().transpose(1, 2).contiguous()

    with torch.inference_mode():
        flops = count_flops(work)
    assert flops.total == 2 * 5 * 5 * 4
    assert flops.uncounted == ("aten._cdist_forward", "aten._fft_r2c", "aten.topk")


def test_an_upsampling_is_counted_zero_and_says_so() -> None:
    maps = torch.rand(1, 1, 4, 4)
    with torch.inference_mode():
        flops = count_flops(lambda: nn.functional.interpolate(maps, (8, 8), mode="bilinear"))
    assert flops.total == 0
    assert flops.uncounted


def test_the_unit_is_the_resnet18_of_3_6_gigaflops() -> None:
    network, image = unit_network()
    with torch.inference_mode():
        flops = count_flops(lambda: network(image))
    # 1.814 G multiply-adds at 224 x 224 (convolutions and the classifier).
    assert flops.total == pytest.approx(2 * 1.814e9, rel=1e-3)


def test_making_the_unit_leaves_random_numbers_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    unit_network()
    assert torch.equal(torch.rand(2), expected)


def test_the_unit_is_timed() -> None:
    speed = replace(SPEEDS["brief"], min_steps_cpu=1, warmup_steps_cpu=1)
    assert unit_s(speed, torch.device("cpu"), Clock()) > 0


@dataclass
class Held(Method):
    """A frozen backbone, a trained head that shares it, a gallery and a counter."""

    copies: bool = False

    def __post_init__(self) -> None:
        self.backbone = nn.Sequential(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8)).requires_grad_(False)
        self.head = nn.Sequential(self.backbone, nn.Linear(8, 2, bias=False))
        self.gallery = torch.zeros(100, 4, dtype=torch.float16)
        self.alias = self.gallery
        self.empty = torch.zeros(0)

    def fit(self, train: Images, run: Run) -> Iterator[Mapping[str, float]]:
        yield {}

    def predict(self, images: Tensor) -> Prediction:
        return Prediction(images[:, 0])

    def state(self) -> dict[str, Tensor]:
        state = super().state()
        return {k: v.clone() for k, v in state.items() if k != "alias"} if self.copies else state


@pytest.mark.parametrize("copies", [False, True])
def test_a_tensor_that_is_held_twice_counts_once(copies: bool) -> None:
    method = Held(copies=copies)
    size = size_of(method, [method.backbone])
    conv, norm = 3 * 8 + 8, 8 + 8
    assert size.params_m * 1e6 == pytest.approx(conv + norm + 16)
    assert size.params_trainable_m * 1e6 == pytest.approx(16)
    buffers = 4 * (8 + 8) + 8  # running mean and variance, and an int64 count of batches
    assert size.state_backbone_mb * 1e6 == pytest.approx(4 * (conv + norm) + buffers)
    assert size.state_fitted_mb * 1e6 == pytest.approx(4 * 16 + 100 * 4 * 2)
    assert size.state_mb == size.state_backbone_mb + size.state_fitted_mb


def test_a_backbone_that_the_state_leaves_out_still_counts() -> None:
    @dataclass
    class Bare(Held):
        def state(self) -> dict[str, Tensor]:
            return {"gallery": self.gallery}

    method = Bare()
    size = size_of(method, [method.backbone])
    assert size.state_fitted_mb * 1e6 == pytest.approx(800)
    assert size.state_backbone_mb > 0


def test_switches_are_put_back_as_they_were() -> None:
    module = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3))
    module[1].eval()
    cudnn = torch.backends.cudnn
    before = torch.get_float32_matmul_precision(), cudnn.allow_tf32, cudnn.benchmark
    with switches([module], replace(SPEEDS["speed-1"], cudnn_benchmark=True), "tf32"):
        assert not any(part.training for part in module.modules())
        assert (torch.get_float32_matmul_precision(), cudnn.benchmark) == ("high", True)
        with switches([module], SPEEDS["speed-1"]):
            assert torch.get_float32_matmul_precision() == "highest"
            assert not cudnn.allow_tf32
            assert not cudnn.benchmark
    after = torch.get_float32_matmul_precision(), cudnn.allow_tf32, cudnn.benchmark
    assert after == before
    assert [part.training for part in module.modules()] == [True, True, False]


def test_switches_are_put_back_after_an_error() -> None:
    module = nn.Linear(1, 1)
    with pytest.raises(ZeroDivisionError), switches([module], SPEEDS["speed-1"]):
        raise ZeroDivisionError
    assert module.training
