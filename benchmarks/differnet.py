"""DifferNet's training step and the memory of its maps against the published way, in one process.

    python benchmarks/differnet.py [--device cuda]

AlexNet with random weights at 256 pixels and three scales, eight blocks of a quarter of the
published width. The reference step evaluates all subnetworks a second time for the
log-determinant, and computes gradients of the encoder's parameters that nothing uses. The reference
map takes all copies at once. Both sides hold the same weights and take turns; times are process CPU
time, on a GPU synchronised wall time; memory is the peak of live tensors, counted at every
operation.
"""

from __future__ import annotations

import argparse
import platform
from typing import TYPE_CHECKING

import torch

from bench.api import Run
from bench.blocks.reversible import log_determinants, run_tracked
from bench.plugins.methods.differnet import DifferNet
from bench.plugins.methods.differnet.flow import negative_log_likelihoods
from bench.plugins.methods.differnet.rotation import rotate
from bench.weights.choice import Weights
from bench.weights.loading import load_backbone
from live_tensors import LiveTensors
from timing import ratio

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from bench.api import Backbone

SIDE = 256
HIDDEN = 512
COPIES = 8
FEW, MANY = 16, 64


class RandomWeights(Run):
    """A run whose backbones have random weights."""

    def __init__(self, device: str) -> None:
        self.device = torch.device(device)
        self.seed = 0
        self.image_size = (SIDE, SIDE)

    def generator(self, purpose: str) -> torch.Generator:
        return torch.Generator().manual_seed(len(purpose))

    def backbone(self, name: str, layers: Sequence[int] | Sequence[str]) -> Backbone:
        return load_backbone(name, layers, Weights("random"), seed=0, device=self.device)[0]


def prepared(device: str) -> DifferNet:
    method = DifferNet(hidden=HIDDEN)
    method.prepare(RandomWeights(device))
    return method


class Published:
    """The published step on the same weights: two evaluations of the flow, an unfrozen encoder."""

    def __init__(self, method: DifferNet) -> None:
        self.method = method
        self.optimiser = method.optimiser()

    def step(self, copies: Tensor) -> Tensor:
        method = self.method
        method.encoder.requires_grad_(True)
        vectors = method.vectors(copies)
        latents, _ = method.flow(vectors)
        loss = negative_log_likelihoods(latents, self.log_dets(vectors)).mean()
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        method.encoder.requires_grad_(False)
        detached: Tensor = loss.detach()
        return detached

    def log_dets(self, vectors: Tensor) -> Tensor:
        """All subnetworks once more, for their log-scales alone."""
        flow = self.method.flow
        parts = [vectors[:, : flow.first], vectors[:, flow.first :]]
        _, scales = run_tracked(list(flow.blocks), parts)
        return log_determinants(scales)


def map_peak(method: DifferNet, image: Tensor, copies: int, chunk: int) -> float:
    """Peak of live tensors while a picture's map is made, in 1e6 bytes."""
    method.test_rotations, method.chunk = copies, chunk
    live = LiveTensors(method.flow)
    with live:
        method.explain(image, method.fixed_angles())
    return float(live.peak / 1e6)


def compare(device: str) -> list[tuple[str, float, float | None]]:
    """(name, ratio, goal) of each comparison; names say where the goal is an upper limit."""
    method = prepared(device)
    published, optimiser = Published(prepared(device)), method.optimiser()
    generator = torch.Generator().manual_seed(1)
    image = torch.randn(3, SIDE, SIDE, generator=generator).to(device)
    angles = torch.rand(COPIES, generator=generator, dtype=torch.float64) * 360
    copies = rotate(image, angles)
    torch.testing.assert_close(method.step(copies, optimiser), published.step(copies))
    time = ratio(lambda: published.step(copies), lambda: method.step(copies, optimiser), device)
    ours = [map_peak(method, image, count, chunk=8) for count in (FEW, MANY)]
    whole = map_peak(method, image, MANY, chunk=MANY)
    return [
        ("differnet: published step / ours", time, 1.5),
        (f"differnet: peak of a map, {MANY} copies over {FEW} (at most)", ours[1] / ours[0], 1.02),
        (f"differnet: peak of a map, all {MANY} at once / ours", whole / ours[1], None),
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
