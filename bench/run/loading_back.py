"""Whether a method's state holds all that it learned: a fresh one that loads it predicts alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from bench.api import Method, Prediction
from bench.profile.mode import prediction_mode

if TYPE_CHECKING:
    from torch import Tensor

    from bench.api import Run

TOLERANCE = 1e-4
"""Of the range of the maps or scores: kernels of a GPU may add up in another order."""


def loads_back(fitted: Method, fresh: Method, run: Run, images: Tensor) -> str:
    """Load the state of one method into another, and compare their predictions.

    Args:
        fresh: of the same fields; nothing was called yet.
        run: for its `prepare`.
        images: (B, 3, H, W) on the device.

    Returns:
        what is wrong, as one line; empty if nothing is.
    """
    wanted = _predict(fitted, images)
    state = fitted.state()
    for name, value in state.items():
        if not isinstance(value, torch.Tensor):
            return f"{name} of state() is {type(value).__name__}, and only tensors are saved"
    # Copies, as from a file: what is shared would hide what is missing.
    copies = {name: value.detach().clone() for name, value in state.items()}
    try:
        fresh.prepare(run)
        fresh.load_state(copies)
        found = _predict(fresh, images)
    except Exception as error:  # noqa: BLE001 - a plugin may raise anything without its state
        cause = f"{type(error).__name__}: {error}".partition("\n")[0]
        return f"a copy that loads state() cannot predict ({cause}){_hint(fitted)}"
    for what in ("maps", "scores"):
        ours, theirs = getattr(wanted, what), getattr(found, what)
        if ours is None or theirs is None:
            is_same = ours is theirs
        else:
            spread = float(ours.max() - ours.min()) or 1.0
            is_same = ours.shape == theirs.shape and bool(
                ((ours - theirs).abs() <= TOLERANCE * spread).all()
            )
        if not is_same:
            return f"a copy that loads state() predicts other {what}{_hint(fitted)}"
    return ""


def left_out(method: Method) -> list[str]:
    """Attributes that hold arrays or objects of other libraries: no state, and not in `state_mb`.

    A method that overrides `state` says itself what it holds.
    """
    if type(method).state is not Method.state:
        return []
    module = type(method).__module__
    own = {"builtins", "torch", "collections", "functools", "pathlib", "bench", module}
    own.add(module.partition(".")[0])
    fields = getattr(type(method), "__dataclass_fields__", {})
    found = {}
    for name, value in vars(method).items():
        kind = type(value)
        package = kind.__module__.partition(".")[0]
        is_held = isinstance(value, (torch.Tensor, nn.Module))
        if not (is_held or {package, kind.__module__} & own or (name in fields and not value)):
            found[name] = f"{name} ({kind.__name__})"
    return list(found.values())


def _predict(method: Method, images: Tensor) -> Prediction:
    with prediction_mode(method):
        found = method.predict(images.clone())
        if type(method).finish is Method.finish:
            return found
        return method.finish(Prediction(_home(found.maps), _home(found.scores)))


def _home(values: Tensor | None) -> Tensor | None:
    """In host memory, where `finish` finds them."""
    return None if values is None else values.cpu()


def _hint(method: Method) -> str:
    """Which attributes may be missing, and what to do."""
    fields = getattr(type(method), "__dataclass_fields__", {})
    plain = (torch.Tensor, nn.Module, bool, int, float, str, type(None))
    objects = [
        f"{name} ({type(value).__name__})"
        for name, value in vars(method).items()
        if name not in fields and not isinstance(value, plain)
    ]
    suspects = f", unlike {', '.join(objects)}" if objects else ""
    return (
        f": tensor and module attributes are state{suspects}; keep what predict needs as those, or "
        "override state and load_state"
    )
