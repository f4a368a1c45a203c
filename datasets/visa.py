"""VisA: 12 categories, one-class protocol of the authors' split_csv/1cls.csv.

Licence CC BY 4.0 by the authors' LICENSE-DATASET. Reads the archive's own layout
(CATEGORY/Data/Images/{Normal,Anomaly}, CATEGORY/Data/Masks/Anomaly, split_csv/1cls.csv) and copies
prepared in the layout of MVTec AD (CATEGORY/{train/good, test/good, test/bad, ground_truth/bad}),
with or without a folder 1cls/ above.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, ClassVar

from bench.api import DataError, Dataset, Sample, Split
from bench.layout import (
    Tree,
    category_folder,
    image_files,
    locate,
    read_text,
    test_samples,
    train_samples,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# Training, normal test and anomalous test images.
COUNTS = {
    "candle": (900, 100, 100),
    "capsules": (542, 60, 100),
    "cashew": (450, 50, 100),
    "chewinggum": (453, 50, 100),
    "fryum": (450, 50, 100),
    "macaroni1": (900, 100, 100),
    "macaroni2": (900, 100, 100),
    "pcb1": (904, 100, 100),
    "pcb2": (901, 100, 100),
    "pcb3": (905, 101, 100),
    "pcb4": (904, 101, 100),
    "pipe_fryum": (450, 50, 100),
}
SPLIT = "split_csv/1cls.csv"
COLUMNS = {"object", "split", "label", "image", "mask"}


@dataclass
class VisA(Dataset):
    """VisA.

    Attributes:
        root: holds the category folders, and split_csv in the archive's own layout.
        strict_masks: refuse anomalous images without mask; otherwise they leave the pixel metrics.
    """

    root: Path
    strict_masks: bool = True

    paper: ClassVar[str] = (
        "Zou et al., SPot-the-Difference Self-Supervised Pre-training for Anomaly Detection and "
        "Segmentation, ECCV 2022"
    )
    licence: ClassVar[str] = "CC BY 4.0"
    source: ClassVar[str] = "https://github.com/amazon-science/spot-diff"

    def categories(self) -> Sequence[str]:
        root = locate(self, list(COUNTS))
        return [name for name in COUNTS if (root / name).is_dir()]

    def samples(self, category: str, split: Split) -> Sequence[Sample]:
        folder = category_folder(self, category, list(COUNTS))
        if not (folder / "Data").is_dir():
            # Masks of the archive hold class indices, prepared copies 0 and 255.
            tree = Tree(rule="nonzero", strict=self.strict_masks)
            return (train_samples if split == "train" else test_samples)(
                folder, folder.parent, tree
            )
        samples = [
            self._sample(folder.parent, row, files)
            for files in [_files(folder)]
            for row in _rows(folder.parent, category)
            if row["split"] == split
        ]
        if split == "train" and not samples:
            raise DataError(f"{folder.parent / SPLIT}: no training images of {category}")
        return sorted(samples, key=lambda sample: sample.image.as_posix())

    def expected(self) -> Mapping[str, Mapping[str, int]]:
        return {
            name: {"train": train, "good": good, "anomalous": anomalous}
            for name, (train, good, anomalous) in COUNTS.items()
        }

    def _sample(self, root: Path, row: Mapping[str, str], files: Mapping[str, Path]) -> Sample:
        image = files.get(_key(row["image"]))
        if image is None:
            raise DataError(
                f"{root / row['image']}: listed in {SPLIT}, but not on disk; unpack the archive "
                f"again, or get it from {self.source}"
            )
        if row["label"] == "normal":
            return Sample(image, 0, "good", mask_rule="nonzero")
        if row["split"] == "train":
            raise DataError(
                f"{root / SPLIT}: {row['image']} is an anomalous training image; this is not the "
                "one-class split, take 1cls.csv of the archive"
            )
        mask = files.get(_key(row["mask"])) if row["mask"] else None
        if mask is None and self.strict_masks:
            raise DataError(
                f"{image}: its mask {row['mask'] or '(none listed)'} is not on disk; add it, or "
                "set strict_masks = false to leave such images out of the pixel metrics"
            )
        return Sample(image, 1, "bad", mask, mask_rule="nonzero")


def _rows(root: Path, category: str) -> list[dict[str, str]]:
    """The rows of the one-class split of a category, checked."""
    file = root / SPLIT
    if not file.is_file():
        raise DataError(
            f"{file}: no such file; it comes with the archive and says which images are for "
            "training (1cls.csv, not the 2cls files)"
        )
    try:
        reader = csv.DictReader(io.StringIO(read_text(file), newline=""))
        if not COLUMNS.issubset(reader.fieldnames or ()):
            raise DataError(f"{file}: the columns are not {', '.join(sorted(COLUMNS))}")
        rows = [{k: row[k] or "" for k in COLUMNS} for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{file}: not a CSV file in UTF-8: {error}") from error
    return [_checked(file, row) for row in rows if row["object"] == category]


def _checked(file: Path, row: dict[str, str]) -> dict[str, str]:
    if row["split"] not in ("train", "test") or row["label"] not in ("normal", "anomaly"):
        raise DataError(
            f"{file}: {row['image']}: split {row['split']!r}, label {row['label']!r}; expected "
            "train or test, normal or anomaly"
        )
    return row


def _files(folder: Path) -> dict[str, Path]:
    """Images and masks of a category, by their path in the split file without case."""
    parts = ("Data/Images/Normal", "Data/Images/Anomaly", "Data/Masks/Anomaly")
    return {
        _key(path.relative_to(folder.parent).as_posix()): path
        for part in parts
        if (folder / part).is_dir()
        for path in image_files(folder / part, folder.parent)
    }


def _key(path: str) -> str:
    """A path of the split file without case and suffix, as copies were re-encoded."""
    return PurePosixPath(path).with_suffix("").as_posix().casefold()
