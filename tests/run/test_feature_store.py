"""Tensors in files: bounded, shared between processes, and gone where the disk is full."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
import torch

from bench.run import feature_store
from bench.run.feature_store import FeatureStore

if TYPE_CHECKING:
    from pathlib import Path

NAMES = [f"{number:02d}" * 16 for number in range(20)]


def one(value: float = 1.0) -> dict[str, torch.Tensor]:
    """A hundred numbers; about half a kilobyte as a file."""
    return {"chw": torch.full((100,), value)}


def files(folder: Path) -> list[Path]:
    return [file for file in folder.rglob("*") if file.is_file()]


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def store(tmp_path: Path, told: list[str]) -> FeatureStore:
    return FeatureStore(tmp_path / "features", 1.0, told.append)


def test_what_one_stores_another_reads(store: FeatureStore, tmp_path: Path) -> None:
    store.write(NAMES[0], {"hwc": torch.arange(6.0).view(1, 2, 3)})
    found = FeatureStore(tmp_path / "features", 1.0, print).read(NAMES[0])
    assert found is not None
    assert torch.equal(found["hwc"], torch.arange(6.0).view(1, 2, 3))
    assert store.read(NAMES[1]) is None


def test_cells_that_write_read_and_make_room_at_a_time_do_not_disturb_each_other(
    tmp_path: Path, told: list[str]
) -> None:
    def cell(number: int) -> bool:
        store = FeatureStore(tmp_path / "features", 0.004, told.append)
        right = True
        for round_ in range(3 * len(NAMES)):
            value = (7 * number + round_) % len(NAMES)
            store.write(NAMES[value], one(value))
            found = store.read(NAMES[value])
            right &= found is None or torch.equal(found["chw"], one(value)["chw"])
        return right

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(cell, range(4)))
    assert told == []
    assert not list(tmp_path.rglob("*.tmp"))


@pytest.mark.parametrize("keep", [0, 3, 100, -1])
def test_a_file_that_is_cut_off_or_changed_is_not_there(
    store: FeatureStore, tmp_path: Path, keep: int
) -> None:
    store.write(NAMES[0], one())
    (file,) = files(tmp_path)
    content = file.read_bytes()
    file.write_bytes(content[:keep] if keep >= 0 else content[:-1] + b"!")
    assert store.read(NAMES[0]) is None
    store.write(NAMES[0], one())
    assert store.read(NAMES[0]) is not None


def test_the_longest_unused_go_where_the_limit_is_reached(tmp_path: Path, told: list[str]) -> None:
    store = FeatureStore(tmp_path / "features", 0.004, told.append)
    for age, name in enumerate(NAMES):
        store.write(name, one())
        for file in files(tmp_path):
            if name in file.name:
                os.utime(file, (1000 + age, 1000 + age))
        assert store.read(NAMES[0]) is not None, "it was used a moment ago"
    held = sum(file.stat().st_size for file in files(tmp_path))
    assert 0.002 <= held / 10**6 <= 0.004
    assert store.read(NAMES[1]) is None
    assert store.read(NAMES[-1]) is not None
    assert told == []


def test_a_file_that_a_killed_cell_left_half_written_goes_after_an_hour(
    tmp_path: Path, told: list[str]
) -> None:
    folder = tmp_path / "features/aa"
    folder.mkdir(parents=True)
    left, begun = folder / ".old.tmp", folder / ".new.tmp"
    for file in (left, begun):
        file.write_bytes(bytes(4000))
    os.utime(left, (1000, 1000))
    FeatureStore(tmp_path / "features", 0.004, told.append).write(NAMES[0], one())
    assert (left.exists(), begun.exists(), told) == (False, True, [])


def test_what_is_larger_than_the_limit_is_not_stored(tmp_path: Path, told: list[str]) -> None:
    store = FeatureStore(tmp_path / "features", 0.0001, told.append)
    store.write(NAMES[0], one())
    assert (files(tmp_path), told) == ([], [])


def test_a_disk_that_is_full_costs_one_line_and_what_is_stored_stays(
    store: FeatureStore, told: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.write(NAMES[0], one())

    def full(**_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "mkstemp", full)
    store.write(NAMES[1], one())
    monkeypatch.undo()
    store.write(NAMES[2], one())
    (line,) = told
    assert "(No space left on device)" in line
    assert line.endswith("this cell stores no more, and its row is the same")
    assert "\n" not in line
    assert len(files(tmp_path)) == 1
    assert store.read(NAMES[0]) is not None


def test_room_for_rows_is_left_on_the_disk(
    store: FeatureStore, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    free = feature_store.RESERVE_MB * 10**6
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**12, 0, free))
    store.write(NAMES[0], one())
    assert told[0].startswith(f"feature cache: {store.folder} has 500 MB free; ")
    assert store.read(NAMES[0]) is None


def test_a_folder_that_cannot_be_made_costs_one_line(tmp_path: Path, told: list[str]) -> None:
    (tmp_path / "features").write_text("no folder", encoding="utf-8")
    store = FeatureStore(tmp_path / "features", 1.0, told.append)
    store.write(NAMES[0], one())
    assert len(told) == 1
    assert store.read(NAMES[0]) is None
