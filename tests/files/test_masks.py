"""Ground truth under every protocol, and what is counted when some of it is lost."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from bench.api import Sample
from bench.errors import ConfigError, DataError
from bench.files.masks import MaskSet, load_masks, softness
from bench.files.tensors import check_samples
from bench.settings.protocol import PROTOCOLS, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


def sample(folder: Path, mask: Any, name: str = "x", size: Any = None, **fields: Any) -> Sample:
    """An image with that mask; the image has the mask's size unless given as (height, width)."""
    mask = np.asarray(mask, np.uint8)
    height, width = size or mask.shape
    Image.fromarray(np.zeros((height, width, 3), np.uint8)).save(folder / f"{name}.png")
    Image.fromarray(mask).save(folder / f"{name}_mask.png")
    values: dict[str, Any] = {"label": 1, "defect": "bad", "mask_rule": "auto"} | fields
    return Sample(image=folder / f"{name}.png", mask=folder / f"{name}_mask.png", **values)


def blocks(size: tuple[int, int], *boxes: tuple[int, int, int, int]) -> NDArray[np.uint8]:
    """A mask with the (top, left, bottom, right) boxes set to 255."""
    mask = np.zeros(size, np.uint8)
    for top, left, bottom, right in boxes:
        mask[top:bottom, left:right] = 255
    return mask


def only(found: MaskSet) -> NDArray[np.uint8]:
    (mask,) = found.masks
    assert mask is not None
    return mask


def test_a_mask_at_its_own_size_is_kept(tmp_path: Path) -> None:
    mask = blocks((8, 10), (1, 1, 3, 4), (5, 6, 7, 9))
    found = load_masks([sample(tmp_path, mask)], PROTOCOLS["native"], (256, 256))
    assert np.array_equal(only(found), mask > 0)
    assert only(found).dtype == np.uint8
    assert (found.regions, found.regions_lost, found.unmasked) == (2, 0, ())


def test_regions_are_connected_across_corners(tmp_path: Path) -> None:
    found = load_masks([sample(tmp_path, np.eye(6) * 255)], Protocol("x", resize=(6, 6)), (6, 6))
    assert found.regions == 1


def test_normal_images_get_empty_masks_of_their_size(tmp_path: Path) -> None:
    Image.new("RGB", (10, 8)).save(tmp_path / "good.png")
    good = Sample(tmp_path / "good.png", 0, "good")
    for protocol, size in (
        (Protocol("x"), (256, 256)),
        (Protocol("x", mask_size="native"), (8, 10)),
        (Protocol("x", mask_size=4), (4, 5)),
    ):
        mask = only(load_masks([good], protocol, (256, 256)))
        assert mask.shape == size
        assert not mask.any()


def test_anomalous_images_without_usable_mask_are_counted(tmp_path: Path) -> None:
    known = sample(tmp_path, blocks((8, 8), (1, 1, 3, 3)), "known")
    empty = sample(tmp_path, np.zeros((8, 8)), "empty")
    faint = sample(tmp_path, np.full((8, 8), 100), "faint", mask_rule=">=128")
    none = Sample(known.image, 1, "bad")
    found = load_masks([none, known, empty, faint], Protocol("x", resize=(8, 8)), (8, 8))
    assert found.unmasked == (0, 2, 3)
    assert [mask is None for mask in found.masks] == [True, False, True, True]
    notes = check_samples([known, empty, faint])
    assert any(note.startswith("2 masks are empty") for note in notes)


def test_a_normal_image_with_an_empty_mask_is_normal(tmp_path: Path) -> None:
    good = sample(tmp_path, np.zeros((8, 8)), label=0)
    assert check_samples([good]) == []
    assert not only(load_masks([good], Protocol("x"), (256, 256))).any()


def test_a_normal_image_with_anomalous_pixels_is_refused(tmp_path: Path) -> None:
    good = sample(tmp_path, blocks((8, 8), (1, 1, 3, 3)), label=0)
    message = r"x_mask\.png: anomalous pixels, but .*x\.png is filed as normal"
    with pytest.raises(DataError, match=message):
        load_masks([good], Protocol("x"), (256, 256))
    with pytest.raises(DataError, match=message):
        check_samples([good])


