"""MVTec LOCO AD: five categories, of which test images break a rule or have a damage.

Licence CC BY-NC-SA 4.0. Layout: CATEGORY/{train/good, validation/good, test/TYPE,
ground_truth/TYPE/STEM/000.png, 001.png, ...} and CATEGORY/defects_config.json, where TYPE is
logical_anomalies or structural_anomalies. A mask file holds one defect, whose kind its value tells.
"""

from __future__ import annotations

import json
import unicodedata
from dataclasses import dataclass
from pathlib import Path  # noqa: TC003 - the harness resolves the fields of a data set
from typing import TYPE_CHECKING, ClassVar

from bench.api import DataError, Dataset, Sample, Split
from bench.layout import (
    Tree,
    category_folder,
    image_files,
    listing,
    locate,
    read_text,
    test_samples,
    train_samples,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# Training, normal test, logical and structural test images.
COUNTS = {
    "breakfast_box": (351, 102, 83, 90),
    "juice_bottle": (335, 94, 142, 94),
    "pushpins": (372, 138, 91, 81),
    "screw_bag": (360, 122, 137, 82),
    "splicing_connectors": (360, 119, 108, 85),
}
CONFIG = "defects_config.json"


@dataclass
class MVTecLOCO(Dataset):
    """MVTec LOCO AD.

    Attributes:
        root: holds the category folders.
        validation: train on the normal images of validation/ too; otherwise they are not read.
        strict_masks: refuse anomalous images without masks; otherwise they leave the pixel metrics.
    """

    root: Path
    validation: bool = False
    strict_masks: bool = True

    paper: ClassVar[str] = (
        "Bergmann et al., Beyond Dents and Scratches: Logical Constraints in Unsupervised Anomaly "
        "Detection and Localization, IJCV 2022"
    )
    licence: ClassVar[str] = "CC BY-NC-SA 4.0, no commercial use"
    source: ClassVar[str] = "https://www.mvtec.com/company/research/datasets/mvtec-loco"
    caution: ClassVar[str] = (
        "The published scores of MVTec LOCO AD are sPRO, of logical and structural images apart; "
        "those of rows are of all test images together, and AUPRO is not sPRO"
    )

    def categories(self) -> Sequence[str]:
        root = locate(self, list(COUNTS))
        return [name for name in COUNTS if (root / name).is_dir()]

    def samples(self, category: str, split: Split) -> Sequence[Sample]:
        folder = category_folder(self, category, list(COUNTS))
        if split == "train":
            found = train_samples(folder, folder.parent, Tree(rule="nonzero"))
            if self.validation:
                further = Tree(train="validation/good", rule="nonzero")
                found += train_samples(folder, folder.parent, further)
            return found
        images = test_samples(folder, folder.parent, Tree(masks=None, rule="nonzero"))
        masks = self._masks(folder, images)
        return [
            Sample(s.image, s.label, s.defect, masks.get(s.image), mask_rule="nonzero")
            for s in images
        ]

    def expected(self) -> Mapping[str, Mapping[str, int]]:
        return {
            name: {"train": train, "good": good, "anomalous": logical + structural}
            for name, (train, good, logical, structural) in COUNTS.items()
        }

    def saturation(self, category: str) -> Mapping[int, tuple[float, bool]]:
        """How much of each kind of defect is enough to have found it, by the category's file.

        Returns:
            value of a mask's pixels -> (threshold, relative), as `saturation_area` takes them: a
            number of pixels, or a share of the defect's area.

        Raises:
            DataError: no such file, or one that does not say it.
        """
        file = category_folder(self, category, list(COUNTS)) / CONFIG
        try:
            entries = json.loads(read_text(file))
            return {
                int(entry["pixel_value"]): (
                    float(entry["saturation_threshold"]),
                    bool(entry["relative_saturation"]),
                )
                for entry in entries
            }
        except OSError as error:
            raise DataError(f"{file}: cannot be read: {error.strerror}") from error
        except (ValueError, TypeError, KeyError) as error:
            raise DataError(
                f"{file}: not a list of defects with pixel_value, saturation_threshold and "
                f"relative_saturation ({type(error).__name__}: {error}); unpack the archive again"
            ) from error

    def _masks(self, folder: Path, images: Sequence[Sample]) -> dict[Path, Path]:
        """The folder of masks of each anomalous image, by the image."""
        truth = folder / "ground_truth"
        surplus = {
            (below.name, _name(one.name)): one
            for below in (listing(truth, folder.parent).folders if truth.is_dir() else ())
            for one in listing(below, folder.parent).folders
        }
        found: dict[Path, Path] = {}
        for sample in images:
            one = surplus.pop((sample.defect, _name(sample.image.stem)), None)
            if one is not None and image_files(one, folder.parent):
                found[sample.image] = one
        missing = [s.image for s in images if s.label and s.image not in found]
        if self.strict_masks and missing:
            raise DataError(
                f"{missing[0]}: no mask in ground_truth/{missing[0].parent.name}/"
                f"{missing[0].stem}/ ({len(missing)} in all); add the masks, or "
                "set strict_masks = false to leave such images out of the pixel metrics"
            )
        if self.strict_masks and surplus:
            raise DataError(
                f"{next(iter(surplus.values()))}: masks without an image; restore it, or set "
                "strict_masks = false to ignore them"
            )
        return found


def _name(stem: str) -> str:
    return unicodedata.normalize("NFC", stem)
