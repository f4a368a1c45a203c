"""What every adapter does with tidy and untidy trees."""

from __future__ import annotations

import os
import unicodedata
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from bench.api import DataError

if TYPE_CHECKING:
    from pathlib import Path


def test_labels_defects_and_masks_come_from_folders_and_names(tree: Any) -> None:
    train, test = tree.samples("train"), tree.samples("test")
    assert [(s.label, s.defect, s.mask) for s in train] == [(0, "good", None)] * 3
    good = [s for s in test if s.label == 0]
    bad = [s for s in test if s.label == 1]
    assert [s.image for s in good] == [tree.image("good", "000"), tree.image("good", "001")]
    assert [s.mask for s in good] == [None, None]
    assert [s.mask for s in bad] == [tree.mask("000"), tree.mask("001")]
    assert {s.defect for s in bad} == {tree.folder("bad").name}
    assert tree.dataset().categories() == [tree.layout.category]


def test_samples_are_sorted_whatever_the_order_on_disk(tree: Any, draw_image: Any) -> None:
    draw_image(tree.image("train", "0"))
    draw_image(tree.image("train", "00-a"))
    images = [s.image for s in tree.samples("train")]
    assert images == sorted(images, key=lambda path: os.fsencode(path.as_posix()))
    assert len(images) == 5


@pytest.mark.parametrize(
    "name", [".DS_Store", "._000.png", "Thumbs.db", "desktop.ini", "readme.txt", ".hidden.png"]
)
@pytest.mark.parametrize("part", ["train", "bad", "masks"])
def test_system_and_text_files_are_no_images(tree: Any, part: str, name: str) -> None:
    before = tree.samples("train"), tree.samples("test")
    (tree.folder(part) / name).write_bytes(b"no picture")
    assert (tree.samples("train"), tree.samples("test")) == before


def test_checkpoint_folders_are_no_defect_type(tree: Any) -> None:
    before = tree.samples()
    (tree.folder("bad").parent / ".ipynb_checkpoints").mkdir()
    (tree.folder("bad") / ".ipynb_checkpoints").mkdir()
    assert tree.samples() == before


@pytest.mark.parametrize("suffix", [".PNG", ".Jpeg", ".TIF", ".bmp", ".webp", ".ppm"])
def test_suffixes_are_read_without_case(tree: Any, draw_image: Any, suffix: str) -> None:
    image = draw_image(tree.folder("train") / f"other{suffix}")
    assert image in [s.image for s in tree.samples("train")]


def test_a_missing_mask_is_refused_by_name(tree: Any) -> None:
    tree.mask("001").unlink()
    with pytest.raises(DataError, match=r"001.*no mask called .*001_mask.*1 of 2"):
        tree.samples()


def test_without_strict_masks_the_image_stays_and_has_no_mask(tree: Any) -> None:
    tree.mask("001").unlink()
    bad = [s for s in tree.samples(strict_masks=False) if s.label == 1]
    assert [s.mask for s in bad] == [tree.mask("000"), None]


def test_missing_masks_altogether_name_the_folder(tree: Any) -> None:
    for stem in ("000", "001"):
        tree.mask(stem).unlink()
    with pytest.raises(DataError, match="no masks for the images of"):
        tree.samples()


def test_a_surplus_mask_is_refused_unless_masks_are_not_strict(tree: Any, draw_binary: Any) -> None:
    before = tree.samples()
    draw_binary(tree.mask("009"))
    with pytest.raises(DataError, match=r"009.*without image"):
        tree.samples()
    assert tree.samples(strict_masks=False) == before


def test_a_shifted_mask_names_both_files(tree: Any) -> None:
    tree.mask("001").rename(tree.mask("002"))
    with pytest.raises(DataError, match=r"001.*no mask.*002.*has no image"):
        tree.samples()


def test_two_masks_for_one_image_are_refused(tree: Any, draw_binary: Any) -> None:
    draw_binary(tree.folder("masks") / "000.png")
    draw_binary(tree.folder("masks") / "000_mask.png")
    with pytest.raises(DataError, match="two masks fit"):
        tree.samples()


