"""MVTec AD: 15 categories of textures and objects.

Licence CC BY-NC-SA 4.0. Layout: CATEGORY/{train/good, test/TYPE, ground_truth/TYPE/STEM_mask.png}.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path  # noqa: TC003 - the harness resolves the fields of a data set
from typing import TYPE_CHECKING, ClassVar

from bench.api import Dataset, Sample, Split
from bench.layout import Tree, category_folder, locate, test_samples, train_samples

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# Training, normal test and anomalous test images, in the order of the published table: the five
# textures, then the objects.
COUNTS = {
    "carpet": (280, 28, 89),
    "grid": (264, 21, 57),
    "leather": (245, 32, 92),
    "tile": (230, 33, 84),
    "wood": (247, 19, 60),
    "bottle": (209, 20, 63),
    "cable": (224, 58, 92),
    "capsule": (219, 23, 109),
    "hazelnut": (391, 40, 70),
    "metal_nut": (220, 22, 93),
    "pill": (267, 26, 141),
    "screw": (320, 41, 119),
    "toothbrush": (60, 12, 30),
    "transistor": (213, 60, 40),
    "zipper": (240, 32, 119),
}


@dataclass
class MVTec(Dataset):
    """MVTec AD.

    Attributes:
        root: holds the category folders.
        strict_masks: refuse anomalous images without mask; otherwise they leave the pixel metrics.
        follow_links: a category may be a link to a folder elsewhere; links in it stay inside.
        bits: of image files of 16 bits in this layout, how many the data have.
    """

    root: Path
    strict_masks: bool = True
    follow_links: bool = False
    bits: int = 16

    paper: ClassVar[str] = (
        "Bergmann et al., The MVTec Anomaly Detection Dataset, IJCV 2021 (first at CVPR 2019)"
    )
    licence: ClassVar[str] = "CC BY-NC-SA 4.0, no commercial use"
    source: ClassVar[str] = "https://www.mvtec.com/company/research/datasets/mvtec-ad"

    def categories(self) -> Sequence[str]:
        root = locate(self, list(COUNTS))
        return [name for name in COUNTS if (root / name).is_dir()]

    def samples(self, category: str, split: Split) -> Sequence[Sample]:
        folder = category_folder(self, category, list(COUNTS))
        tree = Tree(strict=self.strict_masks, bits=self.bits)
        bounds = folder if self.follow_links else folder.parent
        return (train_samples if split == "train" else test_samples)(folder, bounds, tree)

    def expected(self) -> Mapping[str, Mapping[str, int]]:
        return {
            name: {"train": train, "good": good, "anomalous": anomalous}
            for name, (train, good, anomalous) in COUNTS.items()
        }
