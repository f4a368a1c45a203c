"""Feature maps of timm networks: order, sizes, formats, and names that do not exist."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from bench.api import MethodError
from bench.blocks.backbone import build_backbone

NETWORKS = ["test_resnet", "test_efficientnet", "test_vit", "mobilenetv3_small_050", "resnet10t"]


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_channels_and_strides_are_those_of_the_maps(name: str) -> None:
    backbone = build_backbone(name, (0, 1)).eval()
    features = backbone(torch.randn(2, 3, 64, 96))
    for feature, channels, stride in zip(
        features, backbone.channels, backbone.strides, strict=True
    ):
        assert stride is not None
        assert feature.shape == (2, channels, 64 // stride, 96 // stride)


@torch.no_grad()
def test_layers_come_in_the_order_requested() -> None:
    backbone = build_backbone("resnet10t", (3, 1, 1)).eval()
    last, first, again = backbone(torch.randn(1, 3, 64, 64))
    assert backbone.channels == [last.shape[1], first.shape[1], again.shape[1]] == [256, 64, 64]
    assert backbone.strides == [16, 4, 4]


@torch.no_grad()
def test_features_are_timms() -> None:
    backbone = build_backbone("resnet10t", (1, 3)).eval()
    images = torch.randn(2, 3, 64, 64)
    for found, wanted in zip(backbone(images), backbone.net(images), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_channels_come_second_from_networks_that_put_them_last() -> None:
    backbone = build_backbone("swin_tiny_patch4_window7_224", (0,)).eval()
    assert backbone(torch.randn(1, 3, 224, 224))[0].shape == (1, 96, 56, 56)


@torch.no_grad()
def test_a_network_of_other_statistics_gets_its_own() -> None:
    backbone = build_backbone("resnet10t", (0,)).eval()
    pixels = torch.rand(1, 3, 32, 32)
    mean = torch.tensor((0.485, 0.456, 0.406)).view(1, 3, 1, 1)
    std = torch.tensor((0.229, 0.224, 0.225)).view(1, 3, 1, 1)
    wanted = backbone((pixels - 0.5) / 0.5)[0]
    backbone.expect((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    found = backbone((pixels - mean) / std)[0]
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    assert not [key for key in backbone.state_dict() if not key.startswith("net.")]


def test_an_unknown_network_is_refused_with_the_nearest_names() -> None:
    with pytest.raises(MethodError, match=r"unknown backbone 'resnet19'; did you mean .*resnet18"):
        build_backbone("resnet19", (1,))


def test_an_unknown_tag_is_refused_with_the_known_ones() -> None:
    with pytest.raises(MethodError, match=r"no weights 'tv_in2k'; did you mean 'tv_in1k'"):
        build_backbone("resnet18.tv_in2k", (1,))


@pytest.mark.parametrize("layers", [(5,), (-1,), (1, 9), ()])
def test_a_layer_that_does_not_exist_is_refused_with_the_choices(layers: Any) -> None:
    with pytest.raises(MethodError, match="choose layers from 0 to 4"):
        build_backbone("resnet18", layers)


@torch.no_grad()
def test_an_image_that_patches_do_not_tile_is_refused() -> None:
    backbone = build_backbone("test_vit", (0,)).eval()
    with pytest.raises(MethodError, match="cannot read 40x40 images"):
        backbone(torch.randn(1, 3, 40, 40))


def test_a_network_that_cannot_give_a_layers_map_is_refused() -> None:
    with pytest.raises(MethodError, match="tresnet_m gives no feature maps for layers"):
        build_backbone("tresnet_m", (0,))
