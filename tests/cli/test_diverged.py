"""A training that diverges: one line that says where, and no row that looks whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bench.rows.row import NOT_FINITE
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


def test_a_plugin_that_yields_nan_has_a_row_that_says_so_everywhere(
    bench: Bench, project: Path
) -> None:
    file = project / "methods" / "mean.py"
    file.write_text(file.read_text().replace('"loss": 1.0', '"loss": float("nan")'))
    done = bench("run", "-m", "mean", "-d", "tiny", "-c", "left", "--device", "cpu")
    assert done.returncode == 0, done.stderr
    (said,) = [line for line in done.stdout.splitlines() if "loss is nan" in line]
    assert "mean tiny/left" in said
    assert said.endswith("loss is nan in epoch 1; the row is marked")
    (row,) = ResultStore(project / "results").rows()
    assert NOT_FINITE in row.suspect
    (line,) = [x for x in bench("status").stdout.splitlines() if x.strip().startswith("mean")]
    assert "∞" in line.split()[0]
