"""Time and memory of PyramidFlow against a reference that does what the published code does.

    python benchmarks/pyramidflow.py [--device cuda]

The reference is written from the description: levels resized before their convolutions,
log-determinants carried along, 1x1 matrices multiplied out in every pass, blurs by 5x5 kernels at
full width, plain memory layout. It shares our parameters, and its maps are compared with ours
first. Sides alternate in one process; times are process CPU time, on a GPU synchronised wall time.
Memory is the peak of live tensors, counted at every operation.
"""

from __future__ import annotations

import argparse
import platform
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import conv2d, interpolate, leaky_relu, max_pool2d

from bench.api import Run
from bench.plugins.methods.pyramidflow import PyramidFlow
from bench.plugins.methods.pyramidflow.loss import fourier_loss
from live_tensors import LiveTensors
from timing import ratio

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.api import Backbone

SIZE = 256
# The published code evaluates 4 images at a time.
BATCH = 4


class BareRun(Run):
    """A run for the variant without encoder."""

    def __init__(self, device: str) -> None:
        self.device = torch.device(device)
        self.seed = 0
        self.image_size = (SIZE, SIZE)

    def generator(self, purpose: str) -> torch.Generator:
        return torch.Generator().manual_seed(0)

    def backbone(self, name: str, layers: Sequence[int] | Sequence[str]) -> Backbone:
        raise NotImplementedError


def prepared(device: str, stacks: int = 4) -> PyramidFlow:
    """The published configuration; couplings away from zero, as after training."""
    method = PyramidFlow(stacks=stacks)
    method.prepare(BareRun(device))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for block in method.flow.chain():
            block.last.copy_(0.01 * torch.randn(block.last.shape, generator=generator))
    return method


class Reference:
    """The published forward pass, with the parameters of one of our methods."""

    def __init__(self, method: PyramidFlow) -> None:
        self.method = method
        taps = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0], device=method.encoder.weight.device)
        self.kernel = torch.outer(taps, taps) / 256

    def blur(self, x: Tensor) -> Tensor:
        width = x.shape[1]
        return conv2d(x, self.kernel.expand(width, 1, 5, 5), padding=2, groups=width)

    def up(self, x: Tensor, like: Tensor) -> Tensor:
        return self.blur(interpolate(x, size=like.shape[-2:], mode="nearest"))

    def decompose(self, x: Tensor) -> list[Tensor]:
        bands = []
        for _ in range(self.method.levels - 1):
            coarse = max_pool2d(self.blur(x), 2)
            bands.append(x - self.up(coarse, x))
            x = coarse
        return [*bands, x]

    def compose(self, bands: Sequence[Tensor]) -> Tensor:
        x = bands[-1]
        for band in reversed(bands[:-1]):
            x = self.up(x, band) + band
        return x

    def latents(self, images: Tensor) -> list[Tensor]:
        with torch.no_grad():
            values = self.decompose(conv2d(images, self.method.encoder.weight))
        sums = [torch.zeros_like(x) for x in values]
        for block in self.method.flow.chain():
            self.couple(block, values, sums)
        return values

    def couple(self, block: Any, values: list[Tensor], sums: list[Tensor]) -> None:
        target = values[block.target]
        kind = type(block).__name__
        parts = [values[i] for i in block.sources]
        if kind != "DownCoupling":
            parts = [interpolate(x, size=target.shape[-2:], mode="nearest") for x in parts]
        pad = block.first.shape[-1] // 2
        hidden = leaky_relu(conv2d(torch.cat(parts, 1), block.first, padding=pad), 0.01)
        raw, shift = conv2d(hidden, block.last, padding=pad).chunk(2, 1)
        log_scale = 2 * 0.636 * torch.atan(raw / 2)
        training = block.norm.training
        mean = log_scale.mean((0, 1), keepdim=True) if training else block.norm.running_mean
        log_scale = log_scale - mean
        scale = log_scale.exp()
        if kind == "DownCoupling":
            size = target.shape[-2:]
            scale = interpolate(scale, size=size, mode="nearest")
            shift = interpolate(shift, size=size, mode="nearest")
            log_scale = interpolate(log_scale, size=size, mode="nearest")
        y = scale * target + shift
        values[block.target] = conv2d(y, block.conv.weight()[:, :, None, None])
        sums[block.target] = sums[block.target] + log_scale

    def maps(self, images: Tensor) -> Tensor:
        pairs = zip(self.latents(images), self.method.template.levels(), strict=True)
        return self.compose([(z - t).abs() for z, t in pairs]).mean(1)

    def step(self, images: Tensor) -> None:
        squares = [(z[:1] - z[1:]).square() for z in self.latents(images)]
        fourier_loss(self.compose(squares).mean(1)).backward()
        self.method.flow.zero_grad(set_to_none=True)


