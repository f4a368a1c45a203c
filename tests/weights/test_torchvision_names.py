"""torchvision's networks, loaded into timm's under other names, compute the same features."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
import torchvision
from torch import Tensor, nn

from bench.weights.choice import Weights
from bench.weights.loading import load_backbone

if TYPE_CHECKING:
    from pathlib import Path

CPU = torch.device("cpu")


def randomised(network: nn.Module) -> nn.Module:
    """The network with statistics and offsets that a mistake would show in."""
    generator = torch.Generator().manual_seed(0)
    for key, value in network.state_dict().items():
        if key.endswith("running_var"):
            value.uniform_(0.001, 2, generator=generator)
        elif key.endswith(("running_mean", "bias", "class_token", "pos_embedding")):
            value.normal_(0, 0.1, generator=generator)
    return network.eval()


def until(network: Any, last: int) -> Any:
    return network.features[: last + 1]


@torch.no_grad()
def loaded(name: str, layer: int, network: nn.Module, folder: Path, images: Tensor) -> Tensor:
    torch.save(network.state_dict(), folder / "weights.pth")
    weights = Weights("file", folder / "weights.pth")
    backbone, _ = load_backbone(name, [layer], weights, seed=0, device=CPU)
    features: list[Tensor] = backbone(images)
    return features[0]


def similar(found: Tensor, wanted: Tensor) -> bool:
    return float((found - wanted).abs().max() / wanted.abs().max()) < 1e-5


@pytest.fixture
def images() -> Tensor:
    return torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("name", "network", "last"),
    [
        ("mobilenetv3_large_100", torchvision.models.mobilenet_v3_large, 3),
        ("mobilenetv2_100", torchvision.models.mobilenet_v2, 3),
        ("efficientnet_b0", torchvision.models.efficientnet_b0, 2),
    ],
)
@torch.no_grad()
def test_mobile_networks_match(
    name: str, network: Any, last: int, tmp_path: Path, images: Tensor
) -> None:
    theirs = randomised(network())
    found = loaded(name, 1, theirs, tmp_path, images)
    assert similar(found, until(theirs, last)(images))


@torch.no_grad()
def test_a_resnet_matches(tmp_path: Path, images: Tensor) -> None:
    theirs: Any = randomised(torchvision.models.resnet18())
    found = loaded("resnet18.tv_in1k", 1, theirs, tmp_path, images)
    stem = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(images))))
    assert similar(found, theirs.layer1(stem))


@torch.no_grad()
def test_a_vision_transformer_matches(tmp_path: Path) -> None:
    tiny = torchvision.models.VisionTransformer(224, 16, 12, 3, hidden_dim=192, mlp_dim=768)
    theirs: Any = randomised(tiny)
    images = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    found = loaded("vit_tiny_patch16_224", 0, theirs, tmp_path, images)
    tokens = torch.cat((theirs.class_token, theirs._process_input(images)), 1)
    first = theirs.encoder.layers[0](tokens + theirs.encoder.pos_embedding)[:, 1:]
    assert similar(found.flatten(2).mT, first)
