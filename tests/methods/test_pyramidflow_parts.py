"""The parts of PyramidFlow against their definitions."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from bench.plugins.methods.pyramidflow.affine import CLAMP, scale_and_shift
from bench.plugins.methods.pyramidflow.coupling import InvertibleConv
from bench.plugins.methods.pyramidflow.doubled import doubled_conv, phase_kernels
from bench.plugins.methods.pyramidflow.flow import FlowShape, PyramidFlowNet
from bench.plugins.methods.pyramidflow.folded import FoldedFlow
from bench.plugins.methods.pyramidflow.loss import anomaly_maps, fourier_loss, pair_differences
from bench.plugins.methods.pyramidflow.pyramid import compose, decompose, up
from bench.plugins.methods.pyramidflow.stem import LinearStem


def make_flow(
    levels: int = 3, stacks: int = 1, norm: str = "cvn", kernel: int = 3, size: int = 16
) -> PyramidFlowNet:
    generator = torch.Generator().manual_seed(5)
    shape = FlowShape(4, levels, stacks, kernel, norm, (size, size), 3)
    flow = PyramidFlowNet(shape, generator)
    for block in flow.chain():
        torch.nn.init.normal_(block.last, std=0.1, generator=generator)
    return flow.train()


def make_pyramid(levels: int = 3, size: int = 16, batch: int = 2) -> list[Tensor]:
    generator = torch.Generator().manual_seed(6)
    bands: list[Tensor] = decompose(torch.randn(batch, 4, size, size, generator=generator), levels)
    return bands


@pytest.mark.parametrize("size", [(16, 24), (15, 22), (8, 8)])
def test_composing_a_decomposition_gives_the_map_back(size: tuple[int, int]) -> None:
    image = torch.randn(2, 3, *size, dtype=torch.float64)
    torch.testing.assert_close(compose(decompose(image, 3)), image)


def test_up_is_nearest_doubling_and_the_binomial_filter() -> None:
    x = torch.randn(2, 3, 5, 6, dtype=torch.float64)
    taps = torch.tensor([1.0, 4, 6, 4, 1], dtype=torch.float64) / 16
    kernel = torch.outer(taps, taps).expand(3, 1, 5, 5)
    doubled = x.repeat_interleave(2, -1).repeat_interleave(2, -2)
    wanted = functional.conv2d(doubled, kernel, padding=2, groups=3)
    torch.testing.assert_close(up(x, (10, 12)), wanted)


@pytest.mark.parametrize("kernel", [1, 3, 5, 7, 9])
def test_doubled_conv_is_the_convolution_of_the_doubled_image(kernel: int) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, 5, 6, generator=generator, dtype=torch.float64)
    weight = torch.randn(4, 3, kernel, kernel, generator=generator, dtype=torch.float64)
    doubled = x.repeat_interleave(2, -1).repeat_interleave(2, -2)
    wanted = functional.conv2d(doubled, weight, padding=kernel // 2)
    torch.testing.assert_close(doubled_conv(x, phase_kernels(weight), kernel), wanted)


def test_doubled_conv_has_the_right_gradients() -> None:
    x = torch.randn(1, 2, 2, 3, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(2, 2, 3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda a, b: doubled_conv(a, phase_kernels(b), 3), (x, weight))


@pytest.mark.parametrize("dims", [(0, 1), (0, 2, 3)])
def test_affine_parameters_follow_their_formula(dims: tuple[int, ...]) -> None:
    output = torch.randn(2, 6, 3, 4, dtype=torch.float64)
    log_scale = CLAMP * torch.atan(output[:, :3] / 2)
    scale, shift, mean = scale_and_shift(output, dims, None)
    torch.testing.assert_close(scale, (log_scale - log_scale.mean(dims, keepdim=True)).exp())
    torch.testing.assert_close(mean, log_scale.mean(dims, keepdim=True))
    assert torch.equal(shift, output[:, 3:])


@pytest.mark.parametrize("own", [True, False])
def test_affine_parameters_have_the_right_gradients(own: bool) -> None:
    output = torch.randn(2, 4, 2, 3, dtype=torch.float64, requires_grad=True)
    fixed = None if own else torch.full((1, 1, 2, 3), 0.3, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: scale_and_shift(x, (0, 1), fixed)[:2], (output,))


def test_channel_mixing_keeps_its_volume_whatever_its_parameters() -> None:
    conv = InvertibleConv(6, torch.Generator().manual_seed(0)).double()
    fresh = conv.weight()
    torch.testing.assert_close(fresh @ fresh.T, torch.eye(6).double(), atol=1e-6, rtol=0)
    with torch.no_grad():
        for parameter in conv.parameters():
            parameter.add_(torch.randn_like(parameter))
    determinant = torch.linalg.det(conv.weight()).abs()
    assert determinant.item() == pytest.approx(1, rel=1e-6)
    torch.testing.assert_close(conv.weight() @ conv.inverse_weight(), torch.eye(6).double())


ORDERS = {
    2: "down1 up0",
    3: "dual1 up0 down2",
    4: "dual1 down3 up0 dual2",
    5: "dual1 dual3 up0 dual2 down4",
    6: "dual1 dual3 down5 up0 dual2 dual4",
    8: "dual1 dual3 dual5 down7 up0 dual2 dual4 dual6",
}


@pytest.mark.parametrize("levels", ORDERS)
def test_blocks_come_in_the_published_order(levels: int) -> None:
    chain = make_flow(levels, kernel=1, size=128).chain()
    names = [type(b).__name__.removesuffix("Coupling").lower() + str(b.target) for b in chain]
    assert names == ORDERS[levels].split()


@pytest.mark.parametrize(
    ("levels", "channels", "count"),
    [(2, 16, 606336), (4, 16, 1413376), (8, 16, 3027456), (2, 64, 9699840)],
)
def test_parameters_are_as_many_as_published(levels: int, channels: int, count: int) -> None:
    shape = FlowShape(channels, levels, 4, 7, "cvn", (128, 128), 3)
    flow = PyramidFlowNet(shape, torch.Generator())
    assert sum(p.numel() for p in flow.parameters()) == count


def test_a_fresh_flow_only_mixes_channels() -> None:
    shape = FlowShape(4, 3, 2, 3, "cvn", (16, 16), 3)
    flow = PyramidFlowNet(shape, torch.Generator())
    pyramid = make_pyramid()
    assert all(not level.any() for level in flow.log_determinants(pyramid))
    for level, latent in zip(pyramid, flow(pyramid), strict=True):
        torch.testing.assert_close(latent.norm(dim=1), level.norm(dim=1), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("norm", "dims"), [("cvn", (0, 1)), ("svn", (0, 2, 3))])
def test_volume_is_kept_over_a_training_batch(norm: str, dims: tuple[int, ...]) -> None:
    flow = make_flow(levels=2, norm=norm)
    # The level changed by the up block; the down block's mean is taken before decimation.
    sums = flow.log_determinants(make_pyramid(levels=2))[0].sum(dims)
    assert sums.abs().max() < 1e-4
    free = make_flow(levels=2, norm="none").log_determinants(make_pyramid(levels=2))[0].sum(dims)
    assert free.abs().max() > 0.1


@pytest.mark.parametrize("norm", ["cvn", "svn", "none"])
@pytest.mark.parametrize("levels", [2, 3, 4])
def test_folded_flow_gives_the_latents_of_evaluation_mode(norm: str, levels: int) -> None:
    flow, pyramid = make_flow(levels, stacks=2, norm=norm), make_pyramid(levels)
    flow(pyramid)
    torch.testing.assert_close(
        FoldedFlow(flow)(pyramid), flow.eval()(pyramid), atol=1e-5, rtol=1e-5
    )


@pytest.mark.parametrize("norm", ["cvn", "svn"])
def test_memory_saving_gives_the_same_gradients(norm: str) -> None:
    grads = []
    for saving in (False, True):
        flow = make_flow(levels=4, stacks=3, norm=norm, size=32)
        fourier_loss(pair_differences(flow(make_pyramid(4, 32), save_memory=saving))).backward()
        grads.append([p.grad for p in flow.parameters()])
    for plain, saved in zip(*grads, strict=True):
        assert (plain - saved).abs().max() <= 1e-4 * plain.abs().max()


def test_inputs_recovered_in_float32_stay_close_however_deep_the_flow() -> None:
    flow = make_flow(levels=4, stacks=8, size=32).eval()
    pyramid = make_pyramid(4, 32)
    with torch.no_grad():
        recovered = flow.inverse(flow(pyramid))
    for level, wanted in zip(recovered, pyramid, strict=True):
        assert (level - wanted).abs().max() < 1e-4 * wanted.abs().max()


def test_running_means_converge_to_the_batch_mean_in_the_share_of_their_updates() -> None:
    once, thrice = make_flow(), make_flow()
    for block in once.chain():
        block.norm.share = 0.1
    pyramid = make_pyramid()
    once(pyramid), thrice(pyramid)
    first, second = once.chain()[0].norm.running_mean, thrice.chain()[0].norm.running_mean
    torch.testing.assert_close(second, first * 2.71, atol=1e-6, rtol=1e-4)


def test_pairs_are_all_pairs_of_a_batch_composed_at_full_width() -> None:
    latents = make_pyramid(batch=3)
    slow = []
    for i in range(3):
        for j in range(i + 1, 3):
            squares = [(z[i : i + 1] - z[j : j + 1]) ** 2 for z in latents]
            slow.append(compose(squares).mean(1))
    torch.testing.assert_close(pair_differences(latents), torch.cat(slow), atol=1e-6, rtol=1e-5)


def test_without_pyramid_difference_latents_are_composed_first() -> None:
    latents = make_pyramid()
    whole = compose(latents)
    pairs: Any = pair_differences(latents, in_pyramid=False)
    torch.testing.assert_close(pairs, ((whole[:1] - whole[1:]) ** 2).mean(1))
    template = [torch.ones_like(z[:1]) for z in latents]
    maps = anomaly_maps(latents, template, in_pyramid=False)
    torch.testing.assert_close(maps, (whole - compose(template)).abs().mean(1))


def test_linear_stem_is_inverted_by_least_squares() -> None:
    stem = LinearStem(5, torch.Generator().manual_seed(0))
    images = torch.randn(2, 3, 4, 6)
    torch.testing.assert_close(stem.invert(stem(images)), images, atol=1e-6, rtol=0)
    columns = stem.weight[:, :, 0, 0]
    torch.testing.assert_close(columns.T @ columns, torch.eye(3), atol=1e-6, rtol=0)
