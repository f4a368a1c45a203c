"""A fitted method on disk, and maps of new images, as a user would type it."""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from bench.commands.model import images_of
from bench.errors import DataError

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    Bench = Callable[..., subprocess.CompletedProcess[str]]

FIT = ("fit", "-m", "mean", "-d", "tiny", "--device", "cpu", "--threads", "1")


@pytest.mark.slow
def test_a_fitted_method_scores_new_images_and_writes_maps(project: Path, bench: Bench) -> None:
    fitted = bench(*FIT, "-c", "left", "--out", "model")
    assert fitted.returncode == 0, fitted.stderr
    assert "epoch 2: loss 1" in fitted.stderr
    assert "the highest score of the 6 training images" in fitted.stdout
    assert sorted(file.name for file in (project / "model").iterdir()) == [
        "model.json",
        "model.safetensors",
    ]
    grey, spot = project / "grey.png", project / "spot.png"
    pixels = np.full((40, 60, 3), 100, np.uint8)
    Image.fromarray(pixels).save(grey)
    pixels[10:20, 10:20] = 255
    Image.fromarray(pixels).save(spot)
    done = bench("predict", "--model", "model", "grey.png", "spot.png", "--out", "maps")
    assert done.returncode == 0, done.stderr
    lines = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [(line["file"], line["above_training"]) for line in lines] == [
        ("grey.png", "0"),
        ("spot.png", "1"),
    ]
    threshold = json.loads((project / "model" / "model.json").read_text())["threshold"]["value"]
    assert float(lines[0]["score"]) < threshold < float(lines[1]["score"])
    with Image.open(project / "maps" / "spot.tiff") as image:
        values = np.asarray(image)
    assert values.shape == (40, 60)
    assert values.dtype == np.float32
    assert values[12:18, 12:18].min() > values[30:, 30:].max()
    with Image.open(project / "maps" / "spot.overlay.png") as image:
        assert (image.size, image.mode) == ((60, 40), "RGB")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((*FIT, "--out", "model"), "give --category: left, right"),
        ((*FIT, "--out", "methods"), "is not empty"),
        ((*FIT, "--out", "bench.toml"), "is not a folder"),
        ((*FIT, "-c", "left", "--out", "m", "--weights", "a", "--random-weights"), "exclude"),
        ((*FIT, "-c", "left", "--out", "m", "--set", "gaim=1"), "did you mean 'gain'"),
    ],
)
def test_bad_input_is_one_line(bench: Bench, arguments: tuple[str, ...], message: str) -> None:
    done = bench(*arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


PARTS = '''"""Holds everything that a run hands out."""
from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from bench.api import Method, Prediction


@dataclass
class Parts(Method):
    backbone: str = "test_resnet"

    def prepare(self, run):
        names = ("layer1.0.bn2", "layer2")
        self.teacher = run.backbone(self.backbone, names)
        self.numbered = run.backbone(self.backbone, (1, 2))
        self.student = run.network(self.backbone, names)
        with torch.random.fork_rng(devices=[]):
            self.edges = run.module(nn.Conv2d(3, 1, 3, padding=1), "edges")

    def fit(self, train, run):
        self.gallery = run.scratch("gallery", (len(train), 3))
        optimiser = torch.optim.SGD(self.student.parameters(), lr=0.01)
        loss = sum(f.square().mean() for f in self.student(next(iter(train.batches(4)))))
        loss.backward()
        optimiser.step()
        for index, image in enumerate(train.batches(1)):
            self.gallery[index] = image.mean((0, 2, 3))
        yield {"loss": float(loss.detach())}

    def predict(self, images):
        pairs = zip(self.teacher(images), self.student(images))
        level = sum((a - b).square().mean((1, 2, 3)) for a, b in pairs)
        level = level + self.numbered(images)[1].mean((1, 2, 3)) + self.gallery.mean()
        return Prediction(self.edges(images)[:, 0] * level[:, None, None])
'''


@pytest.mark.slow
def test_everything_that_a_run_hands_out_is_saved_and_loaded(project: Path, bench: Bench) -> None:
    (project / "methods" / "parts.py").write_text(PARTS, encoding="utf-8")
    options = ("-d", "tiny", "-c", "left", "--device", "cpu", "--threads", "1", "--random-weights")
    fitted = bench("fit", "-m", "parts", *options, "--out", "model")
    assert fitted.returncode == 0, fitted.stderr
    card = json.loads((project / "model" / "model.json").read_text())
    assert [entry["layers"] for entry in card["backbones"]] == [["layer1.0.bn2", "layer2"], [1, 2]]
    assert [name.partition("@")[0] for name in card["weights"]] == [
        "test_resnet[random:0]",
        "test_resnet[random:0]",
        "edges[own]",
    ]
    images = sorted((project / ".cache").rglob("left/train/good/*.png"))
    done = bench("predict", "--model", "model", *map(str, images))
    assert done.returncode == 0, done.stderr
    scores = [float(line["score"]) for line in csv.DictReader(io.StringIO(done.stdout))]
    # A copy that had forgotten a part would not reach the training images' own maximum.
    assert max(scores) == card["threshold"]["value"]


def test_a_folder_stands_for_its_images(tmp_path: Path) -> None:
    for name in ("b.png", "a.JPG"):
        Image.new("RGB", (4, 4)).save(tmp_path / name, format="PNG")
    (tmp_path / "notes.txt").touch()
    (tmp_path / "below").mkdir()
    assert images_of(tmp_path) == [tmp_path / "a.JPG", tmp_path / "b.png"]
    assert images_of(tmp_path / "b.png") == [tmp_path / "b.png"]
    with pytest.raises(DataError, match=r"below: a folder without images; name a folder"):
        images_of(tmp_path / "below")
