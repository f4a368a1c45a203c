"""What a cell asks a cluster for of a GPU: all of it where it measures speed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bench.errors import PluginError
from bench.plan import discovery
from bench.run.driver import gpu_share
from bench.run.node import Home
from bench.run.on_ray import RayExecutor
from bench.run.ray_cluster import Needs, Node
from bench.settings.config import RunSettings
from bench.settings.speed import SPEEDS
from tests.run.test_executors import job

if TYPE_CHECKING:
    from pathlib import Path

METHOD = '''"""Small."""
from dataclasses import dataclass
from typing import ClassVar

from bench.api import Method, Prediction


@dataclass
class Small(Method):
    {line}

    def fit(self, train, run):
        yield {{}}

    def predict(self, images):
        return Prediction(images.mean(1))
'''


@pytest.fixture
def declared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> discovery.Plugin:
    return small(tmp_path, monkeypatch, "gpu_share: ClassVar[float] = 0.25")


def small(folder: Path, monkeypatch: pytest.MonkeyPatch, line: str) -> discovery.Plugin:
    (folder / "methods").mkdir()
    (folder / "methods" / "small.py").write_text(METHOD.format(line=line), encoding="utf-8")
    monkeypatch.setenv("BENCH_PROJECT", str(folder))
    return discovery.describe("methods", "small")


def executor(device: str = "auto") -> RayExecutor:
    """On two machines of two GPUs, as they are; no Ray is needed."""
    nodes = [Node(name, name, 16.0, 2.0, 64_000.0) for name in ("one", "two")]
    return RayExecutor(RunSettings(device=device, threads=1), Home("", {}), nodes)


def test_a_cell_that_measures_speed_has_a_gpu_to_itself_whatever_its_method_declares(
    declared: discovery.Plugin,
) -> None:
    for name in ("speed-1", "brief"):
        share = gpu_share(declared, SPEEDS[name])
        assert executor().needs(job(gpu_share=share)).gpus == 1.0


def test_a_small_method_that_is_not_timed_asks_for_the_share_that_it_declares(
    declared: discovery.Plugin,
) -> None:
    share = gpu_share(declared, SPEEDS["none"])
    assert executor().needs(job(gpu_share=share)) == Needs(1, 0.25, 4000)
    assert executor("cpu").needs(job(gpu_share=share)).gpus == 0.0
    padim = discovery.describe("methods", "padim")
    assert gpu_share(padim, SPEEDS["none"]) == 1.0


def test_as_many_cells_run_at_a_time_as_share_the_gpus() -> None:
    cluster = executor()
    assert cluster.at_a_time == 4
    cluster.plan([job(gpu_share=0.25), job(gpu_share=0.5)])
    assert cluster.at_a_time == 16


@pytest.mark.parametrize("value", ["0.0", "1.5", "'half'", "-1"])
def test_a_share_that_is_none_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    method = small(tmp_path, monkeypatch, f"gpu_share: ClassVar[float] = {value}")
    with pytest.raises(PluginError, match=r"small\.py: gpu_share = .*; a number above 0"):
        gpu_share(method, SPEEDS["speed-1"])
