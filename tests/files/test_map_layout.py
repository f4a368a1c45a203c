"""Image scores are found by the names of their images, whatever suffix these are given."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bench.files.map_layout import find_scores

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("suffix", ["", ".png", ".tiff", ".npy", ".JPG", ".unheard"])
@pytest.mark.parametrize("name", ["test/good/000", "test/good/part 1.5 mm"])
def test_suffixes_do_not_matter(tmp_path: Path, name: str, suffix: str) -> None:
    (tmp_path / "scores.csv").write_text(f"file,score\n{name}{suffix},0.5\n", encoding="utf-8")
    assert find_scores(tmp_path, tmp_path, "c", [name]) == ({name: 0.5}, [])


def test_a_name_of_no_image_is_named(tmp_path: Path) -> None:
    (tmp_path / "scores.csv").write_text("file,score\ntest/good/1.png,0.5\n", encoding="utf-8")
    _, problems = find_scores(tmp_path, tmp_path, "c", ["test/good/0"])
    assert "the test set has no image 'test/good/1.png'" in problems[0].text
