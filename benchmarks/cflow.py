"""Time CFLOW's scoring and updates against loops that do what the published code does.

    python benchmarks/cflow.py [--device cuda]

The reference is written from the specification: encoder, position codes made for every batch, 256
fibers at a time through the FrEIA decoders, likelihoods appended to a Python list that is copied
as it grows, one upsampling of the whole test set. Both sides hold the same weights and alternate
in one process; times are process CPU time, on a GPU synchronised wall time.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import math
import platform
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from bench.api import Run
from bench.blocks.backbone import Backbone, build_backbone
from bench.blocks.position import position_code
from bench.plugins.methods.cflow import Cflow
from bench.plugins.methods.cflow.decoder import fiber_loss, log_likelihood, make_decoder
from bench.plugins.methods.cflow.training import Trainer
from timing import ratio

if TYPE_CHECKING:
    from collections.abc import Sequence

SIZE = 256
BATCH = 8
GROUP = 256
CONDITION = 128
LITE = {40: 32, 112: 16, 320: 8}
"""Channels and sides of three maps of EfficientNet-Lite0 at 256 pixels."""
RATE = 1e-4


class RandomWeights(Run):
    """A run whose backbones have random weights."""

    def __init__(self, device: str) -> None:
        self.device = torch.device(device)
        self.seed = 0
        self.image_size = (SIZE, SIZE)

    def generator(self, purpose: str) -> torch.Generator:
        digest = hashlib.sha256(purpose.encode()).digest()
        return torch.Generator().manual_seed(int.from_bytes(digest[:7], "little"))

    def backbone(self, name: str, layers: Sequence[int] | Sequence[str]) -> Backbone:
        torch.manual_seed(self.seed)
        net = build_backbone(name, layers).eval().requires_grad_(False)
        return net.to(self.device)


def fitted(precision: str, device: str) -> Cflow:
    """ResNet18 with 3 levels and 8 couplings, as prepared; training would not change the time."""
    method = Cflow(backbone="resnet18", precision=precision)
    method.prepare(RandomWeights(device))
    method.maxima = torch.full((3,), -1.0, dtype=torch.float64)
    return method


class Reference:
    """The published test pass over batches of images."""

    def __init__(self, method: Cflow) -> None:
        self.encoder = copy.deepcopy(method.encoder).to(memory_format=torch.contiguous_format)
        self.decoders = list(method.decoders)

    def __call__(self, batches: Sequence[Tensor]) -> Tensor:
        lists: list[list[float]] = [[] for _ in self.decoders]
        sizes: list[tuple[int, int]] = []
        for images in batches:
            features = self.encoder(images)
            sizes = [(x.shape[2], x.shape[3]) for x in features]
            for level, x in enumerate(features):
                lists[level] = self.append(lists[level], level, x)
        return self.maps(lists, sizes)

    def append(self, values: list[float], level: int, x: Tensor) -> list[float]:
        batch, channels, height, width = x.shape
        code = position_code(CONDITION, height, width).to(x.device)
        codes = code.expand(batch, -1, -1, -1).permute(0, 2, 3, 1).reshape(-1, CONDITION)
        fibers = x.permute(0, 2, 3, 1).reshape(-1, channels)
        for start in range(0, len(fibers), GROUP):
            group = slice(start, start + GROUP)
            z, log_det = self.decoders[level](fibers[group], [codes[group]])
            logp = log_det - z.square().sum(1) / 2 - channels / 2 * math.log(2 * math.pi)
            values = values + (logp / channels).tolist()
        return values

    def maps(self, lists: Sequence[list[float]], sizes: Sequence[tuple[int, int]]) -> Tensor:
        total: Tensor | None = None
        for values, (height, width) in zip(lists, sizes, strict=True):
            q = torch.tensor(values, dtype=torch.float64)
            p = (q - q.max()).exp().reshape(-1, 1, height, width)
            p = interpolate(p, size=(SIZE, SIZE), mode="bilinear", align_corners=True)[:, 0]
            total = p if total is None else total + p
        assert total is not None
        return total.max() - total


def ours(method: Cflow, batches: Sequence[Tensor]) -> Tensor:
    """Maps of all batches, on the CPU as the harness wants them."""
    return torch.cat([method.predict(images).maps.cpu() for images in batches])


def bf16_gain(device: str) -> float:
    """Speed of a bf16 matrix product relative to float32: what the hardware can give at most."""
    full = torch.randn(2048, 512, device=device), torch.randn(512, 512, device=device)
    half = full[0].bfloat16(), full[1].bfloat16()

    def product(a: Tensor, b: Tensor) -> None:
        for _ in range(20):
            a @ b

    return ratio(lambda: product(*full), lambda: product(*half), device)


class PublishedUpdates:
    """The published training pass over one batch: the FrEIA modules, one Adam for all decoders."""

    def __init__(self, decoders: Sequence[nn.Module]) -> None:
        self.decoders = decoders
        trained = [p for decoder in decoders for p in decoder.parameters() if p.requires_grad]
        self.optimizer = torch.optim.Adam(trained, lr=RATE)

    def __call__(self, features: Sequence[Tensor]) -> list[float]:
        losses = []
        for decoder, x in zip(self.decoders, features, strict=True):
            batch, channels, height, width = x.shape
            code = position_code(CONDITION, height, width).to(x.device)
            codes = code.expand(batch, -1, -1, -1).permute(0, 2, 3, 1).reshape(-1, CONDITION)
            fibers = x.permute(0, 2, 3, 1).reshape(-1, channels)
            order = torch.randperm(len(fibers)).to(x.device)
            for start in range(0, len(fibers) - GROUP + 1, GROUP):
                group = order[start : start + GROUP]
                z, log_det = decoder(fibers[group], [codes[group]])
                loss = fiber_loss(log_likelihood(z, log_det)).mean()
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()
                losses.append(loss.item())
        return losses


def updates(device: str) -> float:
    """Time of the published updates over that of ours, on the maps of EfficientNet-Lite0."""
    generator = torch.Generator().manual_seed(3)
    ours, theirs = (
        [make_decoder(c, CONDITION, 8, 1.9, generator).to(device) for c in LITE] for _ in range(2)
    )
    features = [
        torch.randn(BATCH, c, side, side, generator=generator).to(device)
        for c, side in LITE.items()
    ]
    published = PublishedUpdates(theirs)
    trainer = Trainer(ours, CONDITION, GROUP, "own", torch.randperm)
    return ratio(lambda: published(features), lambda: trainer.update(features, RATE), device)


def compare(device: str) -> list[tuple[str, float, float | None]]:
    """(name, ratio, goal) of each comparison; a goal of None where it does not apply."""
    label = f"cflow: published updates over ours, {GROUP} fibers"
    return [*compare_scoring(device), (label, updates(device), None)]


@torch.inference_mode()
def compare_scoring(device: str) -> list[tuple[str, float, float | None]]:
    """The comparisons of the test pass."""
    full, half = fitted("float32", device), fitted("bf16", device)
    reference = Reference(full)
    count = 2 if device == "cpu" else 8
    generator = torch.Generator().manual_seed(0)
    batches = [torch.randn(BATCH, 3, SIZE, SIZE, generator=generator) for _ in range(count)]
    batches = [images.to(device) for images in batches]
    gain = bf16_gain(device)
    goals: tuple[float, float | None] = (1.15, 1.8) if device == "cpu" else (5.0, 5.0)
    if gain < 1.2:
        goals = (goals[0], None)

    def run_reference() -> Tensor:
        return reference(batches)

    label = f"cflow: 256-fiber loop / all fibers, batch {BATCH}"
    return [
        (f"{label}, float32", ratio(run_reference, lambda: ours(full, batches), device), goals[0]),
        (f"{label}, bf16", ratio(run_reference, lambda: ours(half, batches), device), goals[1]),
        ("cflow: bf16 matrix product, speed over float32", gain, None),
        ("cflow: scoring time per image, 8 images over 32", linearity(full, device), 0.9),
    ]


def linearity(method: Cflow, device: str) -> float:
    """Time per image of 8 images over that of 32: 1 where it is linear, below where it grows."""
    few = [torch.randn(BATCH, 3, SIZE, SIZE, device=device)]
    many = few * 4
    return 4 * ratio(lambda: ours(method, few), lambda: ours(method, many), device)


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
