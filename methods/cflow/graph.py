"""An update as a CUDA graph: its hundreds of small kernels start with one launch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

EAGER = 3
"""Updates that run kernel by kernel before the capture, as torch asks: libraries set up in them."""


class CapturedUpdate:
    """Calls an update, from the fourth time on as a graph.

    The first updates and the replays are updates like all others: the same kernels on the same
    numbers.
    """

    def __init__(
        self,
        update: Callable[[Tensor, Tensor], Tensor],
        optimizer: torch.optim.Optimizer,
        device: torch.device,
    ) -> None:
        """
        Args:
            update: of (N, C) fibers at (N,) positions; returns its loss. It does not wait for the
                device, and its sizes never change.
            optimizer: of the parameters that it trains, which can be captured.
        """
        self.update = update
        self.optimizer = optimizer
        self.stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self.calls = 0
        self.graph: torch.cuda.CUDAGraph | None = None
        self.inputs: tuple[Tensor, Tensor]
        self.loss: Tensor

    def __call__(self, fibers: Tensor, positions: Tensor) -> Tensor:
        """As the update."""
        self.calls += 1
        if self.calls <= EAGER:
            return self._on_own_stream(fibers, positions)
        if self.graph is None:
            self.graph = self._captured(fibers, positions)
        for kept, new in zip(self.inputs, (fibers, positions), strict=True):
            kept.copy_(new)
        self.graph.replay()
        return self.loss.clone()

    def _on_own_stream(self, fibers: Tensor, positions: Tensor) -> Tensor:
        """The update now, on the stream of the capture; the present stream waits for it."""
        present = torch.cuda.current_stream(fibers.device)
        self.stream.wait_stream(present)
        with torch.cuda.stream(self.stream):
            loss = self.update(fibers, positions)
        present.wait_stream(self.stream)
        return loss

    def _captured(self, fibers: Tensor, positions: Tensor) -> torch.cuda.CUDAGraph:
        """The graph of an update; nothing is computed yet."""
        self.inputs = (fibers.clone(), positions.clone())
        # Gradients are then made inside the graph, and by each replay anew.
        self.optimizer.zero_grad(set_to_none=True)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self.stream):
            self.loss = self.update(*self.inputs)
        return graph
