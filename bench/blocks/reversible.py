"""Chains of invertible blocks, trained without keeping their activations.

A block changes some tensors of a list, by coefficients computed from others that it leaves alone.
So its inputs can be recovered from its outputs, and a backward pass over a chain of blocks needs
the chain's outputs only: memory does not grow with the length of the chain. The idea is that of
RevNet (arXiv:1707.04585, section 3) and of the autoFlow engine of PyramidFlow (arXiv:2303.02595).

The coefficients serve both the inverse and the second forward of a block, so they are computed
once in the backward pass. With a cost F for the coefficients, and 2F for their gradient, a step
costs 4F against the 3F of a chain that keeps its activations.

To write a block of your own, derive from `AffineCoupling` and say how the network of the sources
gives log-scales and shifts; its inverse, its log-determinant and its memory saving follow. Derive
from `Coupling` where one tensor is changed in another way, from `Block` where several are. A flow
is a list of blocks, run by `run_reversible`, or by `run_tracked` for its log-determinants too.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

if TYPE_CHECKING:
    from collections.abc import Sequence


class Block(nn.Module, ABC):
    """Changes the tensors of `targets` by coefficients that depend on those of `sources` alone.

    Attributes:
        targets: indices of the tensors that are changed.
        sources: indices of the tensors that are read; none of `targets` is among them.
    """

    targets: tuple[int, ...]
    sources: tuple[int, ...]

    @abstractmethod
    def coefficients(self, *sources: Tensor) -> tuple[Tensor, ...]:
        """What `apply_to` and `restore` need to know; must not change the module's state.

        The backward pass calls this a second time.
        """

    @abstractmethod
    def apply_to(self, xs: Sequence[Tensor], coefficients: Sequence[Tensor]) -> Sequence[Tensor]:
        """The new values of the targets."""

    @abstractmethod
    def restore(self, ys: Sequence[Tensor], coefficients: Sequence[Tensor]) -> Sequence[Tensor]:
        """The old values of the targets: the inverse of `apply_to`."""

    def log_scales(self, coefficients: Sequence[Tensor]) -> Sequence[Tensor]:
        """For each target, the logarithms of what its elements are multiplied with.

        Of the target's shape, or one that broadcasts to it; summed over the elements of an image,
        all targets together, they are the block's log |det J|. Empty, the default: volumes stay.
        """
        return ()

    def observe(self, coefficients: Sequence[Tensor]) -> None:
        """Update running statistics. Called once by each forward pass, never by a backward pass."""


class Coupling(Block):
    """A block that changes one tensor, `state[target]`.

    Attributes:
        target: index of the tensor that is changed.
    """

    target: int

    @property
    def targets(self) -> tuple[int, ...]:  # type: ignore[override]
        """The one target."""
        return (self.target,)

    @abstractmethod
    def couple(self, x: Tensor, coefficients: Sequence[Tensor]) -> Tensor:
        """The new value of the target."""

    @abstractmethod
    def uncouple(self, y: Tensor, coefficients: Sequence[Tensor]) -> Tensor:
        """The old value of the target: the inverse of `couple`."""

    def apply_to(self, xs: Sequence[Tensor], coefficients: Sequence[Tensor]) -> Sequence[Tensor]:
        return (self.couple(xs[0], coefficients),)

    def restore(self, ys: Sequence[Tensor], coefficients: Sequence[Tensor]) -> Sequence[Tensor]:
        return (self.uncouple(ys[0], coefficients),)


class AffineCoupling(Block):
    """y = exp(s) x + t for each target, with s and t from a network of the sources.

    Args:
        targets, sources: as of `Block`.
        limit: results are clamped to [-limit, limit]. Where the clamp acts, a block cannot be
            undone: training without activations is then not that with them.
    """

    def __init__(
        self,
        targets: tuple[int, ...],
        sources: tuple[int, ...],
        limit: float | None = None,
    ) -> None:
        super().__init__()
        self.targets, self.sources, self.limit = targets, sources, limit

    @abstractmethod
    def scales_and_shifts(self, *sources: Tensor) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
        """s and t, one tensor of its shape for each target; must not change the module's state."""

    def coefficients(self, *sources: Tensor) -> tuple[Tensor, ...]:
        scales, shifts = self.scales_and_shifts(*sources)
        return (*scales, *shifts)

    def log_scales(self, coefficients: Sequence[Tensor]) -> Sequence[Tensor]:
        return coefficients[: len(self.targets)]

    def apply_to(self, xs: Sequence[Tensor], coefficients: Sequence[Tensor]) -> Sequence[Tensor]:
        ys = [torch.addcmul(t, s.exp(), x) for x, s, t in self._triples(xs, coefficients)]
        return ys if self.limit is None else [y.clamp(-self.limit, self.limit) for y in ys]

    def restore(self, ys: Sequence[Tensor], coefficients: Sequence[Tensor]) -> Sequence[Tensor]:
        return [(y - t) * (-s).exp() for y, s, t in self._triples(ys, coefficients)]

    def _triples(
        self, values: Sequence[Tensor], coefficients: Sequence[Tensor]
    ) -> list[tuple[Tensor, Tensor, Tensor]]:
        count = len(self.targets)
        return list(zip(values, coefficients[:count], coefficients[count:], strict=True))


