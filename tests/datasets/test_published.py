"""What is particular to each published data set."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from bench.api import DataError
from bench.plugins.datasets import mtd
from bench.plugins.datasets.btad import BTAD
from bench.plugins.datasets.folder import Folder
from bench.plugins.datasets.mtd import MTD
from bench.plugins.datasets.mvtec import MVTec
from bench.plugins.datasets.visa import VisA

SHARED = Path(__file__).parents[2].parent / "shared" / "data"


@pytest.mark.parametrize(
    ("dataset", "totals"),
    [(MVTec, (3629, 467, 1258)), (BTAD, (1799, 451, 290)), (VisA, (8659, 962, 1200))],
)
def test_published_counts_add_up(dataset: Any, totals: tuple[int, int, int]) -> None:
    rows = dataset(Path()).expected().values()
    assert tuple(sum(row[k] for row in rows) for k in ("train", "good", "anomalous")) == totals


@pytest.mark.parametrize(("name", "inner"), [("mvtec", "bottle"), ("btad", "01")])
def test_a_root_one_level_too_high_or_low_is_found(
    make_tree: Any, name: str, inner: str, caplog: pytest.LogCaptureFixture
) -> None:
    tree = make_tree(name)
    high = tree.layout.make(root=tree.root.parent)
    low = tree.layout.make(root=tree.root / inner)
    assert high.samples(inner, "test") == tree.samples()
    assert low.categories() == [inner]
    assert f"using {tree.root}" in caplog.text


def test_two_copies_of_a_data_set_are_not_chosen_between(make_tree: Any, tmp_path: Path) -> None:
    make_tree("mvtec")
    (tmp_path / "copy" / "bottle").mkdir(parents=True)
    with pytest.raises(DataError, match="copy and mvtec would do"):
        MVTec(tmp_path).categories()


def test_a_folder_of_something_else_names_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "bottles").mkdir()
    with pytest.raises(DataError, match=r"holds none of the folders carpet.*it holds bottles"):
        MVTec(tmp_path).categories()


def test_a_category_that_is_not_on_disk_is_refused(make_tree: Any) -> None:
    tree = make_tree("mvtec")
    with pytest.raises(DataError, match="screw: no such folder"):
        tree.dataset().samples("screw", "train")


def test_categories_follow_the_published_table(make_tree: Any) -> None:
    tree = make_tree("mvtec")
    for name in ("zipper", "carpet", "extra"):
        (tree.root / name).mkdir()
    assert tree.dataset().categories() == ["carpet", "bottle", "zipper"]


def test_btad_normal_images_are_not_taken_for_defects(make_tree: Any) -> None:
    assert Counter(s.label for s in make_tree("btad").samples()) == {0: 2, 1: 2}


def test_btad_accepts_masks_of_another_suffix_per_category(
    make_tree: Any, draw_binary: Any
) -> None:
    tree = make_tree("btad")
    tree.mask("000").unlink()
    mask = draw_binary(tree.folder("masks") / "000.bmp")
    assert mask in [s.mask for s in tree.samples()]


@pytest.fixture
def visa(tmp_path: Path, draw_image: Any, draw_binary: Any) -> Path:
    """VisA in the layout of its archive: two training, one normal and one anomalous test image."""
    data = tmp_path / "capsules" / "Data"
    rows = []
    for split, stem in (("train", "000"), ("train", "001"), ("test", "002")):
        draw_image(data / "Images" / "Normal" / f"{stem}.JPG", shade=int(stem) * 9)
        rows.append(("capsules", split, "normal", f"capsules/Data/Images/Normal/{stem}.JPG", ""))
    # Shares its stem with a normal image, as in the archive.
    draw_image(data / "Images" / "Anomaly" / "000.JPG", shade=50)
    draw_binary(data / "Masks" / "Anomaly" / "000.png", value=3)
    image, mask = "capsules/Data/Images/Anomaly/000.JPG", "capsules/Data/Masks/Anomaly/000.png"
    rows.append(("capsules", "test", "anomaly", image, mask))
    rows.append(("candle", "test", "normal", "candle/Data/Images/Normal/0001.JPG", ""))
    (tmp_path / "split_csv").mkdir()
    with (tmp_path / "split_csv" / "1cls.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("object", "split", "label", "image", "mask"), *rows])
    return tmp_path


def test_visa_archive_follows_its_split_file(visa: Path) -> None:
    dataset = VisA(visa)
    assert dataset.categories() == ["capsules"]
    assert [s.image.stem for s in dataset.samples("capsules", "train")] == ["000", "001"]
    bad, good = dataset.samples("capsules", "test")
    assert (good.label, good.image.parent.name, good.mask) == (0, "Normal", None)
    assert (bad.label, bad.image.parent.name, bad.mask_rule) == (1, "Anomaly", "nonzero")
    assert bad.mask is not None
    assert bad.mask.parent.parent.name == "Masks"


def test_visa_with_a_supervised_split_is_refused(visa: Path) -> None:
    file = visa / "split_csv" / "1cls.csv"
    file.write_text(file.read_text().replace("capsules,test,anomaly", "capsules,train,anomaly"))
    with pytest.raises(DataError, match="not the one-class split"):
        VisA(visa).samples("capsules", "train")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("capsules,test,anomaly", "capsules,test,odd", "label 'odd'"),
        ("object,split", "thing,split", "the columns are not"),
        ("Normal/002.JPG", "Normal/099.JPG", "listed in split_csv/1cls.csv, but not on disk"),
        ("Masks/Anomaly/000.png", "Masks/Anomaly/099.png", "its mask"),
        ("capsules,train", "candle,train", "no training images of capsules"),
    ],
)
def test_visa_names_what_is_wrong_with_its_split_file(
    visa: Path, old: str, new: str, message: str
) -> None:
    file = visa / "split_csv" / "1cls.csv"
    file.write_text(file.read_text().replace(old, new))
    with pytest.raises(DataError, match=message):
        VisA(visa).samples("capsules", "train"), VisA(visa).samples("capsules", "test")


def test_visa_without_its_split_file_says_where_it_belongs(visa: Path) -> None:
    (visa / "split_csv" / "1cls.csv").unlink()
    with pytest.raises(DataError, match=r"1cls\.csv: no such file"):
        VisA(visa).samples("capsules", "train")


def test_visa_binary_split_file_is_refused(visa: Path) -> None:
    (visa / "split_csv" / "1cls.csv").write_bytes(b"\xff\x00\xfe")
    with pytest.raises(DataError, match="not a CSV file in UTF-8"):
        VisA(visa).samples("capsules", "train")


def test_visa_reads_a_prepared_copy_below_1cls(make_tree: Any, tmp_path: Path) -> None:
    tree = make_tree("visa")
    tree.root.rename(tmp_path / "1cls")
    assert len(VisA(tmp_path).samples("candle", "test")) == 4


def test_the_tile_split_has_the_published_sizes_and_shares_no_group() -> None:
    with mtd.SPLIT.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert Counter((r["split"], r["label"]) for r in rows) == {
        ("train", "0"): 694,
        ("test", "0"): 246,
        ("test", "1"): 392,
        ("exclude", "0"): 12,
    }
    assert sum(r["label"] == "1" and not r["mask"] for r in rows) == 6
    groups = {
        split: {r["group"] for r in rows if r["split"] == split} for split in ("train", "test")
    }
    assert not groups["train"] & groups["test"]


@pytest.fixture
def tiles(tmp_path: Path) -> Path:
    """Every file of the tile split, empty: adapters read no pixel."""
    for folder in mtd.FOLDERS:
        (tmp_path / folder / "Imgs").mkdir(parents=True)
    with mtd.SPLIT.open(newline="") as file:
        for row in csv.DictReader(file):
            (tmp_path / row["image"]).touch()
            (tmp_path / row["image"]).with_suffix(".png").touch()
    return tmp_path


def test_tiles_are_one_category_with_groups_and_soft_masks(tiles: Path) -> None:
    dataset = MTD(tiles)
    assert dataset.categories() == ["tile"]
    train, test = dataset.samples("tile", "train"), dataset.samples("tile", "test")
    assert len(train) == 694
    assert Counter(s.label for s in test) == {0: 246, 1: 392}
    assert Counter(s.defect for s in test)["crack"] == 57
    assert sum(s.label == 1 and s.mask is None for s in test) == 6
    assert all(s.group for s in (*train, *test))
    assert {s.mask_rule for s in test} == {">=128"}


def test_a_missing_tile_is_refused_by_name(tiles: Path) -> None:
    next((tiles / "MT_Crack" / "Imgs").glob("*.png")).unlink()
    with pytest.raises(DataError, match=r"MT_Crack/Imgs/exp.*\.png: no such file \(1 of "):
        MTD(tiles).samples("tile", "test")


def test_tiles_with_other_case_of_suffix_are_found(tiles: Path) -> None:
    image = next((tiles / "MT_Crack" / "Imgs").glob("*.jpg"))
    image.rename(image.with_suffix(".JPG"))
    assert len(MTD(tiles).samples("tile", "test")) == 638


def test_an_unknown_tile_category_is_refused(tiles: Path) -> None:
    with pytest.raises(DataError, match="known: tile"):
        MTD(tiles).samples("tiles", "test")


def test_a_folder_root_is_one_category_or_holds_several(make_tree: Any) -> None:
    tree = make_tree("folder")
    assert Folder(tree.root).categories() == ["nuts"]
    assert Folder(tree.root / "nuts").categories() == ["nuts"]
    assert len(Folder(tree.root / "nuts").samples("nuts", "test")) == 4


def test_folder_names_and_mask_suffix_are_options(
    tmp_path: Path, draw_image: Any, draw_binary: Any
) -> None:
    draw_image(tmp_path / "ok" / "1.png")
    draw_image(tmp_path / "ok-later" / "2.png")
    draw_image(tmp_path / "broken" / "3.png")
    mask = draw_binary(tmp_path / "truth" / "broken" / "3-label.png")
    dataset = Folder(
        tmp_path, train="ok", good="ok-later", test="broken", masks="truth", mask_suffix="-label"
    )
    (category,) = dataset.categories()
    bad, good = dataset.samples(category, "test")
    assert (bad.label, bad.defect, bad.mask) == (1, "broken", mask)
    assert (good.label, good.image.name) == (0, "2.png")


def test_a_folder_without_masks_has_samples_without_masks(make_tree: Any) -> None:
    tree = make_tree("folder")
    for path in tree.folder("masks").iterdir():
        path.unlink()
    tree.folder("masks").rmdir()
    tree.folder("masks").parent.rmdir()
    assert [s.mask for s in tree.samples()] == [None] * 4


def test_a_folder_without_training_images_says_what_it_looked_for(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    with pytest.raises(DataError, match=r"holds train/good/ with normal training images"):
        Folder(tmp_path).categories()


@pytest.mark.realdata
@pytest.mark.skipif(not (SHARED / "magnetic-tile").is_dir(), reason="no real tiles here")
def test_the_real_tiles_fit_the_split() -> None:
    dataset = MTD(SHARED / "magnetic-tile")
    test = dataset.samples("tile", "test")
    assert len(dataset.samples("tile", "train")) == 694
    assert Counter(s.label for s in test) == {0: 246, 1: 392}
    assert all(s.image.is_file() and (s.mask is None or s.mask.is_file()) for s in test)


@pytest.mark.realdata
@pytest.mark.skipif(not (SHARED / "hazelnut-toy").is_dir(), reason="no real hazelnuts here")
def test_the_real_hazelnuts_are_read_with_the_defaults() -> None:
    dataset = Folder(SHARED / "hazelnut-toy")
    assert dataset.categories() == ["hazelnut-toy"]
    assert len(dataset.samples("hazelnut-toy", "train")) == 28
    test = dataset.samples("hazelnut-toy", "test")
    assert Counter(s.defect for s in test) == {"good": 6, "colour": 17}
    assert all((s.mask is not None) == (s.label == 1) for s in test)
