"""A step of AnoGAN's latent search against one as published, in one process.

    python benchmarks/anogan.py [--device cuda]

The published search computes the features of the test image anew in each step, and gradients of
all weights that nobody uses. Networks of 128 pixels with random weights, of the default widths.
"""

from __future__ import annotations

import argparse

import torch

from bench.plugins.methods.anogan.dcgan import Discriminator, Generator
from bench.plugins.methods.anogan.search import Search
from timing import ratio

SIZE, LATENT, WIDTH = 128, 64, 64
STEPS = 2
FEATURE_WEIGHT, RATE = 0.1, 0.02


def published(
    generator: Generator, discriminator: Discriminator, images: torch.Tensor, start: torch.Tensor
) -> torch.Tensor:
    """The search as llien's code has it, but in evaluation mode."""
    z = start.clone().requires_grad_()
    optimizer = torch.optim.Adam([z], RATE)
    for _ in range(STEPS):
        generated = generator(z)
        residual = (images - generated).abs().sum()
        match = discriminator.features(images) - discriminator.features(generated)
        loss = (1 - FEATURE_WEIGHT) * residual + FEATURE_WEIGHT * match.abs().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return z.detach()


def compare(device: torch.device | str) -> list[tuple[str, float, float]]:
    """Name, ratio and goal of each comparison; ratios above the goal are good."""
    torch.manual_seed(0)
    generator = Generator(SIZE, 3, LATENT, WIDTH).to(device).eval()
    discriminator = Discriminator(SIZE, 3, WIDTH, 0.2, first_norm=False).to(device).eval()
    search = Search(generator, discriminator.features, FEATURE_WEIGHT, RATE)
    results = []
    for batch in (1, 4):
        images = torch.rand(batch, 3, SIZE, SIZE, device=device) * 2 - 1
        start = torch.randn(batch, LATENT, device=device)

        def slow(weights: bool, images: torch.Tensor = images, start: torch.Tensor = start) -> None:
            for network in (generator, discriminator):
                network.requires_grad_(weights)
            published(generator, discriminator, images, start)

        def fast(images: torch.Tensor = images, start: torch.Tensor = start) -> None:
            for network in (generator, discriminator):
                network.requires_grad_(False)
            # One update fewer: the search also looks where the last one ends.
            search.run(images, start, STEPS - 1)

        name = f"anogan search step, batch {batch}"
        results += [
            (f"{name}, f(x) recomputed / ours", ratio(lambda: slow(False), fast, str(device)), 1.2),
            (
                f"{name}, with weights' gradients / ours",
                ratio(lambda: slow(True), fast, str(device)),
                1.2,
            ),
        ]
    return results


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for name, found, goal in compare(arguments.device):
        print(f"{name:60s} {found:6.2f}   goal {goal:.2f}")


if __name__ == "__main__":
    main()
