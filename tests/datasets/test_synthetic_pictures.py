"""Generated images: repeatable, equal to their clean twin outside the mask, sized and typed."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from bench.plugins.datasets.synthetic import camera, masks
from bench.plugins.datasets.synthetic.defects import SEVERITIES
from bench.plugins.datasets.synthetic.picture import SCENES, Key, make_picture

GOLDEN = Path(__file__).parents[1] / "golden" / "synthetic_64.npz"
CATEGORIES = ("weave", "brushed", "stone", "bolt", "capsule", "board")
TYPES = [(name, kind) for name in CATEGORIES for kind in SCENES[name].types]


def bad(category: str, kind: str, severity: str, size: int = 96, index: int = 0) -> Any:
    return Key(3, size, category, "test", kind, index, severity)


def differs(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    change = a != b
    return np.asarray(change if change.ndim == 2 else change.any(-1))


def test_there_are_three_textures_and_three_objects() -> None:
    assert tuple(SCENES) == CATEGORIES
    assert len(TYPES) == 29


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize(("category", "kind"), TYPES)
def test_a_defect_changes_its_mask_and_nothing_else(
    category: str, kind: str, severity: str
) -> None:
    picture = make_picture(bad(category, kind, severity))
    changed = differs(picture.pixels, picture.clean)
    assert picture.mask.any()
    assert picture.mask.mean() <= 0.25
    assert not changed[~picture.mask].any()
    assert changed[picture.mask].mean() >= 0.9


@pytest.mark.parametrize("category", CATEGORIES)
def test_the_clean_twin_of_a_defect_does_not_depend_on_its_severity(category: str) -> None:
    kind = SCENES[category].types[0]
    twins = [make_picture(bad(category, kind, s, size=64)).clean for s in SEVERITIES]
    assert np.array_equal(twins[0], twins[1])
    assert np.array_equal(twins[0], twins[2])


@pytest.mark.parametrize("category", CATEGORIES)
def test_train_test_and_defective_images_share_no_scene(category: str) -> None:
    kind = SCENES[category].types[0]
    pictures = [
        make_picture(Key(3, 64, category, "train", "good", 0)).pixels,
        make_picture(Key(3, 64, category, "train", "good", 1)).pixels,
        make_picture(Key(3, 64, category, "test", "good", 0)).pixels,
        make_picture(bad(category, kind, "hard", size=64)).clean,
        make_picture(Key(4, 64, category, "train", "good", 0)).pixels,
    ]
    for n, one in enumerate(pictures):
        for other in pictures[n + 1 :]:
            assert differs(one, other).mean() > 0.3


@pytest.mark.parametrize("category", CATEGORIES)
def test_pixels_are_the_stored_ones(category: str) -> None:
    """A last bit of sin or exp may differ between processors, and very rarely turn a rounding."""
    golden = np.load(GOLDEN)
    key = Key(0, 64, category, "test", SCENES[category].types[0], 0, "medium")
    pixels = make_picture(key).pixels
    if hashlib.sha256(pixels.tobytes()).hexdigest() == str(golden[f"{category}_sha256"]):
        return
    difference = np.abs(pixels.astype(int) - golden[category].astype(int))
    assert difference.max() <= 1
    assert (difference > 0).sum() <= 10


@pytest.mark.parametrize("category", CATEGORIES)
def test_only_brushed_is_grey(category: str) -> None:
    pixels = make_picture(Key(3, 64, category, "test", "good", 0)).pixels
    assert pixels.dtype == np.uint8
    assert pixels.shape == ((64, 64) if category == "brushed" else (64, 64, 3))


@pytest.mark.parametrize("category", CATEGORIES)
def test_two_sizes_show_the_same_scene(category: str) -> None:
    small, large = (
        make_picture(Key(3, size, category, "train", "good", 0)).pixels.astype(float)
        for size in (96, 192)
    )
    coarse = [
        ndimage.uniform_filter(image.mean(-1) if image.ndim == 3 else image, size // 12)[
            size // 24 :: size // 12, size // 24 :: size // 12
        ]
        for image, size in ((small, 96), (large, 192))
    ]
    assert np.corrcoef(coarse[0].ravel(), coarse[1].ravel())[0, 1] > 0.85


def test_the_mask_of_a_moved_part_is_one_region() -> None:
    for index in range(3):
        key = bad("bolt", "off_centre", "easy", index=index)
        _, regions = ndimage.label(make_picture(key).mask, structure=np.ones((3, 3)))
        assert regions == 1


def test_masks_drop_specks_and_reach_the_border() -> None:
    change = np.zeros((256, 256))
    change[0:6, 10:20] = 7 / 255
    change[100, 100] = 1.0
    change[200:204, 200:204] = 5 / 255
    mask = masks.mask_of_change(change, fill=False)
    assert mask.sum() == 60
    assert mask[0, 10:20].all()


def test_holes_are_filled_only_for_moved_parts() -> None:
    change = np.zeros((256, 256))
    change[50:100, 50:100] = 0.5
    change[65:85, 65:85] = 0.0
    assert not masks.mask_of_change(change, fill=False)[75, 75]
    assert masks.mask_of_change(change, fill=True)[75, 75]


def test_an_invisible_or_huge_defect_is_refused() -> None:
    faint = np.full((256, 256), 0.0)
    faint[10:20, 10:20] = 8 / 255
    assert not masks.is_visible(faint, faint > 0)
    clear = faint * 2
    assert masks.is_visible(clear, clear > 0)
    assert not masks.is_visible(np.ones((256, 256)), np.ones((256, 256), dtype=bool))
    tiny = np.zeros((256, 256))
    tiny[0, :11] = 1.0
    assert not masks.is_visible(tiny, tiny > 0)


def test_a_quarter_of_the_images_has_harmless_marks_below_eight_grey_levels() -> None:
    fields = [
        camera.harmless_marks(Key(0, 64, "weave", "train", "good", n).stream("dust"), 64)
        for n in range(400)
    ]
    assert max(float(np.abs(field).max()) for field in fields) < 8 / 255
    marked = [field for field in fields if field.any()]
    assert 0.18 < len(marked) / len(fields) < 0.32
