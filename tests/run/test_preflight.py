"""Device and weights are checked once, before the first cell, and without torch in the driver."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch

from bench.errors import ConfigError
from bench.plan.cells import Cell
from bench.run.job import Job
from bench.run.preflight import answer, check_machine
from bench.settings.protocol import PROTOCOLS
from bench.settings.speed import SpeedProtocol
from bench.weights.choice import Weights

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

CELL = Cell(
    method="padim",
    method_version=1,
    params={"backbone": "resnet18"},
    dataset="folder",
    dataset_version=1,
    dataset_params={},
    category="nut",
    seed=0,
    protocol=PROTOCOLS["standard"],
    pretrained="random",
    data="feed",
)


def job(tmp_path: Path, **changes: Any) -> Job:
    values: dict[str, Any] = {
        "cells": (CELL,),
        "root": tmp_path,
        "device": "cpu",
        "threads": 1,
        "loaders": 0,
        "batch": 8,
        "weights": Weights("random"),
        "speed": SpeedProtocol(),
        "artifacts": tmp_path / "x",
    }
    return Job(**{**values, **changes})


def test_nothing_is_started_for_random_weights_on_the_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.run.preflight.subprocess.run", None)
    check_machine([job(tmp_path), job(tmp_path, device="auto")])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
@pytest.mark.parametrize("device", ["cuda", "cuda:3"])
def test_a_missing_device_is_one_line(device: str) -> None:
    text = answer({"devices": [device], "networks": []})
    assert text == f"--device {device}: torch sees no CUDA device here; use --device cpu"


def test_a_weights_file_of_another_network_is_refused_once(tmp_path: Path) -> None:
    file = tmp_path / "other.pth"
    torch.save({"layer.weight": torch.zeros(3)}, file)
    given = Weights("file", file)
    cell = replace(CELL, pretrained="file:0123456789ab")
    with pytest.raises(ConfigError, match=r"other\.pth: not weights of resnet18"):
        check_machine([job(tmp_path, cells=(cell,), weights=given)] * 3)


def test_the_check_itself_imports_no_torch() -> None:
    code = "import sys, bench.run.preflight; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
