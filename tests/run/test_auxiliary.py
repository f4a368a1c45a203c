"""Auxiliary pictures as a method sees them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from PIL import Image

from bench.errors import DataError
from bench.run.auxiliary import PictureFolder

if TYPE_CHECKING:
    from pathlib import Path

CPU = torch.device("cpu")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for index in range(10):
        pixels = rng.integers(0, 255, (6, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{index}.png")
    return tmp_path


def test_pictures_come_as_asked_in_zero_to_one(folder: Path) -> None:
    found = PictureFolder(folder, "draws.textures", CPU)
    assert len(found) == 10
    batch = found.pictures([3, 0, 3], (6, 8))
    assert batch.shape == (3, 3, 6, 8)
    with Image.open(folder / "3.png") as image:
        wanted = torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255
    assert torch.allclose(batch[0], wanted)
    assert torch.equal(batch[0], batch[2])


def test_both_sides_are_forced_and_antialiased(folder: Path) -> None:
    batch = PictureFolder(folder, "draws.textures", CPU).pictures([1], (3, 2))
    with Image.open(folder / "1.png") as image:
        wanted = np.asarray(image.resize((2, 3), Image.Resampling.BILINEAR))
    assert torch.equal(batch[0], torch.from_numpy(wanted.copy()).permute(2, 0, 1) / 255)


def test_a_picture_is_decoded_once_for_a_size(folder: Path) -> None:
    found = PictureFolder(folder, "draws.textures", CPU)
    first = found.pictures([2], (4, 4))
    (folder / "2.png").unlink()
    assert torch.equal(found.pictures([2], (4, 4)), first)
    with pytest.raises(DataError, match=r"2\.png"):
        found.pictures([2], (5, 5))


def test_without_room_every_picture_is_read_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.run.auxiliary.KEPT_MB", 0)
    found = PictureFolder(folder, "draws.textures", CPU)
    first = found.pictures([2], (4, 4))
    assert torch.equal(found.pictures([2], (4, 4)), first)
    (folder / "2.png").unlink()
    with pytest.raises(DataError, match=r"2\.png"):
        found.pictures([2], (4, 4))
