"""Fingerprints change with what a category is made of, and with nothing else."""

from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from bench.api import Sample
from bench.errors import DataError
from bench.files.manifest import Digests, file_digest, find_shared_groups, fingerprint
from bench.plugins.datasets.folder import Folder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two training and two test images with one mask."""
    root = tmp_path / "nuts"
    for shade, name in enumerate(("train/good/0", "train/good/1", "test/good/2", "test/ink/3")):
        write(root / f"{name}.png", shade)
    write(root / "ground_truth/ink/3.png", 255)
    return root


def write(path: Path, shade: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((4, 4), shade, np.uint8)).save(path)


def of(root: Path, cache: Path | None = None) -> str:
    dataset = Folder(root)
    return fingerprint(dataset, dataset.categories()[0], cache)


def test_a_fingerprint_is_sixteen_hex_digits_and_repeatable(root: Path) -> None:
    assert of(root) == of(root)
    assert len(of(root)) == 16
    assert int(of(root), 16) >= 0


def test_a_fingerprint_does_not_depend_on_where_the_data_lie(root: Path, tmp_path: Path) -> None:
    before = of(root)
    shutil.copytree(root, tmp_path / "elsewhere" / "deep" / "nuts")
    assert of(tmp_path / "elsewhere" / "deep" / "nuts") == before


@pytest.mark.parametrize(
    "change",
    [
        lambda root: write(root / "train/good/0.png", 9),
        lambda root: write(root / "ground_truth/ink/3.png", 254),
        lambda root: write(root / "train/good/7.png", 7),
        lambda root: (root / "train/good/0.png").unlink(),
        lambda root: (root / "test/good/2.png").rename(root / "test/good/4.png"),
        lambda root: (root / "train/good/1.png").rename(root / "test/good/1.png"),
        lambda root: ((root / "ground_truth/ink").rename(root / "ground_truth/dye"),
                      (root / "test/ink").rename(root / "test/dye")),
        lambda root: shutil.rmtree(root / "ground_truth"),
    ],
    ids=["image", "mask", "added", "removed", "renamed", "moved", "defect", "unmasked"],
)  # fmt: skip
def test_a_fingerprint_changes_with_the_data(root: Path, change: Callable[[Path], object]) -> None:
    before = of(root)
    change(root)
    assert of(root) != before


def test_a_fingerprint_ignores_times_and_system_files(root: Path) -> None:
    before = of(root)
    os.utime(root / "train/good/0.png", (0, 0))
    (root / "train/good/.DS_Store").touch()
    assert of(root) == before


def test_the_cache_gives_the_same_fingerprint_and_notices_changes(
    root: Path, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    before = of(root, cache)
    assert len(json.loads((cache / "manifest.json").read_text())) == 5
    assert of(root, cache) == before == of(root)
    write(root / "train/good/0.png", 9)
    assert of(root, cache) == of(root) != before


def test_a_cached_hash_is_used_while_size_and_time_stand(root: Path, tmp_path: Path) -> None:
    image = root / "train/good/0.png"
    with Digests(tmp_path) as digests:
        before = digests.of(image)
    stat = image.stat()
    image.write_bytes(bytes(stat.st_size))
    os.utime(image, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert Digests(tmp_path).of(image) == before != file_digest(image)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"x": 3}', b"\xff\xfe"])
def test_a_damaged_cache_is_made_anew(root: Path, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "manifest.json").write_bytes(content)
    assert of(root, tmp_path) == of(root)
    assert len(json.loads((tmp_path / "manifest.json").read_text())) >= 5


def test_two_processes_that_write_the_cache_lose_nothing(root: Path, tmp_path: Path) -> None:
    first, second = Digests(tmp_path), Digests(tmp_path)
    with first, second:
        first.of(root / "train/good/0.png")
        second.of(root / "train/good/1.png")
    assert len(json.loads((tmp_path / "manifest.json").read_text())) == 2


def test_a_cache_that_cannot_be_written_names_the_setting(root: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"the cache cannot be written.*BENCH_CACHE"):
        of(root, tmp_path / "file")


def test_a_generated_data_set_names_itself(root: Path) -> None:
    class Generated(Folder):  # type: ignore[misc] # plugins are found at run time
        def fingerprint(self, category: str) -> str | None:
            return f"made-{category}"

    assert fingerprint(Generated(root), "nuts", None) == "made-nuts"


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"x\.png: cannot be read: No such file"):
        file_digest(tmp_path / "x.png")


def test_a_part_on_both_sides_is_a_shared_group(tmp_path: Path) -> None:
    def samples(*groups: str | None) -> list[Sample]:
        return [Sample(tmp_path, 0, "good", group=group) for group in groups]

    assert find_shared_groups(samples("a", "b", None), samples("b", "c", None)) == ["b"]
    assert find_shared_groups(samples("a"), samples("b")) == []


def test_a_fingerprint_of_training_images_needs_no_test_images(root: Path) -> None:
    whole = of(root)
    before = fingerprint(Folder(root), "nuts", None, ("train",))
    shutil.rmtree(root / "test")
    shutil.rmtree(root / "ground_truth")
    assert fingerprint(Folder(root), "nuts", None, ("train",)) == before != whole


def test_bits_of_images_count_only_where_they_are_not_all_of_the_file(root: Path) -> None:
    before = fingerprint(Folder(root), "nuts", None)
    assert fingerprint(Folder(root, bits=16), "nuts", None) == before
    assert fingerprint(Folder(root, bits=12), "nuts", None) != before