def test_masks_of_an_unknown_defect_type_are_refused(tree: Any, draw_binary: Any) -> None:
    draw_binary(tree.folder("masks").parent / "scratch" / "000_mask.png")
    with pytest.raises(DataError, match=r"scratch: masks of a defect type"):
        tree.samples()


def test_masks_of_normal_images_are_handed_on_to_be_checked(tree: Any, draw_binary: Any) -> None:
    mask = draw_binary(tree.folder("masks").parent / tree.folder("good").name / "000.png", value=0)
    good = [s for s in tree.samples() if s.label == 0]
    assert [s.mask for s in good] == [mask, None]


def test_two_images_of_one_stem_are_refused(tree: Any, draw_image: Any) -> None:
    draw_image(tree.folder("bad") / "000.tiff")
    with pytest.raises(DataError, match="same name as"):
        tree.samples()


def test_one_stem_in_two_folders_is_two_images(tree: Any) -> None:
    stems = [s.image.stem for s in tree.samples()]
    assert stems.count("000") == 2


def test_a_folder_below_a_defect_type_is_refused(tree: Any, draw_image: Any) -> None:
    draw_image(tree.folder("bad") / "deep" / "000.png")
    with pytest.raises(DataError, match=r"deep: a folder below"):
        tree.samples()


def test_an_image_beside_the_defect_types_is_refused(tree: Any, draw_image: Any) -> None:
    draw_image(tree.folder("bad").parent / "000.png")
    with pytest.raises(DataError, match="an image directly in test/"):
        tree.samples()


def test_an_empty_training_folder_is_refused(tree: Any) -> None:
    for path in tree.folder("train").iterdir():
        path.unlink()
    with pytest.raises(DataError, match="no training images, at least 1 expected"):
        tree.samples("train")


def test_a_missing_training_folder_is_refused(tree: Any) -> None:
    tree.folder("train").rename(tree.folder("train").with_name("gone"))
    with pytest.raises(DataError, match=r"cannot be read: No such file|neither"):
        tree.samples("train")


def test_a_test_folder_without_images_is_refused(tree: Any) -> None:
    for part in ("good", "bad", "masks"):
        for path in tree.folder(part).iterdir():
            path.unlink()
    with pytest.raises(DataError, match="no test images"):
        tree.samples()


@pytest.mark.parametrize("part", ["good", "bad"])
def test_a_test_set_of_one_label_is_listed(tree: Any, part: str) -> None:
    for folder in ("bad", "masks") if part == "bad" else ("good",):
        for path in tree.folder(folder).iterdir():
            path.unlink()
    assert len({s.label for s in tree.samples()}) == 1


def test_a_link_out_of_the_root_is_refused(tree: Any, tmp_path: Path, draw_image: Any) -> None:
    outside = draw_image(tmp_path / "elsewhere" / "secret.png")
    (tree.folder("train") / "link.png").symlink_to(outside)
    with pytest.raises(DataError, match=r"link\.png: a link that leaves"):
        tree.samples("train")


def test_a_linked_folder_out_of_the_root_is_refused(
    tree: Any, tmp_path: Path, draw_image: Any
) -> None:
    draw_image(tmp_path / "elsewhere" / "secret.png")
    (tree.folder("bad").parent / "linked").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="a link that leaves"):
        tree.samples()


def test_a_training_folder_that_is_a_link_out_of_the_root_is_refused(
    tree: Any, tmp_path: Path
) -> None:
    tree.folder("train").rename(tmp_path / "elsewhere")
    tree.folder("train").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="a link that leaves"):
        tree.samples("train")


def test_a_link_inside_the_root_is_followed(tree: Any) -> None:
    link = tree.folder("train") / ("link" + tree.image("train", "000").suffix)
    link.symlink_to(tree.image("train", "000"))
    assert link in [s.image for s in tree.samples("train")]


