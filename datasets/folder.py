"""Your own images: a folder of good ones, test folders, and masks if there are any.

Defaults read the layout of MVTec AD: train/good, test/good, test/TYPE, ground_truth/TYPE. The root
is one category, or holds one folder for each.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path  # noqa: TC003 - the harness resolves the fields of a data set
from typing import TYPE_CHECKING, ClassVar, Literal

from bench.api import ConfigError, DataError, Dataset, Sample, Split, nearest
from bench.layout import MASK_SUFFIXES, Tree, absent, listing, test_samples, train_samples

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass
class Folder(Dataset):
    """Images in folders of any name.

    Attributes:
        root: one category, or one folder for each category.
        train: folder of normal training images, below the category.
        good: folder of normal test images.
        test: holds one folder for each defect type; or anomalous images directly, where `good`
            lies elsewhere.
        masks: holds the masks, in folders called like those of the defect types; where there is no
            such folder, pixels are not scored.
        mask_suffix: what a mask's name adds to its image's; empty: "_mask" or nothing.
        mask_rule: which values of a mask are anomalous; "auto": by the values of each file.
        strict_masks: refuse anomalous images without mask and masks without image.
        bits: of image files of 16 bits, how many the data have: 12 from a 12-bit camera.
    """

    root: Path
    train: str = "train/good"
    good: str = "test/good"
    test: str = "test"
    masks: str = "ground_truth"
    mask_suffix: str = ""
    mask_rule: Literal["auto", "nonzero", ">=128"] = "auto"
    strict_masks: bool = True
    bits: int = 16

    licence: ClassVar[str] = "yours"

    def __post_init__(self) -> None:
        if self.mask_rule not in ("auto", "nonzero", ">=128"):
            raise ConfigError(
                f"folder: mask_rule = {self.mask_rule!r}; choose one of auto, nonzero, >=128"
            )

    def categories(self) -> Sequence[str]:
        return list(self._folders())

    def samples(self, category: str, split: Split) -> Sequence[Sample]:
        folders = self._folders()
        if category not in folders:
            raise DataError(f"{self.root}: no category {category!r}; {nearest(category, folders)}")
        base = folders[category]
        has_masks = bool(self.masks) and (base / self.masks).is_dir()
        tree = Tree(
            train=self.train,
            good=self.good,
            test=self.test,
            masks=self.masks if has_masks else None,
            suffixes=(self.mask_suffix,) if self.mask_suffix else MASK_SUFFIXES,
            rule=self.mask_rule,
            strict=self.strict_masks,
            bits=self.bits,
        )
        return (train_samples if split == "train" else test_samples)(base, self.root, tree)

    def _folders(self) -> dict[str, Path]:
        """Folder of each category, by name."""
        root = self.root.expanduser()
        if not root.is_dir():
            raise absent(self)
        if (root / self.train).is_dir():
            return {root.resolve().name or "images": root}
        below = listing(root, root).folders
        found = {folder.name: folder for folder in below if (folder / self.train).is_dir()}
        if not found:
            raise DataError(
                f"folder: neither {root} nor a folder in it holds {self.train}/ with normal "
                "training images; name the root by --data-root, or that folder by "
                "--set folder.train=..."
            )
        return found