def test_a_mask_of_another_shape_is_refused_with_both_sizes(tmp_path: Path) -> None:
    odd = sample(tmp_path, blocks((8, 8), (1, 1, 3, 3)), size=(16, 20))
    message = r"x_mask\.png: 8 x 8 pixels do not fit the image .*x\.png of 20 x 16"
    with pytest.raises(DataError, match=message):
        load_masks([odd], Protocol("x"), (256, 256))
    with pytest.raises(DataError, match=message):
        check_samples([odd])


def test_a_mask_that_exif_turned_away_from_its_image_is_refused(tmp_path: Path) -> None:
    turned = sample(tmp_path, blocks((8, 12), (1, 1, 3, 3)))
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (12, 8)).save(turned.image, exif=exif)
    with pytest.raises(DataError, match=r"12 x 8 pixels do not fit .* of 8 x 12 \(after its EXIF"):
        check_samples([turned])


def test_a_mask_of_the_same_shape_and_another_size_is_brought_to_the_image(tmp_path: Path) -> None:
    half = sample(tmp_path, blocks((8, 10), (2, 2, 4, 6)), size=(16, 20))
    found = load_masks([half], PROTOCOLS["native"], (256, 256))
    assert np.array_equal(only(found), blocks((16, 20), (4, 4, 8, 12)) > 0)
    assert found.resized == 1
    (note,) = check_samples([half])
    assert note.startswith("1 mask differs in size")


def test_a_truncated_mask_is_refused(tmp_path: Path) -> None:
    broken = sample(tmp_path, np.random.default_rng(0).integers(0, 2, (30, 30)) * 255)
    assert broken.mask is not None
    broken.mask.write_bytes(broken.mask.read_bytes()[:60])
    for check in (
        lambda: check_samples([broken]),
        lambda: load_masks([broken], Protocol("x"), (9, 9)),
    ):
        with pytest.raises(DataError, match=r"x_mask\.png: damaged or truncated"):
            check()


def test_grey_edges_are_counted_and_class_indices_are_not(tmp_path: Path) -> None:
    soft = blocks((8, 8), (2, 2, 4, 4))
    soft[2, 4:6] = 90
    soft[3, 4:6] = 180
    one = sample(tmp_path, soft, "soft", mask_rule=">=128")
    assert only(load_masks([one], Protocol("x", resize=(8, 8)), (8, 8))).sum() == 6
    assert "grey edges (50%" in check_samples([one])[0]
    classes = np.array([[0, 1], [2, 3]], np.uint16)
    assert softness(soft.astype(np.uint16)) == (8, 4)
    assert softness(classes) == (0, 0)


