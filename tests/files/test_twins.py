"""Equal pixels are found whatever file holds them: across splits, labels and categories."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from bench.api import Sample
from bench.errors import DataError
from bench.files.twins import find_contradictions, find_leaks, pixel_digests
from bench.files.verify import verify
from bench.plugins.datasets.folder import Folder

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Five training images, two good and two anomalous test images; no two are equal."""
    root = tmp_path / "nuts"
    folders = {"train/good": 5, "test/good": 2, "test/ink": 2}
    shade = 0
    for folder, count in folders.items():
        (root / folder).mkdir(parents=True)
        for index in range(count):
            shade += 1
            Image.new("RGB", (6, 4), (shade, 0, 0)).save(root / folder / f"{index}.png")
    return root


def as_other_file(source: Path, target: Path) -> None:
    """The same pixels in another encoding."""
    with Image.open(source) as image:
        image.save(target)
    assert source.read_bytes() != target.read_bytes()


def errors(root: Path) -> list[str]:
    return [f.text for f in verify(Folder(root), "folder").findings if f.severity == "error"]


@pytest.mark.parametrize("name", ["copy.png", "copy.bmp", "copy.tif"])
def test_a_test_image_that_is_a_training_image_too_is_a_leak(root: Path, name: str) -> None:
    twin, image = root / "train/good/1.png", root / "test/good" / name
    shutil.copy(twin, image) if image.suffix == ".png" else as_other_file(twin, image)
    dataset = Folder(root)
    train, test = dataset.samples("nuts", "train"), dataset.samples("nuts", "test")
    assert find_leaks(train, test, pixel_digests([*train, *test])) == [(twin, image)]
    assert errors(root) == [
        f"nuts: 1 test image in the training images too, first {image} = {twin}"
    ]


@pytest.mark.parametrize("name", ["copy.png", "copy.bmp", "copy.webp"])
def test_one_picture_under_two_labels_is_an_error_that_names_both(root: Path, name: str) -> None:
    good, bad = root / "test/good/0.png", root / "test/ink" / name
    if bad.suffix == ".webp":
        with Image.open(good) as picture:
            picture.save(bad, lossless=True)
    else:
        shutil.copy(good, bad) if bad.suffix == ".png" else as_other_file(good, bad)
    (error,) = errors(root)
    assert f"{good} and {bad} hold the same pixels, filed as good and as ink" in error


def test_one_picture_under_two_defect_types_contradicts_itself(tmp_path: Path) -> None:
    one, other = (Sample(tmp_path / name, 1, name) for name in ("ink", "hole"))
    same = {one.image: "a", other.image: "a"}
    assert find_contradictions([one, other], same) == [(one, other)]
    assert find_contradictions([one, other], {**same, other.image: "b"}) == []


def test_a_picture_of_another_category_is_a_warning(root: Path) -> None:
    shutil.copytree(root, root.parent / "bolts")
    (root.parent / "bolts/test/good/0.png").unlink()
    found = verify(Folder(root.parent), "folder")
    assert found.ok
    texts = [f.text for f in found.findings if "other categories" in f.text]
    assert len(texts) == 1
    assert texts[0].startswith("nuts: 8 images of other categories too, first ")


def test_pixels_count_and_not_only_their_bytes(tmp_path: Path) -> None:
    pixels = np.arange(24, dtype=np.uint8)
    for name, shape in (("wide", (2, 12)), ("tall", (12, 2))):
        Image.fromarray(pixels.reshape(shape)).save(tmp_path / f"{name}.png")
    samples = [Sample(tmp_path / f"{name}.png", 0, "good") for name in ("wide", "tall")]
    assert len(set(pixel_digests(samples).values())) == 2


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"x\.png: no such file"):
        pixel_digests([Sample(tmp_path / "x.png", 0, "good")])
