"""What a cell's run hands out, and what it remembers for the row."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bench.api import MethodError
from bench.plan.cells import Cell
from bench.run.context import CellRun
from bench.settings.protocol import PROTOCOLS
from bench.weights.choice import Weights


def run_of(pretrained: str = "random", seed: int = 0) -> CellRun:
    cell = Cell(
        method="padim",
        method_version=1,
        params={},
        dataset="synthetic",
        dataset_version=1,
        dataset_params={},
        category="bolt",
        seed=seed,
        protocol=PROTOCOLS["standard"],
        pretrained=pretrained,
        data="",
    )
    return CellRun(cell, torch.device("cpu"), (64, 64), Weights("random"))


def numbers(module: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in module.parameters()])


def test_a_backbone_of_named_modules_is_recorded_as_one_of_numbers_is() -> None:
    run = run_of()
    run.backbone("test_resnet", ("layer1", "layer2.0.bn2"))
    run.backbone("test_resnet", (1, 2))
    assert run.identities[0] == run.identities[1]
    assert run.identities[0].startswith("test_resnet[random:0]@")


@torch.no_grad()
def test_a_backbone_has_the_same_weights_by_name_and_by_number() -> None:
    run = run_of()
    images = torch.randn(1, 3, 64, 64)
    named, numbered = (run.backbone("test_resnet", one)(images) for one in (("layer2",), (2,)))
    torch.testing.assert_close(named, numbered)


def test_networks_are_trainable_differ_and_come_back_with_the_seed() -> None:
    run, again, other = run_of("none"), run_of("none"), run_of("none", seed=1)
    first, second = (run.network("test_resnet", ("layer2",)) for _ in range(2))
    assert first.training
    assert all(p.requires_grad for p in first.parameters())
    assert not torch.equal(numbers(first), numbers(second))
    assert torch.equal(numbers(first), numbers(again.network("test_resnet", ("layer2",))))
    assert not torch.equal(numbers(first), numbers(other.network("test_resnet", ("layer2",))))
    assert not run.identities


def test_making_a_network_leaves_the_random_state_alone() -> None:
    before = torch.get_rng_state()
    run_of("none").network("test_resnet", (1,))
    assert torch.equal(torch.get_rng_state(), before)


def test_an_own_network_is_frozen_and_recorded_by_its_name_and_numbers() -> None:
    run = run_of("none")
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    assert run.module(net, "edges, of mine") is net
    assert not net.training
    assert not any(p.requires_grad for p in net.parameters())
    assert run.backbones == [net]
    nn.init.zeros_(net.get_parameter("0.weight"))
    run.module(net, "edges, of mine")
    first, second = run.identities
    assert first.startswith("edges  of mine[own]@")
    assert first != second


def test_a_backbone_that_no_field_names_is_refused() -> None:
    with pytest.raises(MethodError, match="no field called backbone or stem names it"):
        run_of("none").backbone("test_resnet", ("layer1",))


def test_scratch_is_float32_unless_told() -> None:
    assert run_of().scratch("gallery", (2, 3)).dtype == torch.float32
    assert run_of().scratch("gallery", (2, 3), torch.float16).dtype == torch.float16
