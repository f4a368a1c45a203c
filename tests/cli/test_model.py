"""A fitted method on disk, and maps of new images, as a user would type it."""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

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
