"""The costs of a class: every method has them, and those of a small network are right by hand."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from torch import nn

from bench.plan.discovery import sources
from bench.plugins.methods.vae import Vae

if TYPE_CHECKING:
    from torch import Tensor

ROOT = Path(__file__).parents[2]


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module with the counts, which finds others beside it."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("counted")


def test_every_method_has_its_costs(counted: Any) -> None:
    assert set(counted.COUNTS) == set(sources("methods"))


def test_an_auto_encoder_costs_what_its_layers_multiply(counted: Any) -> None:
    method = Vae()
    method.prepare(counted.MetaRun(method.input_size))
    layers: list[int] = []

    def note(layer: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        positions = inputs[0] if isinstance(layer, nn.ConvTranspose2d) else output
        layers.append(2 * layer.weight.numel() * positions[0, 0].numel())

    for layer in method.network.convolutions():
        layer.register_forward_hook(note)
    method.patch_loss(counted.images(1, method.patch))
    found = counted.vae(209)
    # Backward: for each layer the gradients of its weights and of its input, which pixels need not.
    patch = 3 * sum(layers) - layers[0]
    assert found.training == method.epochs * method.patches_per_epoch * patch
    assert found.image == 25 * sum(layers)


def test_durations_have_two_digits_in_their_unit(counted: Any) -> None:
    costs = importlib.import_module("costs")
    cost = counted.Cost("words", training=3.6e15, image=1e12)
    assert costs.line("m", cost, 10, cpu=1000.0, gpu=100_000.0) == [
        "m",
        "words",
        "3.6",
        "1000",
        "1 h",
        "36 s",
    ]
