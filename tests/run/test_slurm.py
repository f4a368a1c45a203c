"""The job array of docs/scale.md on a real SLURM of one node, started by this test as root."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bench.rows.store import ResultStore

if TYPE_CHECKING:
    from collections.abc import Iterator

DAEMONS = ("munged", "slurmctld", "slurmd", "sbatch")
SBIN = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin"))
IS_THERE = all(shutil.which(name, path=SBIN) for name in DAEMONS) and os.geteuid() == 0

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.slow,
    pytest.mark.skipif(not IS_THERE, reason="needs slurm-wlm and munge of Debian, and root"),
]

CONFIGURATION = """
ClusterName=one
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
AuthInfo=socket={folder}/munge.socket
SlurmctldPort={first}
SlurmdPort={second}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.fixture
def slurm(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment in which `sbatch` finds the daemons."""
    folder = tmp_path / "slurm"
    for name in ("state", "spool"):
        (folder / name).mkdir(parents=True)
    host = socket.gethostname().partition(".")[0]
    ports = {"first": free_port(), "second": free_port()}
    file = folder / "slurm.conf"
    file.write_text(CONFIGURATION.format(folder=folder, host=host, **ports), encoding="utf-8")
    key = folder / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o600)
    own = {name: f"{folder}/munge.{name}" for name in ("socket", "pid-file", "seed-file")}
    munged = ["munged", "--foreground", "--force", f"--key-file={key}"]
    munged += [f"--log-file={folder}/munge.log", *(f"--{k}={v}" for k, v in own.items())]
    environment = {**os.environ, "SLURM_CONF": str(file), "PATH": SBIN}
    commands = (munged, ["slurmctld", "-D"], ["slurmd", "-D", "-N", host])
    daemons = []
    with (folder / "log").open("w") as log:
        for command in commands:
            daemons.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))
            time.sleep(2)
    try:
        yield environment
    finally:
        for daemon in reversed(daemons):
            daemon.terminate()
            daemon.wait(60)


def recipe() -> str:
    """The batch script of docs/scale.md."""
    page = Path(__file__).parents[2] / "docs" / "scale.md"
    (found,) = re.findall(r"```bash\n(#!/bin/bash\n.+?)```", page.read_text("utf-8"), re.DOTALL)
    return str(found)


def test_the_recipe_has_fifteen_lines_at_most() -> None:
    assert len(recipe().splitlines()) <= 15


def test_a_job_array_of_shards_merges_to_the_whole_plan(
    tmp_path: Path, slurm: dict[str, str]
) -> None:
    bench = tmp_path / "bin" / "bench"
    bench.parent.mkdir()
    bench.write_text(f'#!/bin/sh\nexec {sys.executable} -m bench "$@"\n', encoding="utf-8")
    bench.chmod(0o755)
    (tmp_path / "array.sh").write_text(recipe(), encoding="utf-8")
    cells = "-m padim -d synthetic -c weave,bolt,stone --preset quick --random-weights"
    environment = {**slurm, "CELLS": cells, "PATH": f"{bench.parent}{os.pathsep}{slurm['PATH']}"}
    (tmp_path / "logs").mkdir()
    done = subprocess.run(
        ["sbatch", "--wait", "--array=1-2", "array.sh"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=800,
    )
    logs = "".join(file.read_text() for file in sorted((tmp_path / "logs").iterdir()))
    assert done.returncode == 0, done.stdout + done.stderr + logs
    shards = sorted((tmp_path / "shards").iterdir())
    assert [(shard / "shard").read_text() for shard in shards] == ["1/2\n", "2/2\n"]
    merged = subprocess.run(
        [bench, "merge", *shards, "--results", tmp_path / "all"], check=False, env=environment
    )
    assert merged.returncode == 0
    found = {row.category for row in ResultStore(tmp_path / "all").rows()}
    assert found == {"weave", "bolt", "stone"}
