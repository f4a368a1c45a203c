"""On a GPU a training step asks for its kernels and waits for none.

Marked `gpu`; the same steps run on the CPU, so that these tests cannot rot where no GPU is.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
import torch

from bench.plugins.methods.pyramidflow import PyramidFlow

if TYPE_CHECKING:
    from collections.abc import Iterator

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


@contextmanager
def waits_are_errors(device: str) -> Iterator[None]:
    """Torch refuses what makes the host wait for a GPU."""
    if device == "cuda":
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        if device == "cuda":
            torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("save_memory", [True, False])
def test_a_step_of_pyramidflow_waits_for_nothing(
    device: str, save_memory: bool, make_run: Any
) -> None:
    method = PyramidFlow(channels=4, stacks=1, levels=3, kernel=3, save_memory=save_memory)
    run = make_run((32, 32))
    run.device = torch.device(device)
    method.prepare(run)
    method.training_mode(True)
    optimiser = method.optimiser()
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)).to(device)
    for step in range(3):  # constants, plans and states are made
        method.step(images, optimiser, step)
    with waits_are_errors(device):
        figures = [method.step(images, optimiser, step) for step in range(3, 6)]
    assert torch.stack(figures).isfinite().all()
    assert {p.device.type for p in method.flow.parameters()} == {device}
