"""Numbers of a step are read at once on a CPU, and a step later on a GPU."""

from __future__ import annotations

import pytest
import torch

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
