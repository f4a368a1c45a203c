"""Parameters, and the bytes that `predict` needs besides code."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

from torch import nn

from bench.profile.memory import MB

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from torch import Tensor

    from bench.api import Method


@dataclass(frozen=True)
class Size:
    """Parameters in millions (buffers not counted), and state in MB without compression."""

    params_m: float
    params_trainable_m: float
    state_backbone_mb: float
    state_fitted_mb: float

    @property
    def state_mb(self) -> float:
        """Everything that `predict` needs; a backbone that can be had again counts too."""
        return self.state_backbone_mb + self.state_fitted_mb


def size_of(method: Method, backbones: Sequence[nn.Module]) -> Size:
    """Count a fitted method. A tensor that is held twice counts once.

    Args:
        backbones: the networks that `Run.backbone` gave; every other tensor of `Method.state` is
            fitted state (Gaussians, galleries, templates, trained networks).
    """
    unique = {id(p): p for module in method.modules() for p in module.parameters()}
    trainable = sum(p.numel() for p in unique.values() if p.requires_grad)
    weights = list(chain.from_iterable(m.state_dict().values() for m in backbones))
    own = {_place(t) for t in weights}
    inside = tuple(_prefixes(method, backbones))
    state = method.state()
    fitted = [t for k, t in state.items() if _place(t) not in own and not k.startswith(inside)]
    return Size(
        sum(p.numel() for p in unique.values()) / 1e6,
        trainable / 1e6,
        _bytes(weights) / MB,
        _bytes(fitted) / MB,
    )


def _place(tensor: Tensor) -> tuple[object, ...]:
    """Which numbers a tensor shows: two names of one tensor have the same place."""
    start = tensor.data_ptr()
    if start == 0:  # empty or without storage: nothing to share
        return (id(tensor),)
    return (start, tensor.dtype, tuple(tensor.shape), tensor.stride())


def _bytes(tensors: Iterable[Tensor]) -> int:
    once = {_place(t): t for t in tensors}
    return sum(t.numel() * t.element_size() for t in once.values())


def _prefixes(method: Method, backbones: Sequence[nn.Module]) -> Iterator[str]:
    """How the names of backbone tensors begin in `Method.state`, should it hand out copies."""
    known = {id(module) for module in backbones}
    for attribute, value in vars(method).items():
        if isinstance(value, nn.Module):
            for name, module in value.named_modules():
                if id(module) in known:
                    yield f"{attribute}.{name}." if name else f"{attribute}."
