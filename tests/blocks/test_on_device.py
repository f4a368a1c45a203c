"""Values of the host on a device: constants once, others on their way."""

from __future__ import annotations

import pytest
import torch

from bench.blocks.on_device import constant, sent

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


@pytest.mark.parametrize("device", DEVICES)
def test_a_constant_is_copied_to_a_device_once(device: str) -> None:
    like = torch.zeros(1, dtype=torch.float64, device=device)
    with torch.inference_mode():
        made = constant(((1.0, 2.0), (3.0, 4.0)), like)
    assert made is constant(((1.0, 2.0), (3.0, 4.0)), like)
    assert (made.dtype, made.device) == (like.dtype, like.device)
    assert made.tolist() == [[1, 2], [3, 4]]
    # Made under inference mode, and yet of use in training.
    weight = torch.ones(2, 2, dtype=torch.float64, device=device, requires_grad=True)
    (weight * made).sum().backward()  # type: ignore[no-untyped-call]
    assert weight.grad is not None


@pytest.mark.parametrize("device", DEVICES)
def test_values_that_are_sent_arrive_unchanged(device: str) -> None:
    values = torch.randn(1000)
    arrived = sent(values, torch.device(device))
    assert arrived.device.type == device
    assert torch.equal(arrived.cpu(), values)
