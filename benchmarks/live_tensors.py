"""Memory of tensors, counted as they are made and freed: the same on every device."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

if TYPE_CHECKING:
    import torch
    from torch import nn


class LiveTensors(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of all tensors made inside, as long as they live; not those of `module`.

    Attributes:
        peak: most bytes at a time.
    """

    def __init__(self, module: nn.Module, *, gradients: bool = True) -> None:
        """`gradients`: count tensors of the shapes of the module's parameters, too."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.left_out = set() if gradients else {p.shape for p in module.parameters()}
        self.now = self.peak = 0
        self.sizes: dict[int, int] = {}
        held = [*module.parameters(), *module.buffers()]
        self.held = {tensor.untyped_storage()._cdata for tensor in held}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor) and tensor.shape not in self.left_out:
                self.note(tensor.untyped_storage())
        return result

    def note(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self.sizes or key in self.held:
            return
        self.sizes[key] = storage.nbytes()
        self.now += storage.nbytes()
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self.forget, key)

    def forget(self, key: int) -> None:
        self.now -= self.sizes.pop(key)
