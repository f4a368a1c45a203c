"""The machine's unit: one forward pass of a fixed ResNet18.

Frames per second of two machines are compared only as ratios to a reference that was measured on
both, so every row carries this time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import timm
import torch

from bench.profile.clock import lap, measure

if TYPE_CHECKING:
    from torch import Tensor, nn

    from bench.profile.clock import Clock
    from bench.speed import SpeedProtocol

UNIT_SIZE = 224


def unit_network() -> tuple[nn.Module, Tensor]:
    """ResNet18 with 1000 classes and random weights, and one (1, 3, 224, 224) image.

    The weights do not matter for the time. The caller's random numbers are left as they were.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)  # torch.manual_seed would reach every device
        network: nn.Module = timm.create_model("resnet18", pretrained=False).eval()
        return network, torch.randn(1, 3, UNIT_SIZE, UNIT_SIZE)


@torch.inference_mode()
def unit_s(speed: SpeedProtocol, device: torch.device, clock: Clock) -> float:
    """Median seconds of the unit: image and result stay on the device."""
    network, image = unit_network()
    network, image = network.to(device), image.to(device)
    return measure(lambda: lap(lambda: network(image), clock), speed, device.type, clock).median_s
