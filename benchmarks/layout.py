"""Which memory layout convolves faster on a device: the measurement behind `bench.blocks.layout`.

    python benchmarks/layout.py [--device cuda]

Ratios above 1: channels last is faster. The same networks and weights on both sides, which take
turns; times are process CPU time, on a GPU synchronised wall time.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from bench.blocks.backbone import build_backbone
from bench.blocks.layout import fast_layout
from bench.plugins.methods.draem.networks import Reconstruction
from methods import Comparison, machine, table, write_json
from timing import ratio

if TYPE_CHECKING:
    from collections.abc import Callable

LAYOUTS = (torch.contiguous_format, torch.channels_last)


@dataclass(frozen=True)
class Case:
    """A network and its input, in training or in scoring."""

    name: str
    network: nn.Module
    shape: tuple[int, int, int, int]
    trains: bool

    def in_layout(self, layout: torch.memory_format, device: str) -> Callable[[], object]:
        """A call of the network, input and weights in this layout."""
        self.network.train(self.trains).to(device)
        images = torch.randn(self.shape).to(device, memory_format=layout)

        def call() -> object:
            self.network.to(memory_format=layout)
            with torch.set_grad_enabled(self.trains):
                result: Tensor = self.network(images)
                if self.trains:
                    result.square().mean().backward()  # type: ignore[no-untyped-call]
            return result

        return call


def cases() -> list[Case]:
    """The convolutions of a flow at full size, of an encoder, and of a trained autoencoder."""
    flow = nn.Sequential(
        nn.Conv2d(16, 32, 7, padding=3, bias=False),
        nn.LeakyReLU(),
        nn.Conv2d(32, 32, 7, padding=3, bias=False),
    )
    encoder = build_backbone("resnet18", (1, 2, 3)).net
    last = nn.Sequential(encoder, _Last())
    return [
        Case("PyramidFlow's couplings, training", flow, (2, 16, 256, 256), True),
        Case("ResNet18, scoring", last, (8, 3, 256, 256), False),
        Case("DRAEM's reconstruction, training", Reconstruction(16), (2, 3, 256, 256), True),
    ]


class _Last(nn.Module):
    """Of several features the last."""

    def forward(self, features: list[Tensor]) -> Tensor:
        return features[-1]


def compare(device: str) -> list[tuple[str, float, float | None]]:
    """(name, time in the contiguous layout over that in channels last, no goal) of each case."""
    found: list[tuple[str, float, float | None]] = []
    for case in cases():
        contiguous, last = (case.in_layout(layout, device) for layout in LAYOUTS)
        found.append((f"layout: {case.name}", ratio(contiguous, last, device), None))
    return found


def main() -> None:
    """Print the ratios, and which layout `bench` takes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--json", metavar="FILE", help="write the ratios there as well")
    arguments = parser.parse_args()
    found = [Comparison(*line) for line in compare(arguments.device)]
    chosen = str(fast_layout(torch.device(arguments.device))).removeprefix("torch.")
    print(f"{machine(arguments.device)}; taken here: {chosen}")
    print(table(found))
    if arguments.json:
        write_json(found, arguments.json)


if __name__ == "__main__":
    main()
