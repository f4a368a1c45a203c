"""What runs side by side: one cell for each GPU, or several on a CPU, and the threads of each."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from bench.errors import ConfigError

if TYPE_CHECKING:
    from bench.settings.config import RunSettings

VISIBLE = "CUDA_VISIBLE_DEVICES"
THREADS = "OMP_NUM_THREADS"


def device_slots(run: RunSettings) -> list[dict[str, str]]:
    """Environment changes of each cell that runs at a time.

    One slot for each GPU that this process may see; where there is none, or the CPU was asked for,
    `[run].workers` without changes.

    Raises:
        ConfigError: several cells would share a GPU, so that each would time the others too.
    """
    if run.device == "cpu":
        return [{} for _ in range(max(1, run.workers))]
    gpus = visible_gpus()
    if run.device in ("auto", "cuda") and len(gpus) > 1:
        _refuse_sharing(run.workers, len(gpus))
        return [{VISIBLE: gpu} for gpu in gpus]
    if gpus or run.device != "auto":
        _refuse_sharing(run.workers, 1)
    return [{} for _ in range(max(1, run.workers))]


def _refuse_sharing(workers: int, gpus: int) -> None:
    if workers > gpus:
        where = "one GPU" if gpus == 1 else f"{gpus} GPUs"
        raise ConfigError(
            f"--workers {workers} on {where}: cells that share a GPU would time each other; "
            "one cell for each GPU runs without --workers, and --device cpu takes several"
        )


def visible_gpus() -> list[str]:
    """Names by which CUDA knows the GPUs of this process; found without importing torch.

    They are those of `CUDA_VISIBLE_DEVICES`, else all that the driver lists, if torch can use any.
    """
    named = os.environ.get(VISIBLE)
    if named is not None:
        parts = [part.strip() for part in named.split(",")]
        # As CUDA reads it: the first that is no device ends the list.
        valid = [bool(part) and part != "-1" for part in parts]
        parts = parts[: valid.index(False)] if False in valid else parts
        return parts if _torch_has_cuda() else []
    return listed_gpus(_nvidia_smi()) if _torch_has_cuda() else []


def listed_gpus(text: str) -> list[str]:
    """UUIDs in the output of `nvidia-smi --list-gpus`; of a divided GPU those of its parts."""
    found: list[list[str]] = []
    for line in text.splitlines():
        if match := re.match(r"GPU \d+: .*\(UUID: (GPU-[^)]+)\)", line):
            found.append([match[1]])
        elif (match := re.match(r"\s+MIG .*\(UUID: (MIG-[^)]+)\)", line)) and found:
            found[-1].append(match[1])
    return [uuid for gpu in found for uuid in (gpu[1:] or gpu)]


def threads_of_cells(run: RunSettings, at_a_time: int) -> int:
    """CPU threads of each cell: as set, else OMP_NUM_THREADS, else cores over cells at a time."""
    if run.threads:
        return run.threads
    return named_threads() or max(1, usable_cores() // at_a_time)


def named_threads() -> int:
    """What OMP_NUM_THREADS asks for; 0: nothing, or no number. Of a list, the outermost level."""
    text = os.environ.get(THREADS, "").partition(",")[0].strip()
    return int(text) if text.isdecimal() else 0


def crowding(threads: int, at_a_time: int) -> str:
    """A warning where cells have more threads than there are cores; else empty."""
    cores = usable_cores()
    if threads * at_a_time <= cores or at_a_time == 1:
        return ""
    return (
        f"{at_a_time} cells at a time with {threads} threads each on {cores} cores: they wait for "
        "each other, and speed is uncertain; lower --workers or --threads"
    )


def usable_cores() -> int:
    """CPU cores that this process may use: its affinity and its container's quota are respected."""
    from joblib import cpu_count

    return int(cpu_count())


def _torch_has_cuda() -> bool:
    """Whether torch was built with CUDA, by its source: importing it takes seconds."""
    spec = importlib.util.find_spec("torch")
    version = Path(spec.origin).with_name("version.py") if spec and spec.origin else None
    text = version.read_text(encoding="utf-8") if version is not None and version.is_file() else ""
    return re.search(r"^cuda\b[^=\n]*= *['\"]", text, re.MULTILINE) is not None


def _nvidia_smi() -> str:
    """What the driver's own tool lists; empty where there is none, or it fails."""
    command = ["nvidia-smi", "--list-gpus"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""
