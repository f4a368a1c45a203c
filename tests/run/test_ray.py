"""Cells on a real Ray cluster of several nodes on this machine."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from itertools import islice
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from bench.rows.column import FOUND
from bench.rows.row import Row, columns
from bench.rows.store import ResultStore
from tests.run.briefly import BRIEFLY

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

pytestmark = [pytest.mark.ray, pytest.mark.slow]
pytest.importorskip("ray")

BENCH = (sys.executable, "-m", "bench")
SETTINGS = f"""
[run]
speed = 'one'
protocol = 'small'
device = 'cpu'
threads = 1
[protocols.small]
resize = [32, 32]
[protocols.native]
resize = [32, 32]
mask_size = 'native'
{BRIEFLY}"""
METHOD = '''"""{name}."""
from dataclasses import dataclass
from bench.api import Method, Prediction


@dataclass
class {title}(Method):
    """The mean of the training images, with noise of the cell's own."""

    def fit(self, train, run):
        {fit}
        self.mean = sum(x.sum(0) for x in train.batches(2)) / len(train)
        import torch
        self.mean = self.mean + 0.1 * torch.rand(self.mean.shape, generator=run.generator("x"))
        yield {{}}

    def predict(self, images):
        return Prediction((images - self.mean).abs().mean(1))
