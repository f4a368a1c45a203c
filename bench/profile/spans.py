"""Time inside the backbones while the method runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn
    from torch.utils.hooks import RemovableHandle
    from typing_extensions import Self

    from bench.profile.clock import Clock


class Spans:
    """Stamps around every outermost forward pass of some modules.

    Stamps wait for nothing, so the method's own time is hardly disturbed.

    Attributes:
        calls: forward passes seen; 0 after a run where the method calls no backbone.
    """

    def __init__(self, modules: Sequence[nn.Module], clock: Clock) -> None:
        self.calls = 0
        self._modules = {id(m): m for m in modules}
        self._clock = clock
        self._depth = 0
        self._open: Any = None
        self._closed: list[tuple[Any, Any]] = []
        self._hooks: list[RemovableHandle] = []

    def __enter__(self) -> Self:
        for module in self._modules.values():
            self._hooks.append(module.register_forward_pre_hook(self._begin))
            self._hooks.append(module.register_forward_hook(self._end))
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()

    def take(self) -> float:
        """Seconds since the last call; the device must be idle."""
        closed, self._closed = self._closed, []
        return sum(self._clock.between(start, end) for start, end in closed)

    def _begin(self, module: nn.Module, inputs: Any) -> None:
        if self._depth == 0:
            self._open = self._clock.stamp()
        self._depth += 1

    def _end(self, module: nn.Module, inputs: Any, output: Any) -> None:
        self._depth -= 1
        if self._depth == 0:
            self._closed.append((self._open, self._clock.stamp()))
            self.calls += 1
