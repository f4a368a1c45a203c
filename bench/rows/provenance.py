"""Where a number comes from: commit, environment, machine."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

PACKAGES = (
    "flawbench",
    "torch",
    "torchvision",
    "timm",
    "FrEIA",
    "numpy",
    "scipy",
    "scikit-learn",
    "scikit-image",
    "Pillow",
)


def commit(folder: Path) -> str:
    """The commit of the checkout that holds the folder, "-dirty" if files changed; else ""."""
    head = _git(folder, "rev-parse", "--short=12", "HEAD")
    if not head:
        return ""
    # Results are written while cells run, so they do not make the code dirty.
    changed = _git(folder, "status", "--porcelain", "--", ".", ":!results")
    return f"{head}-dirty" if changed else head


def environment(packages: Iterable[tuple[str, str] | None] = ()) -> dict[str, str]:
    """Versions and machine, as text. No host name, no user, no path.

    Args:
        packages: name and version of those whose plugins a cell uses; None: of no package.
    """
    found = {"python": platform.python_version(), "system": platform.system()}
    found |= {"machine": platform.machine(), "cpu": cpu_name(), "cores": str(os.cpu_count())}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {**found, **dict(filter(None, packages))}


def cpu_name() -> str:
    """The processor's name as the system gives it."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return ""  # no git here: the row then carries no commit
    return done.stdout.strip() if done.returncode == 0 else ""