class Rearrangement(Block):
    """Carries the entries along dimension 1 of two tensors to other places, in both.

    Entry i of the two joined is what was entry `order[i]` before; the tensors keep their lengths.
    """

    order: Tensor
    inverse: Tensor
    sources = ()

    def __init__(self, first: int, second: int, order: Tensor) -> None:
        """`first`, `second`: indices of the tensors; `order`: a permutation of 0 .. n - 1."""
        super().__init__()
        self.targets = (first, second)
        # Known from the settings, so not part of a saved state.
        self.register_buffer("order", order, persistent=False)
        self.register_buffer("inverse", order.argsort(), persistent=False)

    def coefficients(self, *sources: Tensor) -> tuple[Tensor, ...]:
        return ()

    def apply_to(self, xs: Sequence[Tensor], coefficients: Sequence[Tensor]) -> Sequence[Tensor]:
        return _rearranged(xs, self.order)

    def restore(self, ys: Sequence[Tensor], coefficients: Sequence[Tensor]) -> Sequence[Tensor]:
        return _rearranged(ys, self.inverse)


def _rearranged(pair: Sequence[Tensor], order: Tensor) -> Sequence[Tensor]:
    first = pair[0].shape[1]
    joined = torch.cat(list(pair), 1)
    return joined.index_select(1, order[:first]), joined.index_select(1, order[first:])


def run_forward(chain: Sequence[Block], state: Sequence[Tensor]) -> list[Tensor]:
    """The chain by ordinary autograd: every activation is kept for the backward pass."""
    return _run(chain, state, track=False)[0]


def run_inverse(chain: Sequence[Block], state: Sequence[Tensor]) -> list[Tensor]:
    """The inputs of the chain from its outputs; running statistics are left alone."""
    values = list(state)
    for block in reversed(chain):
        coefficients = block.coefficients(*(values[i] for i in block.sources))
        _put(values, block, block.restore(_targets(values, block), coefficients))
    return values


def run_reversible(chain: Sequence[Block], state: Sequence[Tensor]) -> list[Tensor]:
    """The chain with memory for its outputs only; values and gradients as of `run_forward`.

    Gradients of gradients are not available.
    """
    parameters = _trainable(chain)
    return list(_Reversible.apply(tuple(chain), len(state), False, *state, *parameters))


def run_tracked(
    chain: Sequence[Block], state: Sequence[Tensor], *, save_memory: bool = False
) -> tuple[list[Tensor], list[Tensor]]:
    """The chain's values, and the logarithms of what it multiplied their elements with.

    The blocks give these from coefficients that they have computed anyway. Both can be
    differentiated.

    Args:
        save_memory: as `run_reversible`; else as `run_forward`.

    Returns:
        two lists as long as `state`, of its shapes. The second, summed over the elements of an
        image (see `log_determinants`), is log |det J|.
    """
    if not save_memory:
        return _run(chain, state, track=True)
    parameters = _trainable(chain)
    found = _Reversible.apply(tuple(chain), len(state), True, *state, *parameters)
    return list(found[: len(state)]), list(found[len(state) :])


def log_determinants(scales: Sequence[Tensor]) -> Tensor:
    """log |det J| of each image, (B,), from the second result of `run_tracked`."""
    return torch.stack([scale.flatten(1).sum(1) for scale in scales]).sum(0)


def _run(
    chain: Sequence[Block], state: Sequence[Tensor], *, track: bool
) -> tuple[list[Tensor], list[Tensor]]:
    values = list(state)
    totals = [torch.zeros_like(value) for value in values] if track else []
    for block in chain:
        coefficients = block.coefficients(*(values[i] for i in block.sources))
        block.observe(coefficients)
        _put(values, block, block.apply_to(_targets(values, block), coefficients))
        if track:
            for index, scale in zip(block.targets, block.log_scales(coefficients), strict=False):
                totals[index] = totals[index] + scale
    return values, totals


