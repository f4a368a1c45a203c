"""Magnetic Tile Defects: one product, five defect types, split by physical patch.

The authors give no split. `split.csv` beside this file keeps all images of a patch on one side: a
random split of the images puts a twin of nearly every normal test image into training. It leaves
out 12 images that are filed as free of defects and show one, and the masks of 6 images that are
empty or have less than four pixels. Scores cannot be compared with those of random splits.

No licence is stated; the authors ask to cite their paper. Layout: MT_TYPE/Imgs/NAME.{jpg,png}; the
.png is the mask, grey at the edges.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from bench.api import DataError, Dataset, Sample, Split, nearest
from bench.layout import listing, locate

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

CATEGORY = "tile"
FOLDERS = ("MT_Blowhole", "MT_Break", "MT_Crack", "MT_Fray", "MT_Free", "MT_Uneven")
SPLIT = Path(__file__).with_name("split.csv")


@dataclass
class MTD(Dataset):
    """Magnetic Tile Defects.

    Attributes:
        root: holds MT_Blowhole, MT_Break, MT_Crack, MT_Fray, MT_Free and MT_Uneven.
    """

    root: Path

    paper: ClassVar[str] = (
        "Huang, Qiu, Yuan, Surface defect saliency of magnetic tile, The Visual Computer 2020"
    )
    licence: ClassVar[str] = "none stated; free to use in research, cite the paper"
    source: ClassVar[str] = "https://github.com/abin24/Magnetic-tile-defect-datasets."
    caution: ClassVar[str] = (
        "Scores on mtd do not compare with published ones: this split keeps the images of a "
        "physical patch on one side, and a random split puts a twin of nearly every normal test "
        "image into training"
    )

    def categories(self) -> Sequence[str]:
        locate(self, FOLDERS)
        return [CATEGORY]

    def samples(self, category: str, split: Split) -> Sequence[Sample]:
        if category != CATEGORY:
            raise DataError(f"mtd: no category {category!r}; {nearest(category, [CATEGORY])}")
        root = locate(self, FOLDERS)
        files = _files(root)
        with SPLIT.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        _refuse_missing(root, rows, files)
        samples = [
            Sample(
                image=files[row["image"].lower()],
                label=int(row["label"]),
                defect=row["defect"],
                mask=files[row["mask"].lower()] if row["mask"] else None,
                group=row["group"],
                mask_rule=">=128",
            )
            for row in rows
            if row["split"] == split
        ]
        return sorted(samples, key=lambda sample: sample.image.as_posix())

    def expected(self) -> Mapping[str, Mapping[str, int]]:
        return {CATEGORY: {"train": 694, "good": 246, "anomalous": 392}}


def _files(root: Path) -> dict[str, Path]:
    """Images and masks on disk, by their path as in the split file, in lower case."""
    found: dict[str, Path] = {}
    for name in FOLDERS:
        folder = root / name / "Imgs"
        if folder.is_dir():
            found |= {f"{name}/Imgs/{p.name}".lower(): p for p in listing(folder, root).images}
    return found


def _refuse_missing(
    root: Path, rows: Sequence[Mapping[str, str]], files: Mapping[str, Path]
) -> None:
    wanted = [row[key] for row in rows for key in ("image", "mask") if row[key]]
    missing = [name for name in wanted if name.lower() not in files]
    if missing:
        raise DataError(
            f"{root / missing[0]}: no such file ({len(missing)} of {len(wanted)} files of the "
            f"split are missing); get the whole data set from {MTD.source}"
        )
