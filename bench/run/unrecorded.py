"""Frozen parameters whose values no row could tell: neither the harness nor `fit` made them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from torch import Tensor

    from bench.api import Method


def unrecorded(method: Method, handed_out: Iterable[nn.Module]) -> dict[str, Tensor]:
    """Parameters without gradient that are of none of the networks that the run handed out.

    To be asked between `prepare` and `fit`: what a method freezes after training is its own work.
    Constants are no network and are passed over: parameters of a module that trains others (the
    permutation of a coupling), and of a class that the method's own code defines.
    """
    known = {id(p) for module in handed_out for p in module.parameters()}
    return {
        name: parameter
        for name, parameter in _parameters(method)
        if not parameter.requires_grad and id(parameter) not in known
    }


def warning(found: dict[str, Tensor]) -> str:
    """What a reader should know of them, as one line."""
    numbers = sum(p.numel() for p in found.values())
    return (
        f"{numbers:,} frozen parameters came from nowhere, first {next(iter(found))}: get the "
        "network from run.backbone or run.network, or record it by run.module(network, name)"
    )


def _parameters(method: Method) -> Iterator[tuple[str, Tensor]]:
    """Of all modules that the method holds or counts and that are frozen as a whole, each once."""
    held = {k: v for k, v in vars(method).items() if isinstance(v, nn.Module)}
    others = [module for module in method.modules() if all(module is not h for h in held.values())]
    seen: set[int] = set()
    for root, module in [*held.items(), *((type(m).__name__, m) for m in others)]:
        for name, part in module.named_modules(prefix=root):
            trains = any(p.requires_grad for p in part.parameters())
            if trains or type(part).__module__.startswith(type(method).__module__):
                continue
            for key, parameter in part.named_parameters(name, recurse=False):
                if id(parameter) not in seen:
                    seen.add(id(parameter))
                    yield key, parameter
