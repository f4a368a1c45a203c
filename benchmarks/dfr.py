"""DFR's features against maps that are stretched to the image and averaged, in one process.

    python benchmarks/dfr.py [--device cuda]

VGG19 with random weights at 256 pixels, twelve layers on a grid of 64. The reference does what the
published code does: all sixteen layers are computed, each of the twelve maps is brought to 256x256
bilinearly and averaged over cells of 4x4. Both sides hold the same weights and take turns; times
are process CPU time, on a GPU synchronised wall time.
"""

from __future__ import annotations

import argparse
import platform
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from bench.plugins.methods.dfr import DFR
from bench.plugins.methods.dfr.regional import Aggregation, Taps
from bench.weights.choice import Weights
from bench.weights.loading import load_backbone
from timing import ratio

if TYPE_CHECKING:
    from torch import Tensor

SIDE = 256
CELL = 4


class Published:
    """Sixteen layers computed; each wanted one stretched, unfolded into cells and averaged."""

    def __init__(self, device: str) -> None:
        blocks = 5
        self.net = load_backbone(
            "vgg19.tv_in1k", (blocks - 1,), Weights("random"), seed=0, device=torch.device(device)
        )[0].net
        self.layers = DFR.layers
        self.taps = Taps(self.net, (*self.layers, f"relu{blocks}_4"), "reflect")

    def __call__(self, images: Tensor) -> Tensor:
        taps = self.taps(images)
        return torch.cat([self.cells(taps[name]) for name in self.layers], 1)

    def cells(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C, 64, 64)."""
        size = (SIDE, SIDE)
        stretched = functional.interpolate(x, size=size, mode="bilinear", align_corners=True)
        unfolded = functional.unfold(stretched, CELL, stride=CELL)
        means = unfolded.view(*x.shape[:2], CELL * CELL, -1).mean(2)
        grid: Tensor = means.view(*x.shape[:2], SIDE // CELL, SIDE // CELL)
        return grid


class Ours:
    """The same features as the method computes them."""

    def __init__(self, published: Published) -> None:
        self.taps = Taps(published.net, published.layers, "reflect")
        self.aggregation = Aggregation((SIDE, SIDE), (CELL, CELL), (CELL, CELL), "bilinear")

    def __call__(self, images: Tensor) -> Tensor:
        taps = self.taps(images)
        features: Tensor = self.aggregation([taps[name] for name in self.taps.names])
        return features


@torch.inference_mode()
def compare(device: str) -> list[tuple[str, float, float | None]]:
    """(name, ratio, goal) of each comparison."""
    published = Published(device)
    ours = Ours(published)
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(1, 3, SIDE, SIDE, generator=generator).to(device)
    torch.testing.assert_close(ours(images), published(images), rtol=1e-4, atol=1e-4)
    whole = ratio(lambda: published(images), lambda: ours(images), device)
    taps = published.taps(images)
    maps = [taps[name] for name in published.layers]
    cells = ratio(
        lambda: [published.cells(m) for m in maps], lambda: ours.aggregation(maps), device
    )
    return [
        ("dfr: features of an image, published / ours", whole, 5.0),
        ("dfr: stretching and averaging alone, published / ours", cells, None),
    ]


def main() -> None:
    """Print the comparisons."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    device = parser.parse_args().device
    torch.set_num_threads(1)
    name = (
        torch.cuda.get_device_name()
        if device == "cuda"
        else platform.processor() or platform.machine()
    )
    print(f"{name}, torch {torch.__version__}, {torch.get_num_threads()} threads")
    for label, value, goal in compare(device):
        aim = "" if goal is None else f"  (goal {goal:g})"
        print(f"{label:60s} {value:5.2f}{aim}")


if __name__ == "__main__":
    main()
