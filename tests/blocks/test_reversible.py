"""Chains of couplings trained without keeping their activations."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor, nn

from bench.blocks.reversible import (
    AffineCoupling,
    Block,
    Coupling,
    Rearrangement,
    log_determinants,
    run_forward,
    run_inverse,
    run_reversible,
    run_tracked,
)

if TYPE_CHECKING:
    from collections.abc import Sequence


class Affine(Coupling):
    """y = exp(tanh(s)) x + t + shared bias, with s and t from a linear map of the sources."""

    def __init__(self, target: int, sources: tuple[int, ...], width: int = 3) -> None:
        super().__init__()
        self.target, self.sources = target, sources
        generator = torch.Generator().manual_seed(target + 10 * len(sources))
        weight = torch.randn(2 * width, width * len(sources), generator=generator)
        self.weight = nn.Parameter(weight.double() / 3)
        self.bias = nn.Parameter(torch.full((width,), 0.1, dtype=torch.float64))
        self.observed = 0

    def coefficients(self, *sources: Tensor) -> tuple[Tensor, ...]:
        raw, shift = (torch.cat(sources, 1) @ self.weight.T).chunk(2, 1)
        return raw.tanh().exp(), shift, torch.ones(())

    def couple(self, x: Tensor, coefficients: Sequence[Tensor]) -> Tensor:
        return coefficients[0] * x + coefficients[1] + self.bias

    def uncouple(self, y: Tensor, coefficients: Sequence[Tensor]) -> Tensor:
        return (y - self.bias - coefficients[1]) / coefficients[0]

    def observe(self, coefficients: Sequence[Tensor]) -> None:
        self.observed += 1


def make_chain(repeats: int = 1) -> list[Coupling]:
    blocks: list[Coupling] = []
    for _ in range(repeats):
        blocks += [Affine(1, (0, 2)), Affine(0, (1,)), Affine(2, (1,))]
    return blocks


def make_state() -> list[Tensor]:
    generator = torch.Generator().manual_seed(3)
    return [
        torch.randn(2, 3, generator=generator, dtype=torch.float64, requires_grad=True)
        for _ in range(3)
    ]


def parameters(chain: Sequence[Coupling]) -> list[nn.Parameter]:
    return list(dict.fromkeys(p for block in chain for p in block.parameters()))


def test_gradients_agree_with_finite_differences() -> None:
    chain = make_chain()

    def run(*tensors: Tensor) -> tuple[Tensor, ...]:
        return tuple(run_reversible(chain, tensors[:3]))

    assert torch.autograd.gradcheck(run, (*make_state(), *parameters(chain)))


def test_values_and_gradients_are_those_of_ordinary_autograd() -> None:
    chain = make_chain(repeats=3)
    plain_state, saving_state = make_state(), make_state()
    plain = run_forward(chain, plain_state)
    saving = run_reversible(chain, saving_state)
    wanted = torch.autograd.grad(
        sum((z**3).sum() for z in plain),  # type: ignore[arg-type]
        [*plain_state, *parameters(chain)],
    )
    found = torch.autograd.grad(
        sum((z**3).sum() for z in saving),  # type: ignore[arg-type]
        [*saving_state, *parameters(chain)],
    )
    torch.testing.assert_close(saving, plain, rtol=0, atol=0)
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-12)


def test_a_block_used_twice_gets_the_sum_of_its_gradients() -> None:
    block, other = Affine(0, (1,)), Affine(1, (0,))
    chain = [block, other, block]
    sums = []
    for run in (run_forward, run_reversible):
        block.zero_grad()
        torch.autograd.backward(torch.stack(run(chain, make_state())).square().sum())
        assert block.weight.grad is not None
        sums.append(block.weight.grad.clone())
    torch.testing.assert_close(sums[1], sums[0])


def test_inputs_without_gradient_are_recovered_all_the_same() -> None:
    chain = make_chain()
    state = [x.detach() for x in make_state()]
    torch.autograd.backward(torch.stack(run_reversible(chain, state)).sum())
    assert all(p.grad is not None for p in parameters(chain))


def test_an_output_that_nothing_uses_has_no_gradient_to_give() -> None:
    chain = [Affine(0, (1,))]
    state = make_state()
    torch.autograd.backward(run_reversible(chain, state)[0].sum())
    assert state[2].grad is None or not state[2].grad.any()


def test_inverse_recovers_the_inputs() -> None:
    chain, state = make_chain(repeats=4), make_state()
    with torch.no_grad():
        recovered = run_inverse(chain, run_forward(chain, state))
    torch.testing.assert_close(recovered, [x.detach() for x in state], rtol=0, atol=1e-12)


def test_statistics_are_observed_once_for_each_forward_pass() -> None:
    block = Affine(0, (1,))
    torch.autograd.backward(torch.stack(run_reversible([block], make_state())).sum())
    assert block.observed == 1


@pytest.mark.parametrize("repeats", [1, 5])
def test_only_outputs_and_parameters_are_saved_however_long_the_chain(repeats: int) -> None:
    chain = make_chain(repeats)
    saved: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        saved.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        run_reversible(chain, make_state())
    assert len([t for t in saved if not isinstance(t, nn.Parameter)]) == 3


def test_a_parameter_changed_before_the_backward_pass_is_an_error() -> None:
    block = Affine(0, (1,))
    total = torch.stack(run_reversible([block], make_state())).sum()
    with torch.no_grad():
        block.bias.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        torch.autograd.backward(total)


class Linear(AffineCoupling):
    """What an author writes: log-scales and shifts of all targets from a network of the sources."""

    def __init__(self, targets: tuple[int, ...], sources: tuple[int, ...], width: int = 3) -> None:
        super().__init__(targets, sources)
        generator = torch.Generator().manual_seed(sum(targets))
        shape = 2 * width * len(targets), width * len(sources)
        self.weight = nn.Parameter(torch.randn(shape, generator=generator).double() / 3)

    def scales_and_shifts(self, *sources: Tensor) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
        parts = (torch.cat(sources, 1) @ self.weight.T).chunk(2 * len(self.targets), 1)
        return [part.tanh() for part in parts[: len(self.targets)]], parts[len(self.targets) :]


def make_flow() -> list[Block]:
    order = torch.randperm(6, generator=torch.Generator().manual_seed(1))
    return [Linear((0, 2), (1,)), Rearrangement(0, 1, order), Linear((1,), (0, 2))]


def test_log_determinants_are_those_of_the_jacobian() -> None:
    flow, state = make_flow(), [x.detach() for x in make_state()]
    _, scales = run_tracked(flow, state)
    found = log_determinants(scales)
    for image in range(len(state[0])):

        def run(joined: Tensor) -> Tensor:
            return torch.cat(run_forward(flow, joined.view(3, 1, 3).unbind()), 1)[0]

        jacobian = torch.func.jacrev(run)(torch.stack([x[image] for x in state]).flatten())
        wanted = torch.linalg.slogdet(jacobian).logabsdet
        torch.testing.assert_close(found[image], wanted)


@pytest.mark.parametrize("save_memory", [False, True])
def test_gradients_of_values_and_log_scales_agree_with_finite_differences(
    save_memory: bool,
) -> None:
    flow = make_flow()

    def run(*tensors: Tensor) -> tuple[Tensor, ...]:
        values, scales = run_tracked(flow, tensors[:3], save_memory=save_memory)
        return (*values, log_determinants(scales))

    assert torch.autograd.gradcheck(
        run, (*make_state(), *(p for b in flow for p in b.parameters()))
    )


def test_saving_memory_changes_neither_values_nor_log_scales_nor_gradients() -> None:
    flow = make_flow() + make_flow()
    results = []
    for save_memory in (False, True):
        values, scales = run_tracked(flow, make_state(), save_memory=save_memory)
        loss = sum(z.square().sum() for z in values) - log_determinants(scales).sum()
        parameters = [p for b in flow for p in b.parameters()]
        results.append([*values, *scales, *torch.autograd.grad(loss, parameters)])
    torch.testing.assert_close(results[1], results[0], rtol=1e-10, atol=1e-12)


def test_blocks_of_several_targets_and_rearrangements_are_undone() -> None:
    flow, state = make_flow(), make_state()
    with torch.no_grad():
        recovered = run_inverse(flow, run_forward(flow, state))
    torch.testing.assert_close(recovered, [x.detach() for x in state], rtol=0, atol=1e-12)


def test_a_rearrangement_takes_each_entry_from_the_place_that_the_order_names() -> None:
    block = Rearrangement(0, 1, torch.tensor([3, 0, 2, 4, 1]))
    first, second = torch.tensor([[10, 11]]), torch.tensor([[12, 13, 14]])
    found = run_forward([block], [first, second])
    assert [part.tolist() for part in found] == [[[13, 10]], [[12, 14, 11]]]
    assert block.state_dict() == {}


def test_a_limit_clamps_results_only() -> None:
    block = Linear((0,), (1,))
    state = [x.detach() for x in make_state()]
    free = run_forward([block], state)[0]
    block.limit = 0.1
    assert torch.equal(run_forward([block], state)[0], free.clamp(-0.1, 0.1))


def test_a_coupling_without_log_scales_keeps_volumes() -> None:
    _, scales = run_tracked(make_chain(), make_state())
    assert not any(scale.any() for scale in scales)
