"""Memory of CS-Flow's training step with activations kept and recomputed, in one process.

    python benchmarks/csflow.py [--device cuda]

Four cross-scale blocks on features of 304 channels at 24x24, 12x12 and 6x6, as of 768 pixels, with
a quarter of the published width of the couplings. Memory is the peak of live tensors, counted at
every operation; parameters are apart, and once their gradients too, the same on both sides.
Sides take turns; times are process CPU time, on a GPU synchronised wall time.
"""

from __future__ import annotations

import argparse
import platform
from typing import TYPE_CHECKING

import torch

from bench.plugins.methods.csflow.flow import CrossScaleFlow, flow_loss
from live_tensors import LiveTensors
from timing import ratio

if TYPE_CHECKING:
    from torch import Tensor

CHANNELS = 304
SIDE = 24
HIDDEN = 256
KERNELS = (3, 3, 3, 5)
BATCH = 1


def step(flow: CrossScaleFlow, features: list[Tensor], *, saving: bool) -> None:
    """One training step without the optimiser, which is the same on both sides."""
    latents, log_dets = flow(features, save_memory=saving)
    flow_loss(latents, log_dets).backward()
    flow.zero_grad(set_to_none=True)


def peaks(flow: CrossScaleFlow, features: list[Tensor], *, saving: bool) -> tuple[int, int]:
    """Peak of live tensors in a step, in bytes: gradients of parameters apart, and with them."""
    apart, whole = LiveTensors(flow, gradients=False), LiveTensors(flow)
    with apart, whole:
        step(flow, features, saving=saving)
    return apart.peak, whole.peak


def compare(device: str) -> list[tuple[str, float, float | None]]:
    """(name, ratio, goal) of each comparison; names say where the goal is an upper limit."""
    torch.manual_seed(0)
    flow = CrossScaleFlow(CHANNELS, HIDDEN, KERNELS, clamp=3.0).to(device)
    # As after some training: with gains of zero the couplings would be nothing.
    for name, parameter in flow.named_parameters():
        if name.endswith("gain"):
            parameter.data.fill_(0.5)
    features = [
        torch.randn(BATCH, CHANNELS, SIDE >> scale, SIDE >> scale, device=device)
        for scale in range(3)
    ]
    saved, plain = (peaks(flow, features, saving=saving) for saving in (True, False))
    time = ratio(
        lambda: step(flow, features, saving=True),
        lambda: step(flow, features, saving=False),
        device,
        rounds=2,
    )
    return [
        (
            "csflow: peak of a memory-saving step over plain, gradients apart (at most)",
            saved[0] / plain[0],
            0.6,
        ),
        (
            f"csflow: the same with parameter gradients, batch {BATCH}",
            saved[1] / plain[1],
            None,
        ),
        ("csflow: time of a memory-saving step over plain (at most)", time, 1.5),
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
