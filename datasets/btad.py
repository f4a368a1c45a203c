"""BTAD (beanTech): three industrial products.

Licence CC BY-SA 4.0 by the authors' README. Layout: 01|02|03/{train/ok, test/ok, test/ko,
ground_truth/ko/STEM}; images and masks are .bmp or .png, not always alike. The authors' README
swaps the numbers of products 2 and 3; the counts here are those of the archive.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path  # noqa: TC003 - the harness resolves the fields of a data set
from typing import TYPE_CHECKING, ClassVar

from bench.api import Dataset, Sample, Split
from bench.layout import Tree, category_folder, locate, test_samples, train_samples

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# Training, normal test and anomalous test images.
COUNTS = {"01": (400, 21, 49), "02": (399, 30, 200), "03": (1000, 400, 41)}


@dataclass
class BTAD(Dataset):
    """BTAD.

    Attributes:
        root: holds the folders 01, 02 and 03 (BTech_Dataset_transformed in the archive).
        strict_masks: refuse anomalous images without mask; otherwise they leave the pixel metrics.
    """

    root: Path
    strict_masks: bool = True

    paper: ClassVar[str] = (
        "Mishra et al., VT-ADL: A Vision Transformer Network for Image Anomaly Detection and "
        "Localization, ISIE 2021"
    )
    licence: ClassVar[str] = "CC BY-SA 4.0"
    source: ClassVar[str] = "https://avires.dimi.uniud.it/papers/btad/btad.zip"

    def categories(self) -> Sequence[str]:
        root = locate(self, list(COUNTS))
        return [name for name in COUNTS if (root / name).is_dir()]

    def samples(self, category: str, split: Split) -> Sequence[Sample]:
        folder = category_folder(self, category, list(COUNTS))
        tree = Tree(train="train/ok", good="test/ok", strict=self.strict_masks)
        return (train_samples if split == "train" else test_samples)(folder, folder.parent, tree)

    def expected(self) -> Mapping[str, Mapping[str, int]]:
        return {
            name: {"train": train, "good": good, "anomalous": anomalous}
            for name, (train, good, anomalous) in COUNTS.items()
        }
