"""The auto-encoder of AE-SSIM: sizes, initial weights, and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from bench.api import MethodError
from bench.blocks.autoencoder import AutoEncoder, initialise

PUBLISHED = (32, 32, 32, 64, 64, 128, 64, 32)
SMALL = (2, 2, 2, 4, 4, 8, 4, 2)


@pytest.mark.parametrize(
    ("patch", "latent", "code", "wanted"),
    [
        (128, 100, None, 1_050_599),
        (256, 500, None, 2_722_231),
        (128, 100, 200, 1_255_499),
        (256, 500, 1000, 3_746_731),
    ],
)
def test_the_published_networks_have_their_number_of_parameters(
    patch: int, latent: int, code: int | None, wanted: int
) -> None:
    with torch.device("meta"):
        network = AutoEncoder(patch, 3, PUBLISHED, latent, code=code)
    assert sum(p.numel() for p in network.parameters()) == wanted


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("patch", [64, 128, 256, 512])
def test_a_patch_comes_back_in_its_size(patch: int, norm: bool) -> None:
    network = AutoEncoder(patch, 1, SMALL, 5, norm=norm).eval()
    patches = torch.rand(2, 1, patch, patch)
    with torch.no_grad():
        assert network.encode(patches).shape == (2, 5)
        assert network(patches).shape == patches.shape


def test_the_output_is_bounded_where_it_is_a_sigmoid() -> None:
    wide = 100 * torch.randn(3, 5, generator=torch.Generator().manual_seed(0))
    bounded = AutoEncoder(64, 3, SMALL, 5).decode(wide)
    assert 0 <= float(bounded.detach().min()) <= float(bounded.detach().max()) <= 1
    assert float(AutoEncoder(64, 3, SMALL, 5, output="linear").decode(wide).detach().min()) < 0


def test_initial_weights_are_uniform_within_their_published_bounds() -> None:
    network = AutoEncoder(128, 3, PUBLISHED, 100)
    initialise(network, "glorot", torch.Generator().manual_seed(0))
    for layer in network.convolutions():
        fans = layer.weight[0].numel() + layer.weight[:, 0].numel()
        bound = (6 / fans) ** 0.5
        assert 0.9 * bound < float(layer.weight.detach().abs().max()) <= bound
        assert layer.bias is not None
        assert not layer.bias.detach().any()
    initialise(network, "torch", torch.Generator().manual_seed(0))
    for layer in network.convolutions():
        bound = layer.weight[0].numel() ** -0.5
        assert 0.9 * bound < float(layer.weight.detach().abs().max()) <= bound
        assert layer.bias is not None
        assert 0 < float(layer.bias.detach().abs().max()) <= bound


def test_the_same_generator_gives_the_same_weights() -> None:
    def drawn(seed: int) -> list[torch.Tensor]:
        network = AutoEncoder(64, 3, SMALL, 5)
        initialise(network, "torch", torch.Generator().manual_seed(seed))
        return list(network.parameters())

    assert all(torch.equal(a, b) for a, b in zip(drawn(1), drawn(1), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(drawn(1), drawn(2), strict=True))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((100, 3, SMALL, 5), "patch = 100; the auto-encoder takes patches of 64, 128"),
        ((32, 3, SMALL, 5), "patch = 32"),
        ((64, 3, (1, 2, 3), 5), "it needs eight widths"),
        ((64, 3, SMALL, 0), "all of them positive"),
    ],
)
def test_networks_that_cannot_be_are_refused(arguments: Any, message: str) -> None:
    with pytest.raises(MethodError, match=message):
        AutoEncoder(*arguments)
