"""A method that reads a folder of pictures, from end to end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from bench.report.choice.marks import marks
from bench.report.site.names import EXTRA, prior
from bench.rows.store import ResultStore

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    Bench = Callable[..., subprocess.CompletedProcess[str]]

METHOD = '''"""Distance to a mixture of the mean image and pictures of something else."""
from __future__ import annotations

from dataclasses import dataclass

import torch

from bench.api import ImageFolder, Method, Prediction


@dataclass
class Mixed(Method):
    textures: ImageFolder = ""

    def fit(self, train, run):
        self.mean = sum(x.sum(0) for x in train.batches(4)) / len(train)
        if self.textures:
            pictures = run.auxiliary("textures")
            index = torch.randint(len(pictures), (2,), generator=run.generator("textures"))
            self.mean = self.mean + 0.01 * pictures.pictures(index, train.image_size).mean(0)
        yield {}

    def predict(self, images):
        return Prediction((images - self.mean).abs().mean(1))
'''
RUN = ("run", "-m", "mixed", "-d", "tiny", "-c", "left", "--device", "cpu", "--threads", "1")


@pytest.fixture
def mixed(project: Path) -> Path:
    """The project, with a method that may read pictures, and a folder of ten."""
    (project / "methods" / "mixed.py").write_text(METHOD)
    rng = np.random.default_rng(0)
    (project / "auxiliary" / "dots").mkdir(parents=True)
    for index in range(10):
        pixels = rng.integers(0, 255, (9, 12, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(project / "auxiliary" / "dots" / f"{index}.png")
    return project


@pytest.mark.slow
def test_the_pictures_are_part_of_the_cell_and_of_the_row(mixed: Path, bench: Bench) -> None:
    assert bench(*RUN).returncode == 0
    done = bench(*RUN, "--set", "textures=dots")
    assert done.returncode == 0, done.stdout + done.stderr
    without, row = sorted(ResultStore(mixed / "results").rows(), key=lambda r: len(r.auxiliary))
    value = row.params["textures"]
    assert value.startswith("dots@")
    assert row.auxiliary == f"textures={value}"
    assert without.auxiliary == "textures=none"
    assert "◇" in marks(without)
    assert "◇" not in marks(row)
    assert prior(row) == EXTRA
    (mixed / "auxiliary").rename(mixed / "pictures")
    again = bench(*RUN, "--set", "textures=dots", "--auxiliary-root", "pictures")
    assert "1 of 1 cells have a row already" in again.stdout


def test_what_is_missing_is_said_before_anything_runs(mixed: Path, bench: Bench) -> None:
    plan = bench(*RUN, "--set", "textures=dots", "--dry-run")
    assert f"mixed.textures: {mixed / 'auxiliary' / 'dots'}" in plan.stdout
    assert "mixed.textures: no folder of pictures is named" in bench("list").stdout
    with (mixed / "bench.toml").open("a") as file:
        file.write('[methods.mixed]\ntextures = "dtd"\n')
    text = f"mixed.textures: {mixed / 'auxiliary' / 'dtd'} is not a folder of pictures"
    for command in ((*RUN, "--dry-run"), RUN, ("test-plugin", "mixed")):
        done = bench(*command)
        assert done.returncode == 2
        assert done.stderr.strip() == f"bench: {text}"
    assert f"missing: {text}" in bench("list").stdout
    assert not (mixed / "results").exists()
