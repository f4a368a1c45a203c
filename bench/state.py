"""The tensors that an object holds, by name: what a method saves. Imports torch when called."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.errors import MethodError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn


def modules_of(holder: object) -> dict[str, nn.Module]:
    """Every module attribute."""
    from torch import nn

    return {name: value for name, value in vars(holder).items() if isinstance(value, nn.Module)}


def state_of(holder: object) -> dict[str, Tensor]:
    """Every tensor attribute, and the state of every module attribute under "attribute.name"."""
    import torch
    from torch import nn

    tensors: dict[str, Tensor] = {}
    for name, value in vars(holder).items():
        if isinstance(value, nn.Module):
            tensors |= {f"{name}.{key}": item for key, item in value.state_dict().items()}
        elif isinstance(value, torch.Tensor):
            tensors[name] = value
    return tensors


def load_into(holder: object, state: Mapping[str, Tensor]) -> None:
    """The inverse of `state_of`, on an object that has its modules.

    Raises:
        MethodError: names or shapes do not fit the modules.
    """
    modules = modules_of(holder)
    for name, module in modules.items():
        part = {k[len(name) + 1 :]: v for k, v in state.items() if k.startswith(f"{name}.")}
        try:
            module.load_state_dict(part)
        except RuntimeError as error:
            raise MethodError(f"saved state does not fit {name}: {error}") from error
    for name, value in state.items():
        if name.split(".", 1)[0] not in modules:
            setattr(holder, name, value)
