"""FLOPs of one image, and the operators that the counter knows nothing about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# They allocate, copy or number: no arithmetic is lost by counting them zero.
_MOVES = frozenset(
    f"aten.{name}"
    for name in (
        "_local_scalar_dense",
        "_to_copy",
        "_unsafe_view",
        "alias",
        "arange",
        "as_strided",
        "cat",
        "clone",
        "constant_pad_nd",
        "contiguous",
        "copy_",
        "detach",
        "empty",
        "empty_like",
        "empty_strided",
        "expand",
        "fill_",
        "full",
        "full_like",
        "lift_fresh",
        "new_empty",
        "new_empty_strided",
        "new_full",
        "new_ones",
        "new_zeros",
        "ones",
        "ones_like",
        "permute",
        "repeat",
        "resize_",
        "scalar_tensor",
        "slice",
        "stack",
        "zero_",
        "zeros",
        "zeros_like",
    )
)


@dataclass(frozen=True)
class Flops:
    """FLOPs (2 for a multiply-add), and the names of the operators that counted zero, sorted."""

    total: int
    uncounted: tuple[str, ...]


class _Seen(TorchDispatchMode):  # type: ignore[no-untyped-call, misc, unused-ignore]
    """Writes down every operator that reaches the device, except views."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call, unused-ignore]
        self.names: set[str] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if not func.is_view:
            self.names.add(str(func.overloadpacket))
        return func(*args, **(kwargs or {}))


class _TakenApart(TorchDispatchMode):  # type: ignore[no-untyped-call, misc, unused-ignore]
    """Hands composite operators on in their parts, for which the counter has formulas.

    Outside inference mode they arrive in parts anyway; inside it, not under PyTorch 2.4.
    """

    def __init__(self, known: Mapping[Any, Any]) -> None:
        super().__init__()  # type: ignore[no-untyped-call, unused-ignore]
        self.known = known

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func.overloadpacket not in self.known:
            with self:
                parts = func.decompose(*args, **kwargs)
            if parts is not NotImplemented:
                return parts
        return func(*args, **kwargs)


class _NoModules:
    """Stands for the counter's tracker of modules: only the sum over all of them is read.

    The tracker hooks into the graph of every module, and `autograd.grad` refuses such graphs.
    """

    parents = frozenset({"Global"})

    def __enter__(self) -> None:
        return

    def __exit__(self, *_: object) -> None:
        return


def count_flops(work: Callable[[], object]) -> Flops:
    """Run `work` once under PyTorch's `FlopCounterMode`.

    The counter has formulas for matrix products, convolutions and attention; all else is zero
    (distances, Fourier transforms, inverses, sorting, element-wise work), and what runs outside
    PyTorch is not seen at all.
    """
    seen = _Seen()
    counter = FlopCounterMode(display=False)
    counter.mod_tracker = _NoModules()  # type: ignore[assignment, unused-ignore]
    with seen, counter, _TakenApart(counter.flop_registry):
        work()
    by_operator = counter.get_flop_counts().get("Global", {})
    counted = {str(name) for name, value in by_operator.items() if value > 0}
    total = sum(by_operator.values())
    return Flops(int(total), tuple(sorted(seen.names - counted - _MOVES)))
