"""`verify` lists every finding of a data set, and stops at none."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from bench.errors import DataError
from bench.files.verify import Report, verify
from bench.plugins.datasets.btad import BTAD
from bench.plugins.datasets.folder import Folder
from bench.plugins.datasets.mtd import MTD
from bench.plugins.datasets.mvtec import MVTec

if TYPE_CHECKING:
    from collections.abc import Mapping

SHARED = Path(__file__).parents[2].parent / "shared" / "data"


class Small(Folder):  # type: ignore[misc] # plugins are found at run time
    """A folder whose counts were published."""

    def expected(self) -> Mapping[str, Mapping[str, int]]:
        return {"nuts": {"train": 6, "good": 2, "anomalous": 2}}


def write(path: Path, shade: int, size: tuple[int, int] = (10, 8)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = (np.arange(size[0] * size[1]).reshape(size[1], size[0]) + shade) % 251
    Image.fromarray(pixels.astype(np.uint8)).save(path)
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data set with nothing to complain about."""
    root = tmp_path / "nuts"
    for shade in range(6):
        write(root / f"train/good/{shade}.png", shade)
    for shade in range(2):
        write(root / f"test/good/{shade}.png", shade + 20)
        write(root / f"test/ink/{shade}.png", shade + 40)
        mask = np.zeros((8, 10), np.uint8)
        mask[2:4, 3:6] = 255
        (root / "ground_truth/ink").mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(root / f"ground_truth/ink/{shade}.png")
    return root


def texts(report: Report, severity: str) -> list[str]:
    return [finding.text for finding in report.findings if finding.severity == severity]


def test_a_tidy_data_set_is_fine(root: Path) -> None:
    report = verify(Small(root), "small")
    assert report.ok
    assert report.findings == []
    assert report.lines == [
        f"small in {root}",
        "  nuts: 6 train, 2 good and 2 anomalous test images, 0 of these without a mask; 10 x 8",
        "0 errors, 0 warnings",
    ]


def test_counts_are_compared_with_the_published_ones(root: Path) -> None:
    (root / "train/good/3.png").unlink()
    report = verify(Small(root), "small")
    assert not report.ok
    assert texts(report, "error") == ["nuts: 5 train images, published 6"]


def test_missing_categories_are_listed(root: Path) -> None:
    (root / "train/good").rename(root / "train/ok")
    shutil.move(root / "train/ok", root / "01/train/ok")
    shutil.move(root / "test/good", root / "01/test/ok")
    shutil.move(root / "test/ink", root / "01/test/ko")
    shutil.move(root / "ground_truth/ink", root / "01/ground_truth/ko")
    errors = texts(verify(BTAD(root), "btad"), "error")
    assert errors[:2] == ["02: not on disk", "03: not on disk"]
    assert "01: 6 train images, published 400" in errors


def test_missing_data_are_one_finding(tmp_path: Path) -> None:
    report = verify(BTAD(tmp_path / "nothing"), "btad")
    assert not report.ok
    (error,) = texts(report, "error")
    assert "--data-root DIR" in error


def test_every_broken_file_is_listed(root: Path) -> None:
    (root / "train/good/3.png").write_bytes(b"")
    (root / "test/ink/1.png").write_bytes((root / "test/ink/1.png").read_bytes()[:-30])
    (root / "ground_truth/ink/0.png").write_bytes(b"no picture")
    errors = texts(verify(Small(root), "small"), "error")
    assert len(errors) == 3
    assert "3.png: the file is empty" in errors[0]
    assert "1.png: damaged" in errors[1]
    assert "0.png: not an image" in errors[2]


def test_a_missing_mask_does_not_hide_the_other_split(root: Path) -> None:
    (root / "ground_truth/ink/0.png").unlink()
    report = verify(Small(root), "small")
    (error,) = texts(report, "error")
    assert "no mask called" in error
    report = verify(Small(root, strict_masks=False), "small")
    assert report.ok
    assert report.counts["nuts"]["unmasked"] == 1


def test_leaks_and_lone_labels_are_found(root: Path) -> None:
    shutil.copy(root / "train/good/3.png", root / "test/good/0.png")
    (error,) = texts(verify(Small(root), "small"), "error")
    assert error.startswith("nuts: 1 test image in the training images too, first ")
    assert error.endswith(f"{root / 'test/good/0.png'} = {root / 'train/good/3.png'}")
    shutil.rmtree(root / "test/good")
    warnings = texts(verify(Folder(root), "folder"), "warning")
    assert warnings == ["nuts: no good test image, so no image metric"]


def test_few_images_odd_files_and_litter_are_warnings(root: Path) -> None:
    for index in (3, 4):
        (root / f"train/good/{index}.png").unlink()
    write(root / "old/9.png", 9)
    write(root / "train/good/2.png", 2, size=(12, 9))
    (root / "train/Thumbs.db").touch()
    (root / "notes.txt").touch()
    report = verify(Folder(root), "folder")
    assert report.ok
    assert texts(report, "warning") == [
        "nuts: only 4 training images",
        f"1 image is not part of any split, first {root / 'old/9.png'}",
        "1 hidden or system file is ignored",
    ]
    assert report.shapes == {"nuts": "10 x 8 and 1 other size"}


