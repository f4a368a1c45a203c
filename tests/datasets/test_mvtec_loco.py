"""MVTec LOCO AD: a folder of masks for each image, one defect a file; saturation, and sPRO."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from bench.api import DataError
from bench.evaluate.spro import au_spro
from bench.files.audit import audit
from bench.files.manifest import fingerprint
from bench.files.masks import load_masks
from bench.files.verify import verify
from bench.plugins.datasets.folder import Folder
from bench.plugins.datasets.mvtec_loco import MVTecLOCO
from bench.run.defects import read_defects
from bench.settings.protocol import Protocol

if TYPE_CHECKING:
    from pathlib import Path

SIZE = (10, 12)
CATEGORY = "screw_bag"
KINDS = [
    ("extra screw", 255, 6.0, False),
    ("scratch", 254, 0.5, True),
]
CONFIG = [
    {
        "defect_name": name,
        "pixel_value": value,
        "saturation_threshold": threshold,
        "relative_saturation": relative,
    }
    for name, value, threshold, relative in KINDS
]


def draw_defect(path: Path, left: int, width: int, value: int) -> None:
    """A mask of four rows from column `left`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros(SIZE, np.uint8)
    pixels[2:6, left : left + width] = value
    Image.fromarray(pixels).save(path)


@pytest.fixture
def root(tmp_path: Path, draw_image: Any) -> Path:
    """One category: the logical image has two defects that overlap, the structural one has one."""
    root = tmp_path / "loco"
    base = root / CATEGORY
    shade = 0
    for part, count in (
        ("train/good", 3),
        ("validation/good", 2),
        ("test/good", 2),
        ("test/logical_anomalies", 1),
        ("test/structural_anomalies", 1),
    ):
        for index in range(count):
            draw_image(base / part / f"{index:03}.png", shade := shade + 7)
    truth = base / "ground_truth"
    draw_defect(truth / "logical_anomalies" / "000" / "000.png", 1, 4, 255)
    draw_defect(truth / "logical_anomalies" / "000" / "001.png", 4, 2, 254)
    draw_defect(truth / "structural_anomalies" / "000" / "000.png", 8, 3, 254)
    (base / "defects_config.json").write_text(json.dumps(CONFIG), encoding="utf-8")
    return root


def test_labels_and_types_come_from_the_folders(root: Path) -> None:
    test = MVTecLOCO(root).samples(CATEGORY, "test")
    assert [(s.label, s.defect, s.image.stem) for s in test] == [
        (0, "good", "000"),
        (0, "good", "001"),
        (1, "logical_anomalies", "000"),
        (1, "structural_anomalies", "000"),
    ]
    assert MVTecLOCO(root).categories() == [CATEGORY]


def test_validation_images_are_read_where_asked_for(root: Path) -> None:
    assert len(MVTecLOCO(root).samples(CATEGORY, "train")) == 3
    train = MVTecLOCO(root, validation=True).samples(CATEGORY, "train")
    assert [s.image.parent.parent.name for s in train] == ["train"] * 3 + ["validation"] * 2


def test_the_masks_of_an_image_are_united(root: Path) -> None:
    test = MVTecLOCO(root).samples(CATEGORY, "test")
    found = load_masks(test, Protocol("x", resize=SIZE), SIZE)
    assert [int(m.sum()) for m in found.masks if m is not None] == [0, 0, 4 * 5, 4 * 3]
    assert found.regions == 2
    assert audit(test).findings == [], "values tell kinds of defects, not grey edges"


def test_masks_of_two_sizes_are_refused(root: Path) -> None:
    file = root / CATEGORY / "ground_truth" / "logical_anomalies" / "000" / "002.png"
    Image.fromarray(np.full((5, 6), 255, np.uint8)).save(file)
    test = MVTecLOCO(root).samples(CATEGORY, "test")
    with pytest.raises(DataError, match=r"002\.png: another size than .*000\.png"):
        load_masks(test, Protocol("x", resize=SIZE), SIZE)


def test_an_image_without_masks_and_masks_without_an_image_are_named(root: Path) -> None:
    truth = root / CATEGORY / "ground_truth" / "structural_anomalies"
    (truth / "000").rename(truth / "007")
    with pytest.raises(DataError, match=r"no mask in ground_truth/structural_anomalies/000/ \(1 "):
        MVTecLOCO(root).samples(CATEGORY, "test")
    test = MVTecLOCO(root, strict_masks=False).samples(CATEGORY, "test")
    assert [s.mask is None for s in test] == [True, True, False, True]
    draw_defect(truth / "000" / "000.png", 8, 3, 254)
    with pytest.raises(DataError, match=r"structural_anomalies/007: masks without an image"):
        MVTecLOCO(root).samples(CATEGORY, "test")