def _targets(values: Sequence[Tensor], block: Block) -> list[Tensor]:
    return [values[i] for i in block.targets]


def _put(values: list[Tensor], block: Block, new: Sequence[Tensor]) -> None:
    for index, value in zip(block.targets, new, strict=True):
        values[index] = value


def _trainable(chain: Sequence[Block]) -> list[nn.Parameter]:
    """Every trainable parameter of the chain once, shared ones too."""
    found = {p: None for block in chain for p in block.parameters() if p.requires_grad}
    return list(found)


class _Reversible(torch.autograd.Function):
    """One node of the graph for a whole chain."""

    @staticmethod
    def forward(
        ctx: Any, chain: tuple[Block, ...], size: int, track: bool, *tensors: Tensor
    ) -> Any:
        outputs, totals = _run(chain, tensors[:size], track=track)
        ctx.chain, ctx.size = chain, size
        # The parameters are saved too, so that changing them before the backward pass is an error.
        ctx.save_for_backward(*outputs, *tensors[size:])
        return (*outputs, *totals)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *output_grads: Tensor) -> Any:
        saved = ctx.saved_tensors
        state, parameters = list(saved[: ctx.size]), saved[ctx.size :]
        grads, scale_grads = list(output_grads[: ctx.size]), output_grads[ctx.size :]
        sums: dict[Tensor, Tensor] = {}
        for block in reversed(ctx.chain):
            _step_back(block, state, grads, scale_grads, sums)
        return (None, None, None, *grads, *(sums.get(p) for p in parameters))


def _step_back(
    block: Block,
    state: list[Tensor],
    grads: list[Tensor],
    scale_grads: Sequence[Tensor],
    sums: dict[Tensor, Tensor],
) -> None:
    """Undo one block: turn its outputs into its inputs, and likewise their gradients."""
    parameters = [p for p in block.parameters() if p.requires_grad]
    with torch.enable_grad():
        sources = [state[i].detach().requires_grad_() for i in block.sources]
        coefficients = block.coefficients(*sources)
    with torch.no_grad():
        xs = block.restore(_targets(state, block), [c.detach() for c in coefficients])
        xs = [x.detach() for x in xs]
    _put(state, block, xs)
    # Only the graph holds coefficients and gradients from here on, and frees them on its way.
    root = _seed(block, xs, coefficients, _taken(grads, block), scale_grads)
    del coefficients
    found = torch.autograd.grad(root, [*xs, *sources, *parameters], allow_unused=True)
    _put(grads, block, found[: len(xs)])
    read, trained = found[len(xs) : len(xs) + len(sources)], found[len(xs) + len(sources) :]
    for index, grad in zip(block.sources, read, strict=True):
        if grad is not None:
            grads[index] = grads[index] + grad
    for parameter, grad in zip(parameters, trained, strict=True):
        if grad is not None:
            sums[parameter] = sums[parameter] + grad if parameter in sums else grad


def _taken(grads: list[Tensor], block: Block) -> list[Tensor]:
    """The gradients of a block's targets, whose places are left empty."""
    taken = _targets(grads, block)
    _put(grads, block, [grad.new_empty(0) for grad in taken])
    return taken


def _seed(
    block: Block,
    xs: Sequence[Tensor],
    coefficients: Sequence[Tensor],
    grads: Sequence[Tensor],
    scale_grads: Sequence[Tensor],
) -> Tensor:
    """A scalar whose gradient with respect to the block's outputs is `grads`.

    Differentiating it in place of the outputs lets their memory go first. The log-scales are
    outputs too, where the chain tracks them.
    """
    with torch.enable_grad():
        outputs = list(block.apply_to([x.requires_grad_() for x in xs], coefficients))
        grads = list(grads)
        if scale_grads:
            for index, scale in zip(block.targets, block.log_scales(coefficients), strict=False):
                outputs.append(scale.expand_as(scale_grads[index]))
                grads.append(scale_grads[index])
        root: Tensor = _Seed.apply(len(outputs), *outputs, *grads)
    return root


class _Seed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, count: int, *tensors: Tensor) -> Tensor:
        ctx.save_for_backward(*tensors[count:])
        return tensors[0].new_zeros(())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, _: Tensor) -> tuple[Tensor | None, ...]:
        grads = ctx.saved_tensors
        return (None, *grads, *(None for _ in grads))
