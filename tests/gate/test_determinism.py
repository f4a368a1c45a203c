"""The same cell gives the same bits in another process; other threads move the last digits only."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bench.rows.store import ResultStore

ROOT = Path(__file__).parents[2]


def run(results: Path, cache: Path, threads: int) -> dict[str, bytes]:
    """Anomaly maps of two cells, by method and image; trained in a process of their own."""
    options = ["--method", "padim,pyramidflow", "--preset", "gate", "--random-weights"]
    options += ["--category", "stone", "--in-process", "--save-maps", "--results", str(results)]
    options += ["--threads", str(threads)]
    environment = {**os.environ, "BENCH_CACHE": str(cache), "BENCH_PROJECT": str(ROOT)}
    environment["OMP_NUM_THREADS"] = str(threads)
    done = subprocess.run(
        [sys.executable, "-m", "bench", "run", *options],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, bytes] = {}
    for row in ResultStore(results).rows():
        folder = results / "artifacts" / row.cell
        maps = sorted(folder.rglob("*.npy"))
        assert len(maps) == row.n_test
        found |= {f"{row.method}/{file.relative_to(folder)}": file.read_bytes() for file in maps}
    return found


@pytest.mark.slow
def test_maps_are_the_same_bits_in_another_process_and_close_with_other_threads(
    tmp_path: Path,
) -> None:
    cache = tmp_path / "cache"
    first = run(tmp_path / "a", cache, threads=1)
    assert run(tmp_path / "b", cache, threads=1) == first
    for name, content in run(tmp_path / "c", cache, threads=2).items():
        ours, theirs = (np.load(io.BytesIO(c)) for c in (first[name], content))
        np.testing.assert_allclose(ours, theirs, rtol=2e-3, atol=1e-3 * float(ours.max()))
