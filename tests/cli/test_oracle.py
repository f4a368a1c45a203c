"""Artifacts of an oracle protocol are of the epoch whose numbers the row carries."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from bench.report.compare.intervals import image_score
from bench.rows.panels import epoch_note, load_panels
from bench.rows.store import ResultStore

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    Bench = Callable[..., subprocess.CompletedProcess[str]]

FADES = '''"""Best in its second epoch, upside down in its third."""
from dataclasses import dataclass

from bench.api import Method, Prediction


@dataclass
class Fades(Method):
    epochs: int = 3

    def fit(self, train, run):
        self.mean = sum(x.sum(0) for x in train.batches(4)) / len(train)
        for self.gain in (0.0, 1.0, -1.0):
            yield {"loss": 1.0}

    def predict(self, images):
        noise = images.flatten(1)[:, :1, None].sin() * 1e-3
        return Prediction(self.gain * (images - self.mean).abs().mean(1) + noise)
'''


@pytest.mark.parametrize("rule", ["oracle", "oracle-per-metric"])
def test_artifacts_are_of_the_epoch_of_the_numbers(project: Path, bench: Bench, rule: str) -> None:
    (project / "methods" / "fades.py").write_text(FADES)
    with (project / "bench.toml").open("a") as stream:
        stream.write(f"[protocols.best]\nresize = [32, 32]\nepoch = '{rule}'\n")
    options = ("-d", "tiny", "-c", "left", "--device", "cpu", "--protocol", "best")
    done = bench("run", "-m", "fades", *options)
    assert done.returncode == 0, done.stdout
    (row,) = ResultStore(project / "results").rows()
    assert row.epochs == 3
    assert row.epoch == (2 if rule == "oracle" else None)
    folder = project / "results" / "artifacts" / row.cell
    stored = np.load(folder / "scores.npz")
    found = image_score("image_auroc", stored["scores"].astype(float), stored["labels"] == 1)
    assert found == pytest.approx(row.image_auroc, abs=1e-6)
    panels, threshold = load_panels(folder / "panels.npz")
    assert epoch_note(panels) == ", maps of epoch 2"
    assert threshold == pytest.approx(row.pixel_f1max_threshold)