def test_a_mask_that_vanishes_keeps_its_nearest_pixel(tmp_path: Path) -> None:
    tiny = sample(tmp_path, blocks((64, 64), (17, 33, 18, 34)))
    found = load_masks([tiny], Protocol("x", resize=(8, 8)), (8, 8))
    assert np.argwhere(only(found)).tolist() == [[17 // 8, 33 // 8]]
    assert (found.kept, found.regions, found.regions_lost) == (1, 1, 0)


def test_bilinear_masks_may_vanish_as_published_and_are_counted(tmp_path: Path) -> None:
    tiny = sample(tmp_path, blocks((64, 64), (17, 33, 18, 34)))
    protocol = Protocol("x", resize=(8, 8), mask_resample="bilinear")
    found = load_masks([tiny], protocol, (8, 8))
    assert not only(found).any()
    assert (found.kept, found.regions, found.regions_lost) == (0, 0, 1)


def test_enclosed_masks_shrink_by_the_pixels_that_are_partly_normal(tmp_path: Path) -> None:
    square = sample(tmp_path, blocks((64, 64), (16, 16, 32, 32)))
    protocol = Protocol("x", resize=(16, 16), mask_resample="enclosed")
    # Of every four pixels the middle two count: 16 to 31 cover four of them whole.
    assert only(load_masks([square], protocol, (16, 16))).sum() == 16
    odd = sample(tmp_path, blocks((64, 64), (18, 18, 32, 32)), "odd")
    assert only(load_masks([odd], protocol, (16, 16))).sum() == 9
    grown = Protocol("x", resize=(128, 128), mask_resample="enclosed")
    assert only(load_masks([square], grown, (128, 128))).sum() == 30**2
    same = Protocol("x", resize=(64, 64), mask_resample="enclosed")
    assert only(load_masks([square], same, (64, 64))).sum() == 16**2


@pytest.mark.parametrize("size", [(8, 8), (5, 7), (12, 20), (33, 31)])
def test_touched_pixels_are_those_that_interpolation_makes_positive(
    size: tuple[int, int], tmp_path: Path
) -> None:
    mask = blocks((17, 23), (2, 3, 6, 4), (10, 12, 17, 23), (0, 20, 1, 21))
    protocol = Protocol("x", resize=size, mask_resample="touched")
    found = load_masks([sample(tmp_path, mask)], protocol, size)
    smooth = torch.nn.functional.interpolate(
        torch.from_numpy(mask).double()[None, None], size, mode="bilinear", align_corners=False
    )
    assert np.array_equal(only(found), smooth[0, 0].numpy() > 0)


def test_a_small_region_beside_a_large_one_is_counted_as_lost(tmp_path: Path) -> None:
    both = sample(tmp_path, blocks((64, 64), (0, 0, 32, 32), (49, 49, 50, 50)))
    for resample in ("nearest", "bilinear"):
        protocol = Protocol("x", resize=(8, 8), mask_resample=resample)
        found = load_masks([both], protocol, (8, 8))
        assert (found.regions, found.regions_lost, found.kept) == (1, 1, 0)


def test_regions_outside_the_crop_are_lost(tmp_path: Path) -> None:
    both = sample(tmp_path, blocks((40, 40), (0, 0, 3, 3), (20, 20, 24, 24)), "both")
    outside = sample(tmp_path, blocks((40, 40), (0, 0, 3, 3)), "outside")
    protocol = Protocol("x", resize=40, crop=20)
    for mask_size in ("input", "native", 20):
        sized = Protocol("x", resize=40, crop=20, mask_size=mask_size)
        found = load_masks([both, outside], sized, (20, 20))
        assert [m.shape for m in found.masks if m is not None] == [(20, 20)] * 2
        assert (found.regions, found.regions_lost, found.out_of_view) == (1, 2, 1)
        assert found.unmasked == ()
    assert protocol.crop == 20


def test_a_cropped_native_mask_is_the_field_that_the_image_shows(tmp_path: Path) -> None:
    mask = blocks((80, 120), (30, 40, 50, 80))
    protocol = Protocol("x", resize=40, crop=20, mask_size="native")
    found = only(load_masks([sample(tmp_path, mask)], protocol, (20, 20)))
    assert np.array_equal(found, mask[20:60, 40:80] > 0)


def test_a_crop_after_the_methods_own_size_needs_that_size(tmp_path: Path) -> None:
    one = sample(tmp_path, blocks((40, 40), (20, 20, 24, 24)))
    protocol = Protocol("x", resize="method", crop=20)
    assert load_masks([one], protocol, (20, 20), method_size=(40, 40)).regions == 1
    with pytest.raises(ConfigError, match="this method has none"):
        load_masks([one], protocol, (20, 20))


@settings(max_examples=100)
@given(
    seed=st.integers(0, 10_000),
    native=st.tuples(st.integers(3, 40), st.integers(3, 40)),
    size=st.tuples(st.integers(2, 40), st.integers(2, 40)),
    share=st.floats(0.01, 0.3),
)
def test_nearest_resize_equals_picking_pixels_one_by_one(
    seed: int,
    native: tuple[int, int],
    size: tuple[int, int],
    share: float,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    mask = np.random.default_rng(seed).random(native) < share
    if not mask.any():
        return
    one = sample(tmp_path_factory.mktemp("m"), mask * 255)
    found = load_masks([one], Protocol("x", resize=size), size)
    rows = [int(Fraction(2 * i + 1, 2) * native[0] / size[0]) for i in range(size[0])]
    columns = [int(Fraction(2 * i + 1, 2) * native[1] / size[1]) for i in range(size[1])]
    labels, count = ndimage.label(mask, np.ones((3, 3)))
    picked = labels[rows][:, columns]
    survivors = len(set(picked.flat) - {0})
    if survivors:
        assert np.array_equal(only(found), picked > 0)
        assert (found.kept, found.regions_lost) == (0, count - survivors)
    else:
        assert (int(only(found).sum()), found.kept, found.regions_lost) == (1, 1, count - 1)