def step(method: PyramidFlow, images: Tensor, *, saving: bool) -> None:
    """One training step without the optimiser, which is the same on all sides."""
    method.loss(method.flow(method.pyramid(images), saving)).backward()
    method.flow.zero_grad(set_to_none=True)


def peak_mb(method: PyramidFlow, images: Tensor, *, saving: bool) -> float:
    """Peak of live tensors in a training step, in 1e6 bytes."""
    live = LiveTensors(method.flow)
    with live:
        step(method, images, saving=saving)
    return float(live.peak / 1e6)


def peak_growth(device: str, images: Tensor) -> float:
    """Peak of a memory-saving step with 8 stacks over that with 2, parameter gradients apart."""
    peaks: list[float] = []
    for stacks in (8, 2):
        method = prepared(device, stacks)
        method.training_mode(True)
        gradients = 4e-6 * sum(p.numel() for p in method.flow.parameters())
        peaks.append(peak_mb(method, images, saving=True) - gradients)
    return peaks[0] / peaks[1]


def compare_inference(
    method: PyramidFlow, device: str, batch: int
) -> tuple[str, float, float | None]:
    """The published forward pass and map against `predict`."""
    reference = Reference(method)
    method.training_mode(False)
    images = torch.randn(batch, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(2))
    images = images.to(device)
    with torch.inference_mode():
        torch.testing.assert_close(
            method.predict(images).maps, reference.maps(images), atol=1e-3, rtol=1e-3
        )
        value = ratio(
            lambda: reference.maps(images), lambda: method.predict(images), device, rounds=5
        )
    return f"pyramidflow: published inference over ours, batch {batch}", value, 1.3


def compare(device: str) -> list[tuple[str, float, float | None]]:
    """(name, ratio, goal) of each comparison; names say where the goal is an upper limit."""
    method = prepared(device)
    results = [compare_inference(method, device, batch) for batch in (1, BATCH)]
    method.training_mode(True)
    reference = Reference(method)
    pair = torch.randn(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(3)).to(device)

    def plain() -> None:
        step(method, pair, saving=False)

    def saving() -> None:
        step(method, pair, saving=True)

    memory = peak_mb(method, pair, saving=True) / peak_mb(method, pair, saving=False)
    return [
        *results,
        (
            "pyramidflow: memory-saving step over plain (at most)",
            ratio(saving, plain, device, rounds=5),
            1.4,
        ),
        ("pyramidflow: peak of that step over plain (at most)", memory, 0.45),
        ("pyramidflow: its peak, 8 stacks over 2 (at most)", peak_growth(device, pair), 1.02),
        (
            "pyramidflow: published plain step over our plain step",
            ratio(lambda: reference.step(pair), plain, device),
            None if device == "cpu" else 1.3,
        ),
        (
            "pyramidflow: published plain step over our memory-saving",
            ratio(lambda: reference.step(pair), saving, device),
            None,
        ),
    ]


def main() -> None:
    """Print the comparisons."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    device = parser.parse_args().device
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
