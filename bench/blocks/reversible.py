"""Chains of invertible couplings, trained without keeping their activations.

A coupling changes one tensor of a list, by coefficients computed from others that it leaves alone.
So its input can be recovered from its output, and a backward pass over a chain of couplings needs
the chain's outputs only: memory does not grow with the length of the chain. The idea is that of
RevNet (arXiv:1707.04585, section 3) and of the autoFlow engine of PyramidFlow (arXiv:2303.02595).

The coefficients serve both the inverse and the second forward of a coupling, so they are computed
once in the backward pass. With a cost F for the coefficients, and 2F for their gradient, a step
costs 4F against the 3F of a chain that keeps its activations.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

if TYPE_CHECKING:
    from collections.abc import Sequence


class Coupling(nn.Module, ABC):
    """Changes `state[target]` by coefficients that depend on the tensors in `sources` alone.

    Attributes:
        target: index of the tensor that is changed.
        sources: indices of the tensors that are read; `target` is not among them.
    """

    target: int
    sources: tuple[int, ...]

    @abstractmethod
    def coefficients(self, *sources: Tensor) -> tuple[Tensor, ...]:
        """What `couple` and `uncouple` need to know; must not change the module's state.

        The backward pass calls this a second time.
        """

    @abstractmethod
    def couple(self, x: Tensor, coefficients: Sequence[Tensor]) -> Tensor:
        """The new value of the target."""

    @abstractmethod
    def uncouple(self, y: Tensor, coefficients: Sequence[Tensor]) -> Tensor:
        """The old value of the target: the inverse of `couple`."""

    def observe(self, coefficients: Sequence[Tensor]) -> None:
        """Update running statistics. Called once by each forward pass, never by a backward pass."""


def run_forward(chain: Sequence[Coupling], state: Sequence[Tensor]) -> list[Tensor]:
    """The chain by ordinary autograd: every activation is kept for the backward pass."""
    values = list(state)
    for block in chain:
        coefficients = block.coefficients(*(values[i] for i in block.sources))
        block.observe(coefficients)
        values[block.target] = block.couple(values[block.target], coefficients)
    return values


def run_inverse(chain: Sequence[Coupling], state: Sequence[Tensor]) -> list[Tensor]:
    """The inputs of the chain from its outputs; running statistics are left alone."""
    values = list(state)
    for block in reversed(chain):
        coefficients = block.coefficients(*(values[i] for i in block.sources))
        values[block.target] = block.uncouple(values[block.target], coefficients)
    return values


def run_reversible(chain: Sequence[Coupling], state: Sequence[Tensor]) -> list[Tensor]:
    """The chain with memory for its outputs only; values and gradients as of `run_forward`.

    Gradients of gradients are not available.
    """
    parameters = _trainable(chain)
    return list(_Reversible.apply(tuple(chain), len(state), *state, *parameters))


def _trainable(chain: Sequence[Coupling]) -> list[nn.Parameter]:
    """Every trainable parameter of the chain once, shared ones too."""
    found = {p: None for block in chain for p in block.parameters() if p.requires_grad}
    return list(found)


class _Reversible(torch.autograd.Function):
    """One node of the graph for a whole chain."""

    @staticmethod
    def forward(ctx: Any, chain: tuple[Coupling, ...], size: int, *tensors: Tensor) -> Any:
        outputs = run_forward(chain, tensors[:size])
        ctx.chain, ctx.size = chain, size
        # The parameters are saved too, so that changing them before the backward pass is an error.
        ctx.save_for_backward(*outputs, *tensors[size:])
        return tuple(outputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *output_grads: Tensor) -> Any:
        saved = ctx.saved_tensors
        state, parameters = list(saved[: ctx.size]), saved[ctx.size :]
        grads = list(output_grads)
        sums: dict[Tensor, Tensor] = {}
        for block in reversed(ctx.chain):
            _step_back(block, state, grads, sums)
        return (None, None, *grads, *(sums.get(p) for p in parameters))


def _step_back(
    block: Coupling, state: list[Tensor], grads: list[Tensor], sums: dict[Tensor, Tensor]
) -> None:
    """Undo one coupling: turn its outputs into its inputs, and likewise their gradients."""
    parameters = [p for p in block.parameters() if p.requires_grad]
    with torch.enable_grad():
        sources = [state[i].detach().requires_grad_() for i in block.sources]
        coefficients = block.coefficients(*sources)
    with torch.no_grad():
        x = block.uncouple(state[block.target], [c.detach() for c in coefficients])
    state[block.target] = x.detach()
    # Only the graph holds coefficients and gradient from here on, and frees them on its way.
    root = _seed(block, x, coefficients, grads.pop(block.target))
    del coefficients
    found = torch.autograd.grad(root, [x, *sources, *parameters], allow_unused=True)
    grads.insert(block.target, found[0])
    for index, grad in zip(block.sources, found[1:], strict=False):
        if grad is not None:
            grads[index] = grads[index] + grad
    for parameter, grad in zip(parameters, found[1 + len(sources) :], strict=True):
        if grad is not None:
            sums[parameter] = sums[parameter] + grad if parameter in sums else grad


def _seed(block: Coupling, x: Tensor, coefficients: Sequence[Tensor], grad: Tensor) -> Tensor:
    """A scalar whose gradient with respect to the block's output is `grad`.

    Differentiating it in place of the output lets the output's memory go first.
    """
    with torch.enable_grad():
        root: Tensor = _Seed.apply(block.couple(x.requires_grad_(), coefficients), grad)
    return root


class _Seed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, y: Tensor, grad: Tensor) -> Tensor:
        ctx.save_for_backward(grad)
        return y.new_zeros(())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, _: Tensor) -> tuple[Tensor, None]:
        return ctx.saved_tensors[0], None
