"""AE-SSIM's test of an image, in tiles, against one patch at a time, in one process.

    python benchmarks/ae_ssim.py [--device cuda]

The default network with random weights on 256-pixel images: 25 patches of 128. The other side runs
the network on one patch after another, adds the results up in NumPy as the published code does, and
takes scikit-image's SSIM.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from skimage.metrics import structural_similarity

from bench.api import Run
from bench.plugins.methods.ae_ssim import AeSsim
from timing import ratio

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from bench.api import Backbone

SIZE = 256


class BareRun(Run):
    """A run for a method without a backbone."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seed = 0
        self.image_size = (SIZE, SIZE)

    def generator(self, purpose: str) -> torch.Generator:
        return torch.Generator().manual_seed(len(purpose))

    def backbone(self, name: str, layers: Sequence[int] | Sequence[str]) -> Backbone:
        raise NotImplementedError(f"no backbone {name} here")


def patch_by_patch(method: AeSsim, images: NDArray[np.uint8], device: torch.device) -> Any:
    """(N, H, W, 3) bytes -> (N, H, W) maps."""
    maps = []
    for image in images:
        total = np.zeros((SIZE, SIZE, 4))
        for top in range(0, SIZE - method.patch + 1, method.stride):
            for left in range(0, SIZE - method.patch + 1, method.stride):
                window = (slice(top, top + method.patch), slice(left, left + method.patch))
                patch = torch.from_numpy(image[window] / np.float32(255)).permute(2, 0, 1)
                found = network_of(method)(patch[None].to(device))[0]
                total[window][..., :3] += found.permute(1, 2, 0).cpu().numpy()
                total[window][..., 3:] += np.ones((method.patch, method.patch, 1))
        mean = (255 * total[..., :3] / total[..., 3:]).astype(np.uint8)
        similarity: Any = structural_similarity
        _, ssim = similarity(image, mean, win_size=method.window, channel_axis=-1, full=True)
        maps.append(1 - ssim.mean(-1))
    return np.stack(maps)


def network_of(method: AeSsim) -> Any:
    """The network without the change of layout that makes ours faster."""
    network = method.network
    return lambda patch: network.decoder(network.encoder(patch))


@torch.inference_mode()
def compare(device: torch.device | str) -> list[tuple[str, float, float | None]]:
    """Name, ratio and goal of each comparison; ratios above the goal are good."""
    device = torch.device(device)
    method = AeSsim(border=0)
    method.prepare(BareRun(device))
    drawn = np.random.default_rng(0).integers(0, 256, (2, SIZE, SIZE, 3), dtype=np.uint8)
    pixels = torch.from_numpy(drawn).permute(0, 3, 1, 2).float() / 255
    mean, std = torch.tensor((0.485, 0.456, 0.406)), torch.tensor((0.229, 0.224, 0.225))
    images = ((pixels - mean.view(3, 1, 1)) / std.view(3, 1, 1)).to(device)
    whole = ratio(
        lambda: patch_by_patch(method, drawn, device), lambda: method.raw(images), str(device)
    )
    patches = method.tiling.cut(pixels[0].to(device))
    network = ratio(
        lambda: [network_of(method)(patch[None]) for patch in patches],
        lambda: method.network(patches),
        str(device),
    )
    return [
        # On a CPU both sides are bound by the same arithmetic of the network.
        (
            "ae_ssim test of an image, patch by patch / tiles",
            whole,
            5.0 if device.type == "cuda" else None,
        ),
        ("ae_ssim network alone, patch by patch / tiles", network, None),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for name, found, goal in compare(arguments.device):
        print(f"{name:60s} {found:6.2f}   goal {goal}")


if __name__ == "__main__":
    main()
