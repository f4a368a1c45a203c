"""DRAEM's synthetic anomalies against the published draws, image by image, in one process.

    python benchmarks/draem.py [--device cuda] [--side 256]

The other side is what the published reader does for each sample: everything is drawn and computed,
and then thrown away for the half of the samples that stay unchanged; Perlin noise from repeated
arrays; one picture at a time. Both sides have the same pictures in memory, the same textures and
the same ten operations, so that neither reading nor those decide. Both sides take turns; a ratio
is the other side's median over ours. Process CPU time on a CPU, wall time on a GPU.
"""

from __future__ import annotations

import argparse
import math
import platform
import statistics
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

from bench.plugins.methods.draem import Draem
from bench.plugins.methods.draem.networks import Discrimination, Reconstruction, initialise
from bench.plugins.methods.draem.operations import OPERATIONS
from bench.plugins.methods.draem.perlin import rotate
from bench.plugins.methods.draem.procedural import ProceduralTextures
from bench.plugins.methods.draem.synthesis import Samples, Settings, Synthesis
from bench.plugins.methods.draem.training import Trainer, focal_loss, ssim_loss
from timing import alternate, ratio

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

SIDE = 256
BATCH = 8
ROUNDS = 5
WIDTHS = (32, 16)
"""Of the networks on a CPU: a quarter of the published ones, whose step takes minutes there."""


def repeated_perlin(
    cells: tuple[int, int], side: int, random: np.random.Generator
) -> NDArray[np.float64]:
    """Perlin noise as the published code computes it: the gradients of the four corners of a cell
    repeated for each of its pixels, then four products."""
    rows, columns = cells
    height, width = side // rows, side // columns
    grid = np.mgrid[0 : rows : rows / side, 0 : columns : columns / side]
    grid = grid.transpose(1, 2, 0) % 1
    angles = 2 * math.pi * random.random((rows + 1, columns + 1))
    gradients = np.stack((np.cos(angles), np.sin(angles)), -1)
    whole = np.repeat(np.repeat(gradients, height, 0), width, 1)
    corners = []
    for a in (0, 1):
        for b in (0, 1):
            part = whole[a * height : a * height + side, b * width : b * width + side]
            offset = np.stack((grid[..., 0] - a, grid[..., 1] - b), -1)
            corners.append((offset * part).sum(-1))
    fade = 6 * grid**5 - 15 * grid**4 + 10 * grid**3
    top = corners[0] + fade[..., 1] * (corners[1] - corners[0])
    bottom = corners[2] + fade[..., 1] * (corners[3] - corners[2])
    found: NDArray[np.float64] = math.sqrt(2) * (top + fade[..., 0] * (bottom - top))
    return found


