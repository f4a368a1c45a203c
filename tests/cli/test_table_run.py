"""`bench table --run` in a project with a table of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    Bench = Callable[..., subprocess.CompletedProcess[str]]

pytestmark = pytest.mark.slow

TABLE = """\
title = "Mean image"
paper = "padim"
table = "none"
source = "ours"
dataset = "tiny"
protocol = "small"
published_protocol = "nothing is printed"
categories = ["left", "right"]
means = ["mean"]
seeds = [0]

[[metric]]
measured = "image_auroc"
label = "image AUROC (%)"

[[row]]
label = "mean image"
method = "mean"
params = { epochs = 1 }
category_params = { right = { gain = 2.0 } }
"""


def test_run_fills_the_gaps_with_each_categorys_parameters_and_resumes(
    bench: Bench, project: Path
) -> None:
    folder = project / "results" / "tables" / "mine"
    folder.mkdir(parents=True)
    (folder / "table1.toml").write_text(TABLE, encoding="utf-8")
    before = bench("table", "mine/table1")
    assert "Missing: mean image: left, right; seed 0" in before.stdout, before.stderr
    done = bench("table", "mine/table1", "--run", "--device", "cpu")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "| mean image | measured | 100.0 | 100.0 | 100.0 |" in " ".join(done.stdout.split())
    assert "Missing" not in done.stdout
    rows = (project / "results" / "tiny" / "mean.csv").read_text(encoding="utf-8")
    assert rows.count('""gain"":1.0') == rows.count('""gain"":2.0') == 1
    again = bench("table", "mine/table1", "--run")
    assert (again.returncode, again.stdout) == (0, done.stdout)
    assert "2 of 2" in bench("table").stdout


def test_a_dry_run_of_a_table_says_what_is_missing_and_runs_nothing(
    bench: Bench, project: Path
) -> None:
    folder = project / "results" / "tables" / "mine"
    folder.mkdir(parents=True)
    (folder / "table1.toml").write_text(TABLE, encoding="utf-8")
    done = bench("table", "mine/table1", "--dry-run", "--speed", "one", "--workers", "1")
    assert done.returncode == 0, done.stderr
    assert "mean on right; seed 0; " in done.stdout
    assert "mean.gain=2.0" in done.stdout
    assert done.stdout.splitlines()[-1] == "mine/table1: 2 cells to run"
    assert not (project / "results" / "tiny").exists()
