"""Numbers of a step are read at once on a CPU, a step later on a GPU; constants stay there."""

from __future__ import annotations

import pytest
import torch

from bench.blocks.constants import constant
from bench.blocks.readings import Readings

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("lag", [0, 1, 2])
def test_numbers_come_in_order_and_as_late_as_was_said(device: str, lag: int) -> None:
    readings: Readings[str] = Readings(torch.device(device))
    assert readings.lag == (device == "cuda")
    readings.lag = lag
    names, found = ["first", "second", "third"], []
    for number, name in enumerate(names):
        found.append(readings.put(torch.full((2,), float(number), device=device), name))
    whole = [([float(number)] * 2, name) for number, name in enumerate(names)]
    assert found == [[whole[n - lag]] if n >= lag else [] for n in range(3)]
    assert readings.flush() == whole[3 - lag :]
    assert readings.flush() == []


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
    (weight * made).sum().backward()
    assert weight.grad is not None