def test_masks_of_a_type_that_was_not_tested_are_named(root: Path) -> None:
    draw_defect(root / CATEGORY / "ground_truth" / "other" / "000" / "000.png", 8, 3, 254)
    with pytest.raises(DataError, match=r"other/000: masks without an image"):
        MVTecLOCO(root).samples(CATEGORY, "test")


def test_the_fingerprint_changes_with_each_mask_file(root: Path) -> None:
    before = fingerprint(MVTecLOCO(root), CATEGORY, None)
    assert fingerprint(MVTecLOCO(root), CATEGORY, None) == before
    file = root / CATEGORY / "ground_truth" / "logical_anomalies" / "000" / "001.png"
    draw_defect(file, 4, 3, 254)
    changed = fingerprint(MVTecLOCO(root), CATEGORY, None)
    file.rename(file.with_name("009.png"))
    assert len({before, changed, fingerprint(MVTecLOCO(root), CATEGORY, None)}) == 3


def test_verify_counts_what_was_published_and_knows_every_mask(root: Path) -> None:
    report = verify(MVTecLOCO(root), "mvtec_loco")
    texts = [f.text for f in report.findings]
    assert f"{CATEGORY}: 3 train images, published 360" in texts
    assert f"{CATEGORY}: 2 anomalous images, published 219" in texts
    unused = [text for text in texts if "not part of any split" in text]
    assert len(unused) == 1
    assert unused[0].startswith("2 images are")
    assert "validation" in unused[0]


def test_published_counts_sum_to_those_of_the_archive(root: Path) -> None:
    counts = MVTecLOCO(root).expected().values()
    assert sum(c["train"] for c in counts) == 1778
    assert sum(c["good"] for c in counts) == 575
    assert sum(c["anomalous"] for c in counts) == 561 + 432


def test_saturation_is_that_of_the_categorys_file(root: Path) -> None:
    saturation = MVTecLOCO(root).saturation(CATEGORY)
    assert saturation == {value: (share, relative) for _, value, share, relative in KINDS}
    masks = [s.mask for s in MVTecLOCO(root).samples(CATEGORY, "test") if s.mask is not None]
    found = [
        [(int(d.mask.sum()), d.saturation) for d in read_defects(m, saturation)] for m in masks
    ]
    assert found == [[(16, 6), (8, 4)], [(12, 6)]]


def test_spro_counts_a_defect_once_its_saturation_area_is_covered(root: Path) -> None:
    dataset = MVTecLOCO(root)
    saturation = dataset.saturation(CATEGORY)
    test = [s for s in dataset.samples(CATEGORY, "test") if s.defect != "structural_anomalies"]
    defects = [read_defects(s.mask, saturation) if s.mask is not None else [] for s in test]
    maps = np.zeros((len(test), *SIZE))
    maps[-1, 2:5, 1:3] = 1.0  # six pixels of the first defect are enough, of the second none
    values = au_spro(maps, defects, (0.05,))
    assert values is not None
    # The first defect is found before any normal pixel; the rest are ties with all normal pixels.
    assert values[0.05] == pytest.approx((1 + 0.5 * 0.05) / 2)


@pytest.mark.parametrize(
    ("text", "reason"),
    [("{", "JSONDecodeError"), ("[{}]", "pixel_value"), ("3", "TypeError"), (None, "No such file")],
)
def test_a_file_of_saturations_that_does_not_say_them_is_named(
    root: Path, text: str | None, reason: str
) -> None:
    file = root / CATEGORY / "defects_config.json"
    file.unlink()
    if text is not None:
        file.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=rf"defects_config\.json.*{reason}"):
        MVTecLOCO(root).saturation(CATEGORY)


@pytest.mark.parametrize(("value", "named"), [(200, "values 200 above 0"), (0, "values none")])
def test_a_mask_of_another_value_has_no_saturation(root: Path, value: int, named: str) -> None:
    folder = root / CATEGORY / "ground_truth" / "structural_anomalies" / "000"
    draw_defect(folder / "000.png", 8, 3, value)
    with pytest.raises(DataError, match=rf"{named}.* of 254, 255"):
        read_defects(folder, MVTecLOCO(root).saturation(CATEGORY))


def test_the_folder_data_set_names_this_one_where_it_meets_its_layout(root: Path) -> None:
    with pytest.raises(DataError, match=r"000: a folder of masks for one image.*mvtec_loco"):
        Folder(root).samples(CATEGORY, "test")
