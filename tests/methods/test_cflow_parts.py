"""The parts of CFLOW against their definitions: decoders, position codes, rotation, updates."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from bench.api import IMAGENET_MEAN, IMAGENET_STD, MethodError
from bench.blocks.position import position_code
from bench.plugins.methods.cflow.decoder import (
    AllInOneBlock,
    log_likelihood,
    make_decoder,
    require_known_freia,
)
from bench.plugins.methods.cflow.likelihood import log_likelihoods
from bench.plugins.methods.cflow.scoring import FusedDecoder
from bench.plugins.methods.cflow.training import Trainer, rotate


@pytest.mark.parametrize("channels", [8, 9])
@pytest.mark.parametrize("condition", [0, 12])
def test_fused_decoder_equals_the_module(channels: int, condition: int) -> None:
    generator = torch.Generator().manual_seed(1)
    decoder = make_decoder(channels, condition, 3, 1.9, generator)
    for block in decoder:
        block.global_scale.data += torch.randn(1, channels, generator=generator)
        block.global_offset.data += torch.randn(1, channels, generator=generator)
    codes = torch.randn(6, condition, generator=generator) if condition else None
    fibers = 3 * torch.randn(5, 6, channels, generator=generator)
    fused = FusedDecoder(decoder, codes, 1.9, torch.float32)
    with torch.no_grad():
        flat = fibers.reshape(-1, channels)
        extra = [] if codes is None else [[codes.repeat(5, 1)]]
        z, log_det = decoder(flat, *extra)
        want = (log_det - z.square().sum(1) / 2) / channels - math.log(2 * math.pi) / 2
        got = fused.log_likelihood(fibers)
        features = fibers.permute(0, 2, 1).reshape(5, channels, 2, 3)
        chunked = fused.decode(features, limit_mb=4.5 * fused.bytes_per_fiber / 1e6)
    torch.testing.assert_close(got.flatten(), want, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(chunked.flatten(), want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("channels", [8, 9])
@pytest.mark.parametrize("condition", [0, 12])
@pytest.mark.parametrize("positions", [4, 60])
def test_likelihoods_in_training_and_gradients_are_those_of_the_module(
    channels: int, condition: int, positions: int
) -> None:
    generator = torch.Generator().manual_seed(1)
    decoder = make_decoder(channels, condition, 3, 1.9, generator).double()
    for block in decoder:
        block.global_scale.data += torch.randn(1, channels, generator=generator)
        block.global_offset.data += torch.randn(1, channels, generator=generator)
    codes = torch.randn(positions, condition, generator=generator).double() if condition else None
    fibers = 3 * torch.randn(20, channels, generator=generator).double()
    places = torch.randint(positions, (20,), generator=generator)
    trained = [p for p in decoder.parameters() if p.requires_grad]
    z, log_det = decoder(fibers, *([] if codes is None else [[codes[places]]]))
    want = log_likelihood(z, log_det)
    got = log_likelihoods(decoder, fibers, codes, places)
    # The last rotation is orthogonal in single precision, and it is left out.
    near = functools.partial(torch.testing.assert_close, rtol=1e-5, atol=1e-6)
    near(got, want)
    gradients = (torch.autograd.grad(q.sum(), trained) for q in (got, want))
    for one, other in zip(*gradients, strict=True):
        near(one, other)


@pytest.mark.gpu
def test_an_update_as_a_graph_is_the_update_kernel_by_kernel() -> None:
    found = []
    for graphs in (True, False):
        generator = torch.Generator().manual_seed(2)
        decoders = [make_decoder(c, 12, 2, 1.9, generator).cuda() for c in (6, 8)]
        permute = functools.partial(torch.randperm, generator=generator)
        trainer = Trainer(decoders, 12, 16, "own", permute, graphs=graphs)
        assert trainer.graphs == graphs
        features = [torch.randn(4, c, 6, 6, generator=generator).cuda() for c in (6, 8)]
        losses = torch.cat([trainer.update(features, rate) for rate in (1e-3, 3e-3, 1e-3)])
        found.append([losses, *(p.detach() for d in decoders for p in d.parameters())])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("steps", ["own", "all"])
def test_updates_are_captured_on_a_gpu_alone_and_not_where_all_decoders_move(steps: str) -> None:
    decoders = [make_decoder(6, 0, 1, 1.9, torch.Generator().manual_seed(0))]
    assert not Trainer(decoders, 0, 8, steps, torch.randperm).graphs


def test_decoders_follow_the_seed_and_leave_global_generators_alone() -> None:
    def build(seed: int) -> Tensor:
        decoder = make_decoder(6, 4, 1, 1.9, torch.Generator().manual_seed(seed))
        return torch.cat([p.detach().flatten() for p in decoder.parameters()])

    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002 - the generator that FrEIA uses
    expected = torch.rand(()).item(), np.random.rand()  # noqa: NPY002
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002
    first, again, other = build(1), build(1), build(2)
    assert (torch.rand(()).item(), np.random.rand()) == expected  # noqa: NPY002
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_changed_freia_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def later(self: Any, x: Tensor, a: Tensor, rev: bool = False) -> tuple[Tensor, Tensor]:
        a = 0.1 * a
        s = self.clamp * torch.tanh(a[:, : x.shape[1]] / self.clamp)
        return x * s.exp() + a[:, x.shape[1] :], s.sum(1)

    monkeypatch.setattr(AllInOneBlock, "_affine", later)
    with pytest.raises(MethodError, match=r"install FrEIA==0\.2"):
        require_known_freia.__wrapped__()


def test_rotation_equals_pillow_on_the_raw_picture() -> None:
    raw = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)
    mean, std = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)

    def normalised(picture: Image.Image) -> Tensor:
        pixels = torch.from_numpy(np.array(picture)).float() / 255
        return ((pixels - mean) / std).permute(2, 0, 1)

    picture = Image.fromarray(raw)
    draw = torch.rand((), generator=torch.Generator().manual_seed(1), dtype=torch.float64).item()
    want = normalised(picture.rotate((2 * draw - 1) * 5.0, Image.Resampling.NEAREST))
    got = rotate(normalised(picture), torch.Generator().manual_seed(1), degrees=5.0)
    assert torch.equal(got, want)
    assert not torch.equal(got, normalised(picture))


def test_a_loss_that_is_not_finite_names_level_step_and_value() -> None:
    decoders = [
        make_decoder(6, 4, 1, 1.9, torch.Generator().manual_seed(level)) for level in range(2)
    ]
    trainer = Trainer(decoders, 4, 8, "own", lambda n: torch.arange(n))
    good = torch.randn(2, 6, 4, 4)
    trainer.update([good, good], 1e-4)
    bad = good.clone()
    bad[1, 0, 0, 0] = math.nan
    with pytest.raises(MethodError, match=r"nan at level 1, image batch 1, update 2 .*lower lr"):
        trainer.update([good, bad], 1e-4)


def test_features_that_are_not_maps_are_refused() -> None:
    trainer = Trainer(
        [make_decoder(6, 4, 1, 1.9, torch.Generator().manual_seed(0))], 4, 8, "own", torch.randperm
    )
    with pytest.raises(MethodError, match="not a feature map"):
        trainer.update([torch.zeros(2, 16, 6)], 1e-4)


@pytest.mark.parametrize("channels", [0, -4, 6])
def test_a_position_code_needs_a_multiple_of_four(channels: int) -> None:
    with pytest.raises(MethodError, match="multiple of 4"):
        position_code(channels, 2, 2)
