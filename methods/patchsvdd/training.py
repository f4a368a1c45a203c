"""The two losses of Patch SVDD, and an update of encoder and classifiers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .network import Encoder, PositionClassifier
    from .sampling import Pairs


@dataclass(frozen=True)
class Losses:
    """Losses of a batch before its update, as scalar tensors.

    Attributes:
        total: their weighted sum.
        position: cross-entropy by side of the patches.
        closeness: mean distance of near copies by side.
    """

    total: Tensor
    position: dict[int, Tensor]
    closeness: dict[int, Tensor]


def losses(
    encoder: Encoder,
    classifiers: Mapping[int, PositionClassifier],
    pairs: Mapping[int, Pairs],
    weight: float,
) -> Losses:
    """Cross-entropy of directions, and `weight` times the distance of near copies (section 3).

    The distance is not squared; where two embeddings are equal its gradient is zero.
    """
    position, closeness = {}, {}
    for side, patches in pairs.items():
        joined = torch.cat([patches.first, patches.second, patches.near, patches.near_to])
        first, second, near, near_to = encoder.embed(joined).chunk(4)
        logits = classifiers[side](first, second)
        position[side] = cross_entropy(logits, patches.direction)
        closeness[side] = (near - near_to).norm(dim=1).mean()
    total = torch.stack([*position.values()]).sum()
    total = total + weight * torch.stack([*closeness.values()]).sum()
    return Losses(total, position, closeness)


def parameters(
    encoder: nn.Module, classifiers: Mapping[int, PositionClassifier]
) -> list[nn.Parameter]:
    """What Adam moves: all but the classifiers' last weights."""
    modules = (encoder, *classifiers.values())
    return [p for module in modules for p in module.parameters() if p.requires_grad]


def train_step(
    encoder: Encoder,
    classifiers: Mapping[int, PositionClassifier],
    pairs: Mapping[int, Pairs],
    weight: float,
    optimizer: torch.optim.Optimizer,
) -> Losses:
    """One update."""
    found = losses(encoder, classifiers, pairs, weight)
    optimizer.zero_grad()
    found.total.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return found
