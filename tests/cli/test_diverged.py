"""A training that diverges: one line that says where, and no row that looks whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bench.rows.store import ResultStore

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    Bench = Callable[..., subprocess.CompletedProcess[str]]

METHODS = ("stfpm", "vae", "pyramidflow", "cflow", "dfr")
SMALL = ("size=64", "train=8", "good=4", "bad=4", "categories_only=bolt")


@pytest.mark.slow
def test_a_diverged_training_is_one_line_with_method_cell_and_epoch_and_no_row(
    bench: Bench, project: Path
) -> None:
    options = [word for option in SMALL for word in ("--set", f"synthetic.{option}")]
    cells = ("-m", ",".join(METHODS), "-d", "synthetic", "-c", "bolt", "--random-weights")
    done = bench("run", *cells, "--preset", "quick", "--set", "lr=1e30", *options)
    assert done.returncode == 1, done.stdout + done.stderr
    failed = [line for line in done.stdout.splitlines() if "FAILED" in line]
    for method in METHODS:
        (line,) = [line for line in failed if f"] {method} synthetic/bolt" in line]
        message = line.split("FAILED: ")[1]
        assert message.startswith(f"{method}: ")
        assert "epoch 1" in message or "epoch 2" in message
        assert "nan" in message or "inf" in message
    assert ResultStore(project / "results").rows() == []
