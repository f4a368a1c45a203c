"""Which cells run side by side, on which device, and with how many threads."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch

from bench.errors import ConfigError
from bench.run import slots
from bench.run.slots import crowding, device_slots, listed_gpus, threads_of_cells, visible_gpus
from bench.settings.config import RunSettings

if TYPE_CHECKING:
    from pathlib import Path

RUN = RunSettings()
TWO_GPUS = """GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-aaaa)
GPU 1: NVIDIA H100 80GB HBM3 (UUID: GPU-bbbb)
"""
DIVIDED = """GPU 0: NVIDIA A100 (UUID: GPU-aaaa)
  MIG 3g.20gb     Device  0: (UUID: MIG-1111)
  MIG 3g.20gb     Device  1: (UUID: MIG-2222)
GPU 1: NVIDIA A100 (UUID: GPU-bbbb)
"""


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Two GPUs and eight cores; no variable is set."""
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\ncat <<'END'\n{TWO_GPUS}END\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    for name in (slots.VISIBLE, slots.THREADS):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(slots, "usable_cores", lambda: 8)
    monkeypatch.setattr(slots, "_torch_has_cuda", lambda: True)
    return monkeypatch


def test_all_visible_gpus_are_used_without_a_variable(machine: pytest.MonkeyPatch) -> None:
    assert device_slots(RUN) == [{slots.VISIBLE: "GPU-aaaa"}, {slots.VISIBLE: "GPU-bbbb"}]


@pytest.mark.parametrize(
    ("variable", "expected"), [("0,1,2", ["0", "1", "2"]), ("1,-1,0", ["1"]), ("", []), ("-1", [])]
)
def test_the_variable_says_which_gpus_are_visible(
    machine: pytest.MonkeyPatch, variable: str, expected: list[str]
) -> None:
    machine.setenv(slots.VISIBLE, variable)
    assert visible_gpus() == expected


def test_a_divided_gpu_counts_by_its_parts() -> None:
    assert listed_gpus(DIVIDED) == ["MIG-1111", "MIG-2222", "GPU-bbbb"]
    assert listed_gpus("No devices were found\n") == []


def test_a_torch_without_cuda_sees_no_gpu(machine: pytest.MonkeyPatch) -> None:
    machine.setattr(slots, "_torch_has_cuda", lambda: False)
    assert device_slots(replace(RUN, workers=3)) == [{}, {}, {}]


@pytest.mark.parametrize(("device", "workers"), [("auto", 3), ("cuda", 3), ("cuda:1", 2)])
def test_cells_that_would_share_a_gpu_while_speed_is_timed_are_refused(
    machine: pytest.MonkeyPatch, device: str, workers: int
) -> None:
    with pytest.raises(ConfigError, match=f"--workers {workers} on .* would time each other"):
        device_slots(replace(RUN, device=device, workers=workers))


def test_a_cpu_takes_several_cells(machine: pytest.MonkeyPatch) -> None:
    assert device_slots(replace(RUN, device="cpu", workers=3)) == [{}, {}, {}]


def test_threads_are_cores_over_the_cells_that_run_at_a_time(machine: pytest.MonkeyPatch) -> None:
    assert threads_of_cells(RUN, len(device_slots(RUN))) == 4
    on_cpu = replace(RUN, device="cpu", workers=3)
    assert threads_of_cells(on_cpu, len(device_slots(on_cpu))) == 2
    assert threads_of_cells(RUN, 16) == 1
    assert threads_of_cells(replace(RUN, threads=5), 2) == 5


@pytest.mark.parametrize(("text", "expected"), [("3", 3), ("6,2", 6), ("", 8), ("many", 8)])
def test_omp_num_threads_is_honoured(machine: pytest.MonkeyPatch, text: str, expected: int) -> None:
    machine.setenv(slots.THREADS, text)
    assert threads_of_cells(RUN, 1) == expected


def test_more_threads_than_cores_are_warned_of(machine: pytest.MonkeyPatch) -> None:
    assert "2 cells at a time with 5 threads each on 8 cores" in crowding(5, 2)
    assert not crowding(4, 2)
    assert not crowding(16, 1)


def test_the_build_of_torch_is_told_without_importing_it() -> None:
    assert slots._torch_has_cuda() == (torch.version.cuda is not None)