def test_a_dangling_link_is_refused(tree: Any) -> None:
    (tree.folder("train") / "gone.png").symlink_to(tree.root / "nowhere.png")
    with pytest.raises(DataError, match=r"gone\.png: a link that leads nowhere"):
        tree.samples("train")


def test_a_link_to_itself_is_refused(tree: Any) -> None:
    (tree.folder("train") / "loop.png").symlink_to(tree.folder("train") / "loop.png")
    with pytest.raises(DataError, match=r"loop\.png: a link that leads nowhere"):
        tree.samples("train")


@pytest.mark.parametrize("levels", [0, 1, 2])
def test_a_link_back_to_a_folder_above_is_refused(tree: Any, levels: int) -> None:
    folder = tree.folder("bad").parent
    target = [folder, *folder.parents][levels]
    (folder / "loop").symlink_to(target)
    with pytest.raises(DataError, match=r"loop: a link (back|that leaves)"):
        tree.samples()


def test_two_links_to_one_folder_are_refused(tree: Any) -> None:
    (tree.folder("bad").parent / "twin").symlink_to(tree.folder("bad"))
    with pytest.raises(DataError, match="the same folder as"):
        tree.samples()


def test_a_root_that_is_a_link_is_followed(tree: Any, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(tree.root)
    found = tree.layout.make(root=link).samples(tree.layout.category, "train")
    assert len(found) == 3


@pytest.mark.parametrize("stem", ["Müller Nuß 1", "图像 (3)", "a.b.c", "x" * 200, "🔩", "%s {0}"])
def test_names_of_any_script_and_length_pair(
    tree: Any, draw_image: Any, draw_binary: Any, stem: str
) -> None:
    image = draw_image(tree.image("bad", stem))
    mask = draw_binary(tree.mask(stem))
    assert (image, mask) in [(s.image, s.mask) for s in tree.samples()]


def test_composed_and_decomposed_accents_pair(tree: Any, draw_image: Any, draw_binary: Any) -> None:
    image = draw_image(tree.image("bad", unicodedata.normalize("NFD", "é1")))
    mask = draw_binary(tree.mask(unicodedata.normalize("NFC", "é1")))
    assert (image, mask) in [(s.image, s.mask) for s in tree.samples()]


def test_a_name_that_is_not_utf8_is_refused_with_its_bytes(tree: Any) -> None:
    path = os.fsencode(tree.folder("train")) + b"/\xff\xfe.png"
    with open(path, "wb") as file:  # noqa: PTH123 - a path of bytes
        file.write(b"")
    with pytest.raises(DataError, match=r"\\xff\\xfe"):
        tree.samples("train")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_folder_without_permission_is_refused(tree: Any) -> None:
    tree.folder("train").chmod(0)
    try:
        with pytest.raises(DataError, match="cannot be read"):
            tree.samples("train")
    finally:
        tree.folder("train").chmod(0o755)


def test_an_unknown_category_names_the_nearest(tree: Any) -> None:
    wrong = tree.layout.category + "x"
    with pytest.raises(DataError, match=rf"did you mean '{tree.layout.category}'"):
        tree.dataset().samples(wrong, "train")


def test_missing_data_name_the_ways_to_set_their_folder(tree: Any, tmp_path: Path) -> None:
    dataset = tree.layout.make(root=tmp_path / "nothing")
    with pytest.raises(DataError, match=r"--data-root DIR.*bench\.toml.*BENCH_DATA") as caught:
        dataset.categories()
    assert dataset.source in str(caught.value)
    assert dataset.licence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_nothing_is_written_below_the_root(tree: Any) -> None:
    def state() -> list[tuple[str, int]]:
        return [(str(p), p.stat().st_mtime_ns) for p in sorted(tree.root.rglob("*"))]

    before = state()
    tree.samples("train"), tree.samples("test")
    assert state() == before


def test_content_of_files_is_not_read(tree: Any) -> None:
    before = tree.samples()
    for sample in before:
        sample.image.write_bytes(b"")
    assert tree.samples() == before
    with pytest.raises(OSError):
        Image.open(before[0].image)
