"""`make gpu`: refuses without a GPU; ends steps at their limit, resumes, and reports each."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

ROOT = Path(__file__).parents[2]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """benchmarks/gpu.py on a machine that claims a GPU, with three steps of its own."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import gpu

    class Facts:
        name, total_memory = "Imagined", 80e9

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: Facts)
    told = {"good": "print('fine')", "bad": "raise SystemExit(5)", "slow": "input()"}

    def steps(_out: Path, has_weights: bool) -> list[Any]:
        return [gpu.Step(name, [sys.executable, "-c", code], 0.2) for name, code in told.items()]

    monkeypatch.setattr(gpu, "steps", steps)
    return gpu


def main(script: ModuleType, monkeypatch: pytest.MonkeyPatch, arguments: Sequence[str]) -> int:
    monkeypatch.setattr(sys, "argv", ["gpu.py", *arguments])
    code: int = script.main()
    return code


def test_steps_are_reported_and_a_finished_one_is_not_run_again(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    arguments = ["--out", str(tmp_path)]
    assert main(script, monkeypatch, arguments) == 1
    text = (tmp_path / "report.md").read_text()
    assert "# Imagined, 80 GB" in text
    for line in ("| good | passed |", "| bad | failed (5) |", "| slow | failed (1) |", "fine"):
        assert line in text
    before = (tmp_path / "good.txt").stat().st_mtime_ns
    assert main(script, monkeypatch, arguments) == 1
    assert (tmp_path / "good.txt").stat().st_mtime_ns == before
    main(script, monkeypatch, [*arguments, "--fresh"])
    assert (tmp_path / "good.txt").stat().st_mtime_ns > before


def test_ratios_are_gathered_with_their_goals(
    script: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "own.json"
    code = (
        "from methods import Comparison, write_json\n"
        "found = Comparison('fast', 2.0, 1.3), Comparison('large (at most)', 0.5, 0.45)\n"
        f"write_json([*found, Comparison('told', 7.0, None)], {str(file)!r})"
    )
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{ROOT / 'benchmarks'}")
    step = script.Step("own", [sys.executable, "-c", code], 1.0, file)
    monkeypatch.setattr(script, "steps", lambda _out, has_weights: [step])
    assert main(script, monkeypatch, ["--out", str(tmp_path)]) == 0
    assert (tmp_path / "ratios.csv").read_text().splitlines() == [
        "name,ratio,goal,met",
        "fast,2.0,1.3,True",
        "large (at most),0.5,0.45,False",
        "told,7.0,,",
    ]
    lines = ["fast: 2.00, goal 1.3, met", "large (at most): 0.50, goal 0.45, NOT MET"]
    assert capsys.readouterr().out.splitlines()[-3:-1] == lines
    assert all(f"- {line}" in (tmp_path / "report.md").read_text() for line in lines)


def test_when_the_minutes_are_over_the_rest_waits(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    arguments = ["--out", str(tmp_path)]
    assert main(script, monkeypatch, [*arguments, "--minutes", "0"]) == script.OUT_OF_TIME
    assert (tmp_path / "report.md").read_text().count("| not run |") == 3
    assert main(script, monkeypatch, arguments) == 1


def test_every_method_is_tested_and_has_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import gpu

    from bench.plan import discovery

    names = {step.name for step in gpu.steps(Path("gpu"), has_weights=False)}
    assert {f"rows of {method}" for method in discovery.sources("methods")} <= names


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_one_line_says_so_and_the_exit_code_is_3() -> None:
    done = subprocess.run(
        [sys.executable, "benchmarks/gpu.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert done.returncode == 3
    assert done.stderr == "make gpu: torch sees no CUDA device here; nothing was run\n"
