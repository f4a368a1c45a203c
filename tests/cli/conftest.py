"""A project of a user: a tiny data set, methods that work and methods that fail."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.cli.warm import WarmCommand

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Bench = Callable[..., subprocess.CompletedProcess[str]]

TINY = '''"""Grey squares; the anomalous ones have a white spot."""
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from PIL import Image

from bench.api import Dataset, Sample


@dataclass
class Tiny(Dataset):
    generated: ClassVar[bool] = True
    root: Path
    count: int = 6

    def categories(self):
        return ["left", "right"]

    def prepare(self, categories):
        for category in categories:
            rng = np.random.default_rng(len(category))
            for split, kind in (("train", "good"), ("test", "good"), ("test", "spot")):
                for index in range(self.count):
                    self._write(rng, category, split, kind, index)

    def _write(self, rng, category, split, kind, index):
        pixels = rng.integers(90, 110, (32, 32, 3), dtype=np.uint8)
        mask = np.zeros((32, 32), np.uint8)
        if kind == "spot":
            pixels[8:14, 10:16] = 255
            mask[8:14, 10:16] = 255
        folder = self.root / category / split / kind
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / f"{index}.png")
        if kind == "spot":
            Image.fromarray(mask).save(folder / f"{index}.mask", format="PNG")

    def fingerprint(self, category):
        return f"tiny-{category}-{self.count}"

    def samples(self, category, split):
        found = []
        for kind in ("good",) if split == "train" else ("good", "spot"):
            for image in sorted((self.root / category / split / kind).glob("*.png")):
                mask = image.with_suffix(".mask") if kind == "spot" else None
                found.append(Sample(image, int(kind == "spot"), kind, mask))
        return found
'''

METHOD = '''"""{summary}"""
from __future__ import annotations

from dataclasses import dataclass

from bench.api import Method, Prediction


@dataclass
class Mean(Method):
    epochs: int = 2
    gain: float = 1.0

    def fit(self, train, run):
        {fit}
        for _ in range(self.epochs):
            self.mean = sum(x.sum(0) for x in train.batches(4)) / len(train)
            yield {{"loss": 1.0}}

    def predict(self, images):
        {predict}
        return Prediction(self.gain * (images - self.mean).abs().mean(1))
'''

METHODS = {
    "mean": ("Distance to the mean image.", "pass", "pass"),
    "dies": ("Ends its process without a word.", "import os; os._exit(9)", "pass"),
    "crashes": ("Is killed.", "import os; os.kill(os.getpid(), 11)", "pass"),
    "hangs": ("Never ends.", "import time; time.sleep(600)", "pass"),
    "raises": ("Raises.", "raise ZeroDivisionError('on purpose')", "pass"),
    "not_finite": ("Returns NaN.", "pass", "images = images * float('nan')"),
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with bench.toml, methods and a data set of its own."""
    for kind in ("methods", "datasets"):
        (tmp_path / kind).mkdir()
    (tmp_path / "bench.toml").write_text(
        "[run]\nspeed = 'one'\nprotocol = 'small'\n[protocols.small]\nresize = [32, 32]\n"
        "[speed.one]\nwarmup_steps_cpu = 1\nmin_steps_cpu = 1\nmin_s_cpu = 0\nmax_batch = 1\n",
        encoding="utf-8",
    )
    (tmp_path / "datasets" / "tiny.py").write_text(TINY, encoding="utf-8")
    for name, (summary, fit, predict) in METHODS.items():
        text = METHOD.format(summary=summary, fit=fit, predict=predict)
        (tmp_path / "methods" / f"{name}.py").write_text(text, encoding="utf-8")
    return tmp_path


@pytest.fixture(scope="session")
def warm() -> Iterator[WarmCommand]:
    """Runs the command without the seconds of its imports."""
    with WarmCommand() as command:
        yield command


@pytest.fixture
def bench(project: Path, warm: WarmCommand) -> Bench:
    """`bench("run", ...)` in the project: a process of its own, as a user would start it."""

    def call(*arguments: str, cwd: Path = project) -> subprocess.CompletedProcess[str]:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("BENCH_")}
        environment |= {"COLUMNS": "200", "OMP_NUM_THREADS": "1", "NO_COLOR": "1"}
        return warm.run(arguments, cwd, environment)

    return call
