"""ShanghaiTech Campus: scenes, frame order, labels and masks of each video."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from bench.api import ConfigError, DataError
from bench.files.manifest import fingerprint
from bench.files.masks import load_masks
from bench.plugins.datasets.stc import STC
from bench.settings.protocol import Protocol

if TYPE_CHECKING:
    from pathlib import Path

NUMBERS = (8, 9, 10, 99, 100, 1000)  # names without padding: their order is not that of letters


@pytest.fixture
def root(tmp_path: Path, draw_image: Any) -> Path:
    """Scenes 01 and 12, two videos each; a scene 011 that begins alike."""
    root = tmp_path / "stc"
    for part, videos in (
        ("training", ("01_001", "01_002", "12_001", "13_001")),
        ("testing", ("01_0014", "12_0142", "011_0001")),
    ):
        for video in videos:
            for number in NUMBERS:
                draw_image(root / part / "frames" / video / f"{number}.jpg")
    for video in ("01_0014", "12_0142", "011_0001"):
        labels = np.array([0, 1, 0, 1, 1, 0], np.uint8)
        masks = np.zeros((6, 10, 12), np.uint8)
        for index in np.flatnonzero(labels):
            masks[index, :4, : 4 + index] = 1
        for kind, array in (("frame", labels), ("pixel", masks)):
            folder = root / "testing" / f"test_{kind}_mask"
            folder.mkdir(exist_ok=True)
            np.save(folder / f"{video}.npy", array)
    return root


def test_categories_are_the_scenes_with_test_videos(root: Path) -> None:
    assert STC(root).categories() == [f"{n:02}" for n in range(1, 13)]
    with pytest.raises(DataError, match="no category '13'"):
        STC(root).samples("13", "test")
    with pytest.raises(DataError, match="no video of scene 02"):
        STC(root).samples("02", "test")


def test_frames_come_in_the_order_of_their_numbers_with_their_labels(root: Path) -> None:
    test = STC(root).samples("01", "test")
    assert [int(s.image.stem) for s in test] == list(NUMBERS)
    assert [s.label for s in test] == [0, 1, 0, 1, 1, 0]
    assert {s.group for s in test} == {"01_0014"}, "not those of scene 011"
    assert {s.defect for s in test} == {"good", "anomaly"}


def test_each_anomalous_frame_has_its_own_mask_of_the_videos_array(root: Path) -> None:
    test = STC(root).samples("12", "test")
    masks = load_masks(test, Protocol("x", resize=(10, 12)), (10, 12)).masks
    assert [int(m.sum()) for m in masks if m is not None] == [0, 4 * 5, 0, 4 * 7, 4 * 8, 0]


def test_training_frames_are_normal_and_may_be_thinned_out(root: Path) -> None:
    train = STC(root).samples("01", "train")
    assert {(s.label, s.defect) for s in train} == {(0, "good")}
    assert {s.group for s in train} == {"01_001", "01_002"}
    assert [int(s.image.stem) for s in STC(root, every=4).samples("01", "train")] == [8, 100] * 2
    with pytest.raises(ConfigError, match="every = 0"):
        STC(root, every=0)


def test_lengths_are_compared_for_each_video(root: Path, draw_image: Any) -> None:
    draw_image(root / "testing" / "frames" / "01_0014" / "1001.jpg")
    with pytest.raises(DataError, match=r"01_0014: 7 frames, frame labels of shape \(6,\)"):
        STC(root).samples("01", "test")
    assert len(STC(root).samples("12", "test")) == 6


@pytest.mark.parametrize(
    ("array", "text"),
    [
        (np.zeros((6, 32), np.uint8), r"pixel masks of shape \(6, 32\)"),
        (np.zeros((5, 32, 32), np.uint8), r"pixel masks of shape \(5, 32, 32\)"),
        (np.array([{}] * 6), "cannot be read"),
    ],
)
def test_other_arrays_are_refused(root: Path, array: np.ndarray[Any, Any], text: str) -> None:
    np.save(root / "testing" / "test_pixel_mask" / "01_0014.npy", array, allow_pickle=True)
    with pytest.raises(DataError, match=text):
        STC(root).samples("01", "test")


def test_masks_of_another_type_or_a_frame_that_is_not_there_are_refused(root: Path) -> None:
    protocol = Protocol("x", resize=(32, 32))
    sample = next(s for s in STC(root).samples("01", "test") if s.label)
    beyond = replace(sample, mask_index=6)
    with pytest.raises(DataError, match="no frame 6; it holds 6"):
        load_masks([beyond], protocol, (32, 32))
    assert sample.mask is not None
    np.save(sample.mask, np.zeros((6, 32, 32)))
    with pytest.raises(DataError, match="float64 of shape"):
        load_masks([sample], protocol, (32, 32))


def test_missing_parts_and_odd_names_are_named(root: Path, tmp_path: Path, draw_image: Any) -> None:
    with pytest.raises(DataError, match="no images in"):
        STC(tmp_path / "absent").categories()
    draw_image(root / "training" / "frames" / "01_001" / "cover.jpg")
    with pytest.raises(DataError, match=r"cover\.jpg is no frame number"):
        STC(root).samples("01", "train")
    (root / "testing" / "test_frame_mask" / "01_0014.npy").unlink()
    with pytest.raises(DataError, match=r"01_0014\.npy: cannot be read"):
        STC(root).samples("01", "test")


def test_the_fingerprint_changes_with_a_mask_and_with_the_frames_taken(root: Path) -> None:
    before = fingerprint(STC(root), "01", None)
    assert fingerprint(STC(root, every=2), "01", None) != before
    file = root / "testing" / "test_pixel_mask" / "01_0014.npy"
    masks = np.load(file)
    masks[1, 9, 9] = 1
    np.save(file, masks)
    assert fingerprint(STC(root), "01", None) != before


def test_published_counts_are_those_of_all_scenes(root: Path) -> None:
    expected = STC(root).expected()
    assert sum(c["good"] + c["anomalous"] for c in expected.values()) == 40791
    assert sum(c["anomalous"] for c in expected.values()) == 17326