@pytest.mark.realdata
@pytest.mark.skipif(not (SHARED / "magnetic-tile").is_dir(), reason="no real tiles here")
def test_the_real_tiles_pass() -> None:
    report = verify(MTD(SHARED / "magnetic-tile"), "mtd")
    assert report.ok
    assert report.counts == {"tile": {"train": 694, "good": 246, "anomalous": 392, "unmasked": 6}}
    warnings = texts(report, "warning")
    assert len(warnings) == 2
    assert "386 masks have grey edges" in warnings[0]
    assert "24 images are not part of any split" in warnings[1]  # 12 excluded ones with masks


def test_masks_that_cover_most_of_their_image_are_a_warning(root: Path) -> None:
    for file in (root / "ground_truth/ink").iterdir():
        with Image.open(file) as mask:
            inverted = Image.fromarray(255 - np.asarray(mask))
        inverted.save(file)
    report = verify(Small(root), "small")
    assert report.ok
    (warning,) = texts(report, "warning")
    assert "2 masks cover more than half of their image: are they inverted? 0 is good" in warning


def test_one_large_defect_among_small_ones_is_no_warning(root: Path) -> None:
    write(root / "test/ink/2.png", 60)
    masks = root / "ground_truth/ink"
    shutil.copy(masks / "1.png", masks / "2.png")
    Image.new("L", (10, 8), 255).save(masks / "0.png")
    assert texts(verify(Folder(root), "folder"), "warning") == []


@pytest.mark.parametrize("has_masks", [True, False])
def test_a_capital_letter_does_not_make_good_images_a_defect(root: Path, has_masks: bool) -> None:
    (root / "test/good").rename(root / "test/Good")
    if not has_masks:
        shutil.rmtree(root / "ground_truth")
    (error,) = texts(verify(Folder(root), "folder"), "error")
    assert error == (
        f"nuts: {root / 'test/Good'}: normal images are expected in good/; rename the folder, or "
        "it would count as a defect type"
    )


def test_what_is_lacking_is_named_by_its_metrics(root: Path) -> None:
    shutil.rmtree(root / "test/ink")
    shutil.rmtree(root / "ground_truth")
    (warning,) = texts(verify(Folder(root), "folder"), "warning")
    assert warning == "nuts: no anomalous test image, so no image metric and no pixel metric"


def test_images_of_formats_that_are_not_read_are_listed(root: Path) -> None:
    for name in ("a.gif", "b.GIF", "c.jp2", "d.heic"):
        (root / "train/good" / name).touch()
    (warning,) = texts(verify(Folder(root), "folder"), "warning")
    assert warning.startswith(
        "images of formats that are not read: 2 .gif, 1 .heic, 1 .jp2; known: .bmp, .jpeg, .jpg"
    )


def test_a_category_of_one_s_own_beside_published_ones_is_a_warning(root: Path) -> None:
    shutil.copytree(root, root.parent / "my_part")
    root.rename(root.parent / "bottle")
    found = texts(verify(MVTec(root.parent), "mvtec"), "warning")
    own = root.parent / "my_part"
    assert (
        f"{own} is no category of mvtec; own images are run as data set folder, and checked by: "
        f"bench data verify folder --data-root {shlex.quote(str(own))}" in found
    )


@pytest.mark.parametrize(("factor", "warned"), [(16, True), (257, False)])
def test_images_of_fewer_bits_than_their_file_are_a_warning(
    tmp_path: Path, factor: int, warned: bool
) -> None:
    root = tmp_path / "nuts"
    for index, folder in enumerate(["train/good"] * 5 + ["test/good"]):
        (root / folder).mkdir(parents=True, exist_ok=True)
        pixels = np.arange(256, dtype=np.uint16).reshape(16, 16)
        pixels[0, 0] = 200 + index
        Image.fromarray(pixels * factor).save(root / folder / f"{index}.tif")
    found = [t for t in texts(verify(Folder(root), "folder"), "warning") if "reach" in t]
    assert bool(found) == warned
    if warned:
        assert (
            "16-bit images reach 4080 of 65535: methods see at most 16 of 256 grey levels"
            in found[0]
        )
        assert found[0].endswith("--set folder.bits=12")
        assert not [t for t in texts(verify(Folder(root, bits=12), "f"), "warning") if "reach" in t]
        low = texts(verify(Folder(root, bits=11), "folder"), "error")
        assert any(
            "4080 has more than 11 bits" in text and "bits of the data set to 12" in text
            for text in low
        )


def test_a_category_elsewhere_is_followed_where_asked_for(root: Path, tmp_path: Path) -> None:
    (tmp_path / "mvtec").mkdir()
    (tmp_path / "mvtec/bottle").symlink_to(root)
    with pytest.raises(DataError, match=r"--set mvtec\.follow_links=true"):
        MVTec(tmp_path / "mvtec").samples("bottle", "train")
    followed = MVTec(tmp_path / "mvtec", follow_links=True)
    assert len(followed.samples("bottle", "train")) == 6
    assert len(followed.samples("bottle", "test")) == 4
