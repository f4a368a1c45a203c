"""The programs of examples/ run, and show what they promise."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image

if TYPE_CHECKING:
    import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


def load(name: str) -> Any:
    """A program as a module."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_any_maps_are_evaluated() -> None:
    file = EXAMPLES / "evaluate_your_maps.py"
    done = subprocess.run([sys.executable, file], capture_output=True, text=True, check=True)
    assert "pixel_auroc" in done.stdout


def test_the_toy_flow_gives_normal_points_the_higher_density_and_draws_both(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    toy = load("cflow_toy")
    generator = torch.Generator().manual_seed(0)
    normal, anomalous = toy.crescent(300, generator), toy.elsewhere(60, generator)
    decoder = toy.train(normal, 60, generator)
    inside, outside = (toy.look(decoder, points)[1] for points in (normal, anomalous))
    assert float(inside.quantile(0.1)) > float(outside.quantile(0.9))
    monkeypatch.setattr(
        sys, "argv", ["cflow_toy.py", "--steps", "5", "--out", str(tmp_path / "t.png")]
    )
    toy.main()
    assert "log density per dimension: normal" in capsys.readouterr().out
    with Image.open(tmp_path / "t.png") as picture:
        assert picture.width > 1000
