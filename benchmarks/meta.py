"""Methods without values: their networks on torch's meta device, and FLOPs of what they would do.

Shapes are followed, and nothing is computed. Two FLOPs are a multiply-add; what
`bench.profile.flops` counts zero (element-wise work, transforms, sorting) is zero here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from bench.api import Method, Run
from bench.blocks.backbone import build_backbone
from bench.profile.flops import count_flops

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from bench.api import Backbone

META = torch.device("meta")


class MetaRun(Run):
    """A run whose networks have shapes and no weights."""

    def __init__(self, side: int) -> None:
        self.device = META
        self.seed = 0
        self.image_size = (side, side)

    def generator(self, purpose: str) -> torch.Generator:
        return torch.Generator().manual_seed(len(purpose))

    def backbone(self, name: str, layers: Sequence[int] | Sequence[str]) -> Backbone:
        return self.network(name, layers).eval().requires_grad_(False)

    def network(self, name: str, layers: Sequence[int] | Sequence[str]) -> Backbone:
        with META:
            return build_backbone(name, layers).train()


@dataclass(frozen=True)
class Cost:
    """FLOPs.

    Attributes:
        settings: what they depend on, in words.
        training: of a class.
        image: of one test image.
    """

    settings: str
    training: float
    image: float


def flops(work: Callable[[], object]) -> int:
    """FLOPs of one call."""
    return count_flops(work).total


def inference(work: Callable[[], object]) -> int:
    """FLOPs of one call without gradients."""
    with torch.no_grad():
        return flops(work)


def step(loss: Callable[[], Tensor]) -> int:
    """FLOPs of a loss and its gradients."""
    return flops(lambda: loss().sum().backward())  # type: ignore[no-untyped-call]


def images(count: int, side: int, channels: int = 3) -> Tensor:
    """(count, channels, side, side) without values."""
    return torch.empty(count, channels, side, side, device=META)


def prepared(method: Method) -> int:
    """Prepare for images of its own input size; returns their side."""
    side: int = vars(method)["input_size"]
    method.prepare(MetaRun(side))
    return side
