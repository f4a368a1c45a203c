"""The machine's unit: one forward pass of a fixed ResNet18.

Frames per second of two machines are compared only as ratios to a reference that was measured on
both, so every row carries this time. The network is written out here, so that the unit is the same
whatever version of a model library is installed, and costs no import of one.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import nn

from bench.profile.clock import lap, measure

if TYPE_CHECKING:
    from torch import Tensor

    from bench.profile.clock import Clock
    from bench.settings.speed import SpeedProtocol

UNIT_SIZE = 224


class _Block(nn.Module):
    """Two 3x3 convolutions and a shortcut (He et al., 2016, figure 2)."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(before, after, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(),
            nn.Conv2d(after, after, 3, padding=1, bias=False),
            nn.BatchNorm2d(after),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or before != after:
            projection = nn.Conv2d(before, after, 1, stride, bias=False)
            self.shortcut = nn.Sequential(projection, nn.BatchNorm2d(after))

    def forward(self, images: Tensor) -> Tensor:
        return torch.relu(self.body(images) + self.shortcut(images))


def _resnet18() -> nn.Module:
    """ResNet18 with 1000 classes (He et al., 2016, table 1)."""
    widths = [64, 64, 64, 128, 128, 256, 256, 512, 512]
    blocks = [
        _Block(before, after, 2 if after != before else 1) for before, after in pairwise(widths)
    ]
    return nn.Sequential(
        nn.Conv2d(3, 64, 7, 2, padding=3, bias=False),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, padding=1),
        *blocks,
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(512, 1000),
    )


def unit_network() -> tuple[nn.Module, Tensor]:
    """ResNet18 with 1000 classes and random weights, and one (1, 3, 224, 224) image.

    The weights do not matter for the time. The caller's random numbers are left as they were.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)  # torch.manual_seed would reach every device
        network = _resnet18().eval()
        return network, torch.randn(1, 3, UNIT_SIZE, UNIT_SIZE)


@torch.inference_mode()
def unit_s(speed: SpeedProtocol, device: torch.device, clock: Clock) -> float:
    """Median seconds of the unit: image and result stay on the device."""
    network, image = unit_network()
    network, image = network.to(device), image.to(device)
    return measure(lambda: lap(lambda: network(image), clock), speed, device.type, clock).median_s
