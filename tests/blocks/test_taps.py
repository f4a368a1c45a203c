"""Outputs of named modules: which, how much of the network runs for them, and what is refused."""

from __future__ import annotations

import copy
import sys
from typing import Any

import pytest
import timm
import torch
from torch import nn

from bench.api import MethodError
from bench.blocks.architecture import Architecture, find_architecture
from bench.blocks.backbone import build_backbone
from bench.blocks.taps import find_taps

NETWORKS = {
    "test_resnet": ("layer1.0.bn2", "layer2", "layer3.0.act1"),
    "test_efficientnet": ("conv_stem", "blocks.2.0.bn1"),
    "mobilenetv3_small_050": ("blocks.1.0.bn3", "blocks.3.1"),
    "alexnet": ("features.2", "features.4", "features.12"),
    "squeezenet1_1": ("features.3", "features.12.expand3x3_activation"),
    "test_vit": ("patch_embed.proj",),
}


def by_hooks(net: nn.Module, names: tuple[str, ...], images: torch.Tensor) -> list[torch.Tensor]:
    """The same outputs, copied as soon as they are there, from a pass through everything."""
    found: dict[str, torch.Tensor] = {}
    for name in names:

        def keep(_module: Any, _inputs: Any, output: torch.Tensor, name: str = name) -> None:
            found[name] = output.clone()

        net.get_submodule(name).register_forward_hook(keep)
    net(images)
    return [found[name] for name in names]


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_outputs_are_those_of_the_whole_network(name: str) -> None:
    layers = NETWORKS[name]
    backbone = build_backbone(name, layers).eval()
    torch.manual_seed(3)
    whole = find_architecture(name).create().eval()
    missing, _ = backbone.net.load_state_dict(whole.state_dict(), strict=False)
    assert not missing
    images = torch.randn(2, 3, 96, 96)
    wanted = by_hooks(whole, layers, images)
    for feature, other in zip(backbone(images), wanted, strict=True):
        torch.testing.assert_close(feature, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_channels_and_strides_are_those_of_the_maps(name: str) -> None:
    backbone = build_backbone(name, NETWORKS[name]).eval()
    small, large = (backbone(torch.randn(1, 3, side, side)) for side in (160, 224))
    for less, more, channels, stride in zip(
        small, large, backbone.channels, backbone.strides, strict=True
    ):
        assert less.shape[1] == channels
        assert (more.shape[-1] - less.shape[-1]) * (stride or 0) == 64


@torch.no_grad()
def test_outputs_come_in_the_order_given_and_as_often() -> None:
    backbone = build_backbone("test_resnet", ("layer2", "conv1.0", "layer2")).eval()
    deep, first, again = backbone(torch.randn(1, 3, 64, 64))
    assert backbone.channels == [deep.shape[1], first.shape[1], again.shape[1]]
    assert torch.equal(deep, again)
    assert backbone.strides == [8, 2, 8]


@torch.no_grad()
def test_an_output_that_a_later_step_writes_over_is_kept() -> None:
    """timm adds the shortcut to the last norm's output in place, and activates in place."""
    backbone = build_backbone("resnet10t", ("layer1.0.bn2", "layer1")).eval()
    nn.init.ones_(backbone.net.get_parameter("layer1.0.bn2.weight"))
    found = backbone(torch.randn(1, 3, 64, 64))[0]
    assert found.min() < 0  # else it went through the activation
    assert not torch.equal(found, backbone(torch.randn(1, 3, 64, 64))[1])


@torch.no_grad()
def test_of_a_module_that_runs_twice_the_last_output_counts() -> None:
    architecture = Architecture("torchvision", "resnet18", "tv_in1k")  # one ReLU for each block
    tapped = find_taps("resnet18", architecture, ("layer1.0.relu", "layer1.0"))
    assert tapped.taps.calls == {"layer1.0.relu": 2, "layer1.0": 1}
    net = architecture.create().eval()
    tapped.cut(net)
    activation, block = tapped.taps.read(net, torch.randn(1, 3, 64, 64))
    assert torch.equal(activation, block)


@torch.no_grad()
def test_the_network_runs_no_further_than_the_last_module() -> None:
    backbone = build_backbone("vgg11", ("features.4",)).eval()
    ran = []
    for name, module in backbone.net.named_modules():
        module.register_forward_hook(lambda _m, _i, _o, name=name: ran.append(name))
    backbone(torch.randn(1, 3, 32, 32))
    assert "features.4" in ran
    assert not {"features.5", "features.6", "features", ""} & set(ran)


def test_what_lies_behind_the_last_module_is_not_counted() -> None:
    backbone = build_backbone("vgg11", ("features.4",))
    early = ("features.0.", "features.3.")
    whole = timm.create_model("vgg11").named_parameters()
    wanted = sum(p.numel() for name, p in whole if name.startswith(early))
    assert sum(p.numel() for p in backbone.parameters()) == wanted


@torch.no_grad()
def test_a_module_may_be_replaced_and_the_network_copied() -> None:
    backbone = build_backbone("vgg11", ("features.1",)).eval()
    images = torch.randn(1, 3, 32, 32)
    before = backbone(images)[0]
    other = copy.deepcopy(backbone)
    setattr(other.net.get_submodule("features"), "1", nn.Identity())
    assert other(images)[0].min() < 0
    assert torch.equal(backbone(images)[0], before)


def test_gradients_reach_the_input_through_a_named_module() -> None:
    backbone = build_backbone("test_resnet", ("layer1",)).eval().requires_grad_(False)
    images = torch.randn(1, 3, 32, 32, requires_grad=True)
    backbone(images)[0].sum().backward()  # type: ignore[no-untyped-call]
    assert images.grad is not None
    assert images.grad.abs().sum() > 0


def test_a_module_that_does_not_exist_is_refused_with_the_nearest() -> None:
    with pytest.raises(MethodError, match=r"no module 'layer2.0.bn3'; did you mean 'layer2.0.bn"):
        build_backbone("resnet18", ("layer2.0.bn3",))


@pytest.mark.parametrize(
    ("name", "layer", "reason"),
    [
        ("test_resnet", "global_pool", r"gives \(1, \d+\) for one image"),
        ("test_vit_relpos", "blocks.0", r"gives \(1, \d+, \d+\) for one image"),
        ("test_vit_relpos", "blocks", "does not run"),
    ],
)
def test_a_module_without_a_map_is_refused(name: str, layer: str, reason: str) -> None:
    with pytest.raises(MethodError, match=reason) as caught:
        build_backbone(name, (layer,))
    assert "\n" not in str(caught.value)


def test_numbers_and_names_together_are_refused() -> None:
    mixed: Any = (1, "layer2")
    with pytest.raises(MethodError, match="numbers and names; use one of the two"):
        build_backbone("resnet18", mixed)


def test_a_network_of_torchvision_wants_names() -> None:
    with pytest.raises(MethodError, match="torchvision's, which numbers no layers"):
        build_backbone("alexnet", (1, 2))


def test_timm_comes_first_and_torchvision_has_what_it_lacks() -> None:
    found = [find_architecture(name) for name in ("resnet18", "alexnet", "efficientnet_b5.tv_in1k")]
    assert [f.library for f in found] == ["timm", "torchvision", "torchvision"]
    assert found[1].tagged == "alexnet.tv_in1k"


def test_an_unknown_tag_of_a_network_of_torchvision_is_refused() -> None:
    with pytest.raises(MethodError, match=r"alexnet has no weights 'in1k'; did you mean 'tv_in1k'"):
        find_architecture("alexnet.in1k")


def test_without_torchvision_its_networks_are_refused_in_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(MethodError, match="'alexnet' is not timm's, and torchvision"):
        find_architecture("alexnet")
    assert find_architecture("resnet18").library == "timm"
