"""Checks of device and weights before the first cell, in a process of its own: no torch here.

`python -m bench.run.preflight` reads the questions from standard input, and answers with one line
of what is wrong; an empty line where nothing is.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.errors import BenchError, ConfigError
from bench.plan.cells import BACKBONE_FIELDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.run.job import Job


def check_machine(jobs: Sequence[Job]) -> None:
    """Refuse a device that is not there, and weights that cannot be had or do not fit.

    Nothing is started where neither a GPU nor pretrained weights were asked for.

    Raises:
        ConfigError: what the first cell would say, once.
    """
    devices = sorted({job.device for job in jobs if job.device.startswith("cuda")})
    networks = sorted(
        {
            (
                str(job.cell.params[field]),
                job.weights.kind,
                *(str(path or "") for path in (job.weights.file, job.weights.folder)),
            )
            for job in jobs
            if job.cell.pretrained not in ("none", "random")
            for field in BACKBONE_FIELDS
            if job.cell.params.get(field, "none") != "none"
        }
    )
    if not devices and not networks:
        return
    done = subprocess.run(
        [sys.executable, "-m", "bench.run.preflight"],
        input=json.dumps({"devices": devices, "networks": networks}),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["no message"]
        raise ConfigError(f"device and weights cannot be checked: {last[0]}")
    if problem := done.stdout.strip():
        raise ConfigError(problem)


def answer(questions: dict[str, Any]) -> str:
    """What is wrong, as one line; empty if nothing is."""
    from bench.run.context import choose_device
    from bench.weights.choice import Weights
    from bench.weights.sources import require_state

    try:
        for device in questions["devices"]:
            choose_device(device)
        for name, kind, file, folder in questions["networks"]:
            asked = Weights(kind, Path(file) if file else None, Path(folder) if folder else None)
            require_state(name, asked)
    except BenchError as error:
        return str(error).replace("\n", " ")
    return ""


if __name__ == "__main__":
    print(answer(json.load(sys.stdin)))