class OneByOne:
    """Samples in the published order of draws (its data loader at 2dbf673), one at a time."""

    def __init__(self, textures: ProceduralTextures, settings: Settings) -> None:
        self.textures = textures
        self.settings = settings
        self.random = np.random.default_rng(0)

    def __call__(self, pictures: Tensor) -> Samples:
        """Samples of (B, 3, H, W) uint8 pictures."""
        made = [self.sample(picture) for picture in pictures]
        return Samples(*(torch.stack(parts) for parts in zip(*made, strict=True)))

    def sample(self, picture: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Picture, altered picture, mask."""
        s, random = self.settings, self.random
        pixels = picture.float()
        if random.random() > 1 - s.rotate_share:
            pixels = self.turned(pixels).round()
        unit = (pixels / 255).permute(1, 2, 0).numpy()
        side = unit.shape[0]
        texture = self.textures.pictures([int(random.integers(len(self.textures)))])[0]
        for number in random.choice(len(OPERATIONS), s.operations, replace=False):
            texture = OPERATIONS[number](np.ascontiguousarray(texture), random.uniform)
        rows, columns = (2 ** int(random.integers(s.max_cells + 1)) for _ in range(2))
        noise = torch.from_numpy(repeated_perlin((rows, columns), side, random)[None])
        mask = (self.turned(noise)[0].numpy() > s.threshold).astype(np.float32)[..., None]
        beta = s.beta_max * random.random()
        inside = texture.astype(np.float32) * mask / 255
        altered = unit * (1 - mask) + (1 - beta) * inside + beta * unit * mask
        if random.random() > 1 - s.anomaly_share:
            altered, mask = unit, np.zeros_like(mask)
        planes = [np.transpose(x, (2, 0, 1)).astype(np.float32) for x in (unit, altered, mask)]
        return torch.from_numpy(planes[0]), torch.from_numpy(planes[1]), torch.from_numpy(planes[2])

    def turned(self, planes: Tensor) -> Tensor:
        """(C, H, W) turned by up to `rotate_degrees`."""
        degrees = self.random.uniform(-self.settings.rotate_degrees, self.settings.rotate_degrees)
        found: Tensor = rotate(planes[None], torch.tensor([degrees]))[0]
        return found


def plain_ssim_loss(redrawn: Tensor, target: Tensor) -> Tensor:
    """1 - SSIM by five convolutions with an 11x11 window, as published."""
    line = torch.exp(-((torch.arange(11) - 5.0) ** 2) / (2 * 1.5**2))
    line = line / line.sum()
    window = torch.outer(line, line).expand(3, 1, 11, 11).to(target)
    mean = partial(functional.conv2d, weight=window, padding=5, groups=3)
    a, b = mean(redrawn), mean(target)
    variance_a, variance_b = mean(redrawn**2) - a**2, mean(target**2) - b**2
    covariance = mean(redrawn * target) - a * b
    top = (2 * a * b + 0.01**2) * (2 * covariance + 0.03**2)
    below = (a**2 + b**2 + 0.01**2) * (variance_a + variance_b + 0.03**2)
    return 1 - (top / below).mean()


def plain_focal_loss(logits: Tensor, mask: Tensor) -> Tensor:
    """Focal loss from a softmax, a one-hot code made on the CPU, and a sum over classes."""
    p = logits.softmax(1).permute(0, 2, 3, 1).reshape(-1, 2)
    target = mask.permute(0, 2, 3, 1).reshape(-1, 1).long().cpu()
    one_hot = torch.zeros(len(target), 2).scatter_(1, target, 1).clamp(1e-5, 1 - 1e-5)
    true = (one_hot.to(p) * p).sum(1) + 1e-5
    return (-((1 - true) ** 2) * true.log()).mean()


def backward(loss: object, *tensors: Tensor) -> None:
    """Value and gradient of a loss."""
    leaf = tensors[0].detach().requires_grad_()
    loss(leaf, *tensors[1:]).backward()  # type: ignore[operator]


def compare(device: torch.device | str, side: int = SIDE) -> list[tuple[str, float, float | None]]:
    """Name, ratio and goal of each comparison."""
    generator = torch.Generator().manual_seed(0)
    textures = ProceduralTextures(32, (side, side), generator)
    pictures = torch.randint(256, (BATCH, 3, side, side), generator=generator, dtype=torch.uint8)
    ours, theirs = Synthesis(textures, Settings(), generator), OneByOne(textures, Settings())
    # Both sides draw anew at each call: the mean over several batches, or luck decides.
    batches = 6
    synthesis = ratio(
        lambda: [theirs(pictures) for _ in range(batches)],
        lambda: [ours(pictures) for _ in range(batches)],
        "cpu",
        ROUNDS,
    )
    redrawn, target = (torch.rand(BATCH, 3, side, side, generator=generator) for _ in range(2))
    logits = torch.randn(BATCH, 2, side, side, generator=generator)
    mask = (torch.rand(BATCH, 1, side, side, generator=generator) > 0.95).float()
    redrawn, target, logits, mask = (x.to(device) for x in (redrawn, target, logits, mask))
    name = str(device)
    ssim = ratio(
        lambda: backward(plain_ssim_loss, redrawn, target),
        lambda: backward(ssim_loss, redrawn, target),
        name,
    )
    focal = ratio(
        lambda: backward(plain_focal_loss, logits, mask),
        lambda: backward(focal_loss, logits, mask),
        name,
    )
    return [
        ("draem synthesis, image by image / ours", synthesis, 3.0),
        ("draem synthesis / training step (at most)", share_of_step(ours, pictures, device), 1.0),
        ("draem SSIM loss and gradient, 11x11 window / ours", ssim, None),
        ("draem focal loss and gradient, softmax / ours", focal, None),
    ]


def share_of_step(ours: Synthesis, pictures: Tensor, device: torch.device | str) -> float:
    """Time of a batch's synthesis over that of the networks' step on it.

    On a CPU with a quarter of the published widths, a sixteenth of the work, which counts against
    the synthesis.
    """
    device = torch.device(device)
    widths = WIDTHS if device.type == "cpu" else (Draem.recon_width, Draem.disc_width)
    networks = [Reconstruction(widths[0]), Discrimination(widths[1])]
    for network in networks:
        initialise(network, torch.Generator().manual_seed(0))
        network.to(device, memory_format=torch.channels_last)
    trainer = Trainer(*networks, lr=1e-4)

    def step() -> None:
        samples = ours(pictures)
        parts = (samples.pictures, samples.altered, samples.mask)
        trainer.step(*(part.to(device) for part in parts))

    calls = {"synthesis": lambda: ours(pictures), "step": step}
    found = {k: statistics.median(v) for k, v in alternate(calls, device, ROUNDS).items()}
    return found["synthesis"] / (found["step"] - found["synthesis"])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--side", type=int, default=SIDE)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{platform.processor() or platform.machine()}, torch {torch.__version__}, one thread")
    for name, value, goal in compare(arguments.device, arguments.side):
        print(f"{name:52s} {value:6.2f}" + ("" if goal is None else f"   goal {goal:.2f}"))


if __name__ == "__main__":
    main()
