"""Patch SVDD: the embeddings of a picture, dense against patch by patch as published.

    python benchmarks/patchsvdd.py [--device cuda]

The published loop crops the patches of 64 pixels (stride 16) and of 32 pixels (stride 4), batches
them, and embeds each by itself. Both sides have the same weights and agree.
"""

from __future__ import annotations

import argparse
from functools import partial

import torch
from torch import Tensor

from bench.plugins.methods.patchsvdd import PatchSVDD
from bench.plugins.methods.patchsvdd.network import LARGE, SMALL, Encoder
from bench.plugins.methods.patchsvdd.scoring import cover_map
from timing import ratio

SIDE = 256
BATCH = 64
"""Patches in a batch of the published loop."""


@torch.inference_mode()
def by_patch(encoder: Encoder, images: Tensor) -> list[Tensor]:
    """Embeddings of both grids, (h * w, D) each."""
    found = []
    for side, stride in zip((LARGE, SMALL), PatchSVDD.strides, strict=True):
        places = range(0, SIDE - side + 1, stride)
        patches = [images[0, :, y : y + side, x : x + side] for y in places for x in places]
        parts = [
            encoder.embed(torch.stack(patches[start : start + BATCH]))
            for start in range(0, len(patches), BATCH)
        ]
        found.append(torch.cat(parts))
    return found


@torch.inference_mode()
def dense(encoder: Encoder, images: Tensor) -> list[Tensor]:
    """The same by one pass."""
    return [grid[0].flatten(0, 1) for grid in encoder.embed_densely(images, PatchSVDD.strides)]


def map_by_loop(distances: Tensor, side: int, stride: int) -> Tensor:
    """Mean over covering patches, added patch by patch, as published."""
    total = torch.zeros(SIDE, SIDE, device=distances.device)
    count = torch.zeros(SIDE, SIDE, device=distances.device)
    for i, row in enumerate(distances):
        for j, distance in enumerate(row):
            y, x = i * stride, j * stride
            total[y : y + side, x : x + side] += distance
            count[y : y + side, x : x + side] += 1
    return total / count


def compare(device: torch.device | str) -> list[tuple[str, float, float | None]]:
    """Name, ratio and goal of each comparison."""
    device = torch.device(device)
    torch.manual_seed(0)
    encoder = Encoder(PatchSVDD.embedding).to(device)
    images = torch.randn(1, 3, SIDE, SIDE, device=device)
    for ours, theirs in zip(dense(encoder, images), by_patch(encoder, images), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)
    distances = torch.rand(57, 57, device=device)
    size, stride = (SIDE, SIDE), PatchSVDD.strides[1]
    return [
        (
            "patchsvdd embedding of an image, patch by patch / dense",
            ratio(partial(by_patch, encoder, images), partial(dense, encoder, images), device.type),
            15.0,
        ),
        (
            "patchsvdd map of an image, patch by patch / products",
            ratio(
                lambda: map_by_loop(distances, SMALL, stride),
                lambda: cover_map(distances[None], SMALL, stride, size),
                device.type,
            ),
            None,
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--device", default="cpu")
    torch.set_num_threads(1)
    for name, share, goal in compare(parser.parse_args().device):
        print(f"{name:60s} {share:7.2f}   goal {goal}")


if __name__ == "__main__":
    main()