'''
METHODS = {
    "quick": "pass",
    "slow": "__import__('time').sleep(4)",
    "raises": "raise ZeroDivisionError('on purpose')",
    "hangs": "__import__('time').sleep(600)",
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project, and the images of a data set `folder` in it."""
    folder: Path = tmp_path_factory.mktemp("project")
    (folder / "methods").mkdir()
    (folder / "bench.toml").write_text(SETTINGS, encoding="utf-8")
    for name, fit in METHODS.items():
        text = METHOD.format(name=name, title=name.title(), fit=fit)
        (folder / "methods" / f"{name}.py").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def cluster(project: Path) -> Iterator[Any]:
    """A head without processors, and two machines of one; each has folders of its own."""
    from ray.cluster_utils import Cluster

    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112 - so it is called
    os.environ.pop("BENCH_PROJECT", None)
    head = {"num_cpus": 0, "include_dashboard": False}
    found = Cluster(initialize_head=True, head_node_args=head)
    for name in ("one", "two"):
        add_node(found, project, name)
    yield found
    found.shutdown()


def add_node(cluster: Any, project: Path, name: str) -> Any:
    own = {f"BENCH_{key.upper()}": str(project / name / key) for key in ("data", "cache")}
    return cluster.add_node(num_cpus=1, env_vars=own)


def start(project: Path, *arguments: str) -> subprocess.Popen[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("BENCH_")}
    return subprocess.Popen(
        [*BENCH, "run", *arguments],
        cwd=project,
        env={**environment, "NO_COLOR": "1", "COLUMNS": "200"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(run: subprocess.Popen[str], code: int = 0) -> str:
    output, _ = run.communicate(timeout=600)
    assert run.returncode == code, output
    return output


def on(cluster: Any) -> Sequence[str]:
    return ("--executor", "ray", "--address", cluster.address)


def rows_in(folder: Path) -> list[Row]:
    return ResultStore(folder).rows()


def assert_same(found: Sequence[Row], expected: Sequence[Row]) -> None:
    assert [row.cell for row in found] == [row.cell for row in expected]
    for one, other in zip(found, expected, strict=True):
        for column in (*columns(*FOUND), "data", "code", "threads", "state_mb", "params_m"):
            assert getattr(one, column) == getattr(other, column), column


def test_a_node_killed_in_mid_run_loses_and_doubles_nothing(project: Path, cluster: Any) -> None:
    cells = ("-m", "slow", "-c", "weave,bolt", "--seeds", "0,1,2")
    finish(start(project, *cells, "--results", "local"))
    third = add_node(cluster, project, "three")
    run = start(project, *cells, *on(cluster), "--results", "ray")
    assert run.stdout is not None
    begun = (line for line in run.stdout if line.rstrip().endswith("reading"))
    assert len([*islice(begun, 3)]) == 3  # each node has a cell
    cluster.remove_node(third, allow_graceful=False)
    output = finish(run)
    assert re.search(r"lost by \w+ on .+; runs again, 1 of 3", output), output
    assert output.count("AUPRO 0.3") >= 6
    assert_same(rows_in(project / "ray"), rows_in(project / "local"))
    left = {file.name for file in (project / "local" / "artifacts").glob("*/*")}
    assert {file.name for file in (project / "ray" / "artifacts").glob("*/*")} == left
    assert left
    checked = subprocess.run(
        [*BENCH, "check", "--baseline", "local", "--results", "ray", "--complete"],
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout


def test_cells_that_share_a_training_are_one_task_with_a_row_each(
    project: Path, cluster: Any
) -> None:
    cells = ("-m", "quick", "-c", "weave", "--protocol", "small,native")
    finish(start(project, *cells, "--results", "once-local"))
    output = finish(start(project, *cells, *on(cluster), "--results", "once-ray"))
    assert "seed 0, small + native: " in output
    found, expected = (rows_in(project / name) for name in ("once-ray", "once-local"))
    assert_same(found, expected)
    assert [row.trained_with for row in found] == [row.trained_with for row in expected]
    assert {row.protocol for row in found} == {"small", "native"}
    for row in found:
        assert (project / "once-ray" / "artifacts" / row.cell / "scores.npz").is_file()


def test_a_cell_that_fails_or_takes_too_long_is_recorded_and_not_run_again(
    project: Path, cluster: Any
) -> None:
    cells = ("-m", "raises,hangs,quick", "-c", "weave", "--timeout", "30")
    output = finish(start(project, *cells, *on(cluster), "--results", "failing"), code=1)
    assert "FAILED: ZeroDivisionError: on purpose" in output
    assert "FAILED: no result within 30 s" in output
    assert "runs again" not in output
    assert [row.method for row in rows_in(project / "failing")] == ["quick"]
    (log,) = [
        text
        for file in (project / "failing" / "failures").glob("*.txt")
        if (text := file.read_text()).startswith("raises")
    ]
    assert "Traceback" in log


def test_ctrl_c_once_finishes_the_cells_that_run_and_starts_no_other(
    project: Path, cluster: Any
) -> None:
    cells = ("-m", "slow", "-c", "weave", "--seeds", "0,1,2,3,4,5,6,7")
    run = start(project, *cells, *on(cluster), "--results", "stopped")
    assert run.stdout is not None
    assert any("reading" in line for line in run.stdout)
    run.send_signal(signal.SIGINT)
    output = finish(run, code=130)
    assert "finishing the cells that run" in output
    assert 1 <= len(rows_in(project / "stopped")) <= 4
    assert not (project / "stopped" / ".lock").exists()


def test_a_driver_that_is_killed_leaves_no_worker(project: Path, cluster: Any) -> None:
    run = start(project, "-m", "hangs", "-c", "weave", *on(cluster), "--results", "killed")
    assert run.stdout is not None
    assert any("fitting" in line or "reading" in line for line in run.stdout)
    run.kill()
    run.communicate()
    psutil.wait_procs(workers(), timeout=60)
    assert not workers()


def workers() -> list[psutil.Process]:
    """Processes that run a cell, forked or started anew, of tasks on Ray."""
    found = []
    for process in psutil.process_iter(["name", "environ"]):
        environment = process.info["environ"] or {}
        is_cell = "CUBLAS_WORKSPACE_CONFIG" in environment and "RAY_JOB_ID" in environment
        found += [process] if is_cell else []
    return found


def test_a_node_with_other_images_is_left_out_and_named_once(project: Path, cluster: Any) -> None:
    source = project / ".cache" / "synthetic"
    finish(start(project, "-m", "quick", "-c", "weave", "--results", "making"))
    (made,) = source.rglob("weave")
    for place in ("data", "one/data", "two/data"):
        shutil.copytree(made, project / place / "folder" / "weave")
    spoiled = next((project / "two/data/folder/weave/test").rglob("*.png"))
    spoiled.write_bytes(next((project / "one/data/folder/weave/train").rglob("*.png")).read_bytes())
    cells = ("-m", "quick", "-d", "folder", "--seeds", "0,1,2,3")
    output = finish(start(project, *cells, *on(cluster), "--results", "elsewhere"))
    assert output.count("other images of folder/weave in") == 1, output
    assert len(rows_in(project / "elsewhere")) == 4
    shutil.rmtree(project / "one/data/folder")
    shutil.rmtree(project / "two/data/folder")
    nowhere = finish(start(project, *cells, *on(cluster), "--results", "nowhere"), code=1)
    assert "FAILED: no machine is fit: " in nowhere


def test_an_address_where_no_cluster_is_gives_one_line(project: Path) -> None:
    where = ("--executor", "ray", "--address", "127.0.0.1:1")
    output = finish(start(project, "-m", "quick", *where, "--results", "none"), code=2)
    assert "--address 127.0.0.1:1: there is no Ray cluster" in output.splitlines()[-1]
