"""SPADE's cost against the common implementation's way, in one process.

    python benchmarks/spade.py [--device cuda]

The maps of one image at the published sizes (WideResNet-50-2 at 224 pixels) from random features,
without the network. The other side takes differences, squares and sums for a hundred gallery
vectors at a time; one hundred of each layer is timed and multiplied, since all cost the same.
Process CPU time on a CPU, wall time after synchronisation on a GPU.
"""

from __future__ import annotations

import argparse
import platform
import statistics
from typing import TYPE_CHECKING, Any

import torch
from padim import Pixels, RandomRun
from torch import nn

from bench.plugins.methods.spade import SPADE
from timing import alternate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from bench.api import Backbone

SIDE = 224
SHAPES = ((256, 56), (512, 28), (1024, 14), (2048, 7))
HUNDRED = 100
ROUNDS = 2
Line = tuple[str, float, "float | None"]


class RandomFeatures(nn.Module):
    """Stands for the network: positive numbers in the shapes of its four stages."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.device = device
        self.channels = [channels for channels, _ in SHAPES]
        self.generator = torch.Generator().manual_seed(0)

    def forward(self, images: Tensor) -> list[Tensor]:
        shapes = [(len(images), channels, side, side) for channels, side in SHAPES]
        found = [torch.randn(shape, generator=self.generator).relu_() for shape in shapes]
        return [feature.to(self.device) for feature in found]


class FeatureRun(RandomRun):
    """A run whose network is `RandomFeatures`."""

    def backbone(self, name: str, layers: Sequence[int] | Sequence[str]) -> Backbone:
        features: Any = RandomFeatures(self.device)
        found: Backbone = features
        return found


def fitted(device: torch.device, neighbours: int) -> SPADE:
    """A model with just the training images that each test image needs."""
    run = FeatureRun(device)
    method = SPADE(neighbours=neighbours)
    method.prepare(run)
    for _ in method.fit(Pixels(torch.zeros(neighbours, 3, SIDE, SIDE, device=device)), run):
        pass
    return method


def hundred_as_published(feature: Tensor, gallery: Tensor) -> Tensor:
    """(h w,) smallest distances of one layer's cells to a hundred vectors.

    Args:
        feature: (C, h, w).
        gallery: (100, C).
    """
    cells = feature.flatten(1).T[None]
    difference = cells - gallery[:, None] + 1e-6
    return difference.square().sum(2).sqrt().min(0).values


@torch.inference_mode()
def compare(device: torch.device | str) -> list[Line]:
    """Name, ratio and goal; ratios above the goal are good."""
    device = torch.device(device)
    features = [feature[0] for feature in RandomFeatures(device)(torch.zeros(1))[:-1]]
    lines: list[Line] = []
    for neighbours, goal in ((5, None), (50, 100.0)):
        method = fitted(device, neighbours)
        image = torch.zeros(1, 3, SIDE, SIDE, device=device)
        sides = {"ours": lambda method=method, image=image: method.raw(image)}
        for layer, (channels, _) in zip(features, SHAPES, strict=False):
            gallery = torch.randn(HUNDRED, channels).relu_().to(device)
            sides[f"{channels}"] = lambda layer=layer, gallery=gallery: hundred_as_published(
                layer, gallery
            )
        found = alternate(sides, device, ROUNDS + 1)
        times = {name: statistics.median(values[1:]) for name, values in found.items()}
        whole = sum(
            times[f"{channels}"] * (neighbours * side**2 // HUNDRED)
            for channels, side in SHAPES[:-1]
        )
        name = f"spade maps of an image, K = {neighbours}, differences and sums / ours"
        lines.append((name, whole / times["ours"], goal))
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--device", default="cpu")
    torch.set_num_threads(1)
    print(f"{platform.processor() or platform.machine()}, torch {torch.__version__}, one thread")
    for name, value, goal in compare(parser.parse_args().device):
        wanted = "" if goal is None else f"   goal {goal:.0f}"
        print(f"{name:66s} {value:8.1f}{wanted}")


if __name__ == "__main__":
    main()
