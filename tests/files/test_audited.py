"""An audit is remembered for as long as nothing about the files changes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from bench.api import Sample
from bench.errors import DataError
from bench.files.audit import audit
from bench.files.audited import audited
from bench.files.images import ImageInfo, image_info
from bench.files.tensors import checked

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def samples(tmp_path: Path) -> list[Sample]:
    """A normal image, and an anomalous one whose mask has a grey edge: one warning."""
    root = tmp_path / "data"
    root.mkdir()
    noise = np.random.default_rng(0)
    for name in ("good.png", "bad.png"):
        Image.fromarray(noise.integers(0, 255, (8, 8, 3), np.uint8)).save(root / name)
    mask = np.zeros((8, 8), np.uint8)
    mask[2:4, 2:4] = [[255, 255], [255, 90]]
    Image.fromarray(mask).save(root / "mask.png")
    return [
        Sample(root / "good.png", 0, "good"),
        Sample(root / "bad.png", 1, defect="bad", mask=root / "mask.png"),
    ]


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The images that were decoded, in turn."""
    seen: list[Path] = []

    def counted(path: Path, bits: int = 16) -> ImageInfo:
        seen.append(path)
        return image_info(path, bits)

    monkeypatch.setattr("bench.files.audit.image_info", counted)
    return seen


def test_files_that_did_not_change_are_decoded_once(
    samples: list[Sample], decoded: list[Path], tmp_path: Path
) -> None:
    first = audited(samples, tmp_path / "cache")
    assert audited(samples, tmp_path / "cache") == first == audit(samples)
    assert first.findings, "the grey edge is a warning"
    assert len(decoded) == 4, "twice by audit(), of which once through audited()"


def test_without_a_folder_nothing_is_remembered(samples: list[Sample], decoded: list[Path]) -> None:
    audited(samples, None)
    audited(samples, None)
    assert len(decoded) == 4


def test_a_file_that_changed_is_looked_at_again_and_its_damage_found(
    samples: list[Sample], tmp_path: Path
) -> None:
    checked(samples, tmp_path / "cache")
    image = samples[0].image
    image.write_bytes(image.read_bytes()[:-20])
    with pytest.raises(DataError, match=image.name):
        checked(samples, tmp_path / "cache")
    with pytest.raises(DataError, match=image.name):
        checked(samples, tmp_path / "cache")


def test_the_time_of_a_change_counts_where_the_size_stays(
    samples: list[Sample], decoded: list[Path], tmp_path: Path
) -> None:
    audited(samples, tmp_path / "cache")
    os.utime(samples[0].image, ns=(1, 1))
    audited(samples, tmp_path / "cache")
    assert len(decoded) == 4


def test_what_is_said_of_a_file_counts(
    samples: list[Sample], decoded: list[Path], tmp_path: Path
) -> None:
    audited(samples, tmp_path / "cache")
    audited([samples[0], Sample(samples[1].image, 1, defect="bad")], tmp_path / "cache")
    assert len(decoded) == 4


def test_a_damaged_memory_costs_another_look(samples: list[Sample], tmp_path: Path) -> None:
    first = audited(samples, tmp_path / "cache")
    (file,) = (tmp_path / "cache" / "audits").iterdir()
    for text in ("", "[]", '{"warnings": [], "pixels": ["one of two"]}'):
        file.write_text(text)
        assert audited(samples, tmp_path / "cache") == first


def test_a_folder_that_cannot_be_written_costs_a_warning(
    samples: list[Sample], tmp_path: Path
) -> None:
    (tmp_path / "cache").write_text("a file where a folder should be")
    found = audited(samples, tmp_path / "cache")
    assert found.pixels == audit(samples).pixels
    assert "not remembered" in found.findings[-1].text
