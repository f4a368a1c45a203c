"""ELPV: photographs of solar cells under current, by type; images only, from a Python package.

2,624 cells of 300 x 300 pixels, cut out of 44 modules and corrected for perspective. Experts gave
each a probability of being defective: 0, 1/3, 2/3 or 1. The authors give no split for one-class
methods: here 60 % of the cells of probability 0 are for training, drawn by the hash of their name.
There are no masks, so pixel metrics are undefined.

Read from the installed package `elpv-dataset`, or from a folder that holds its `labels.csv` and
`images/`. Nothing is copied.
"""

from __future__ import annotations

import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from bench.api import ConfigError, DataError, Dataset, Sample, Split, nearest
from bench.layout import read_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

TYPES = ("mono", "poly")
LABELS = "labels.csv"
TRAIN_SHARE = 0.6
_NAMES = {0: "good", 1: "doubtful", 2: "likely", 3: "defective"}
"""What the cells of each probability, in thirds, are called."""


@dataclass
class ELPV(Dataset):
    """Solar cells, monocrystalline and polycrystalline.

    Attributes:
        root: holds labels.csv and images/; where it does not exist, the installed package does.
        uncertain: cells of probability 1/3 and 2/3 are left "out", or come "in" for testing, as
            normal below a half and as anomalous above.
    """

    root: Path
    uncertain: Literal["out", "in"] = "out"

    paper: ClassVar[str] = (
        "Buerhop-Lukas et al., A benchmark for visual identification of defective solar cells in "
        "electroluminescence imagery, EU PVSEC 2018; Deitsch et al., Automatic classification of "
        "defective photovoltaic module cells in electroluminescence images, Solar Energy 2019"
    )
    licence: ClassVar[str] = "CC BY-NC-SA 4.0: not for commerce"
    source: ClassVar[str] = "pip install 'flawbench[elpv]'"
    caution: ClassVar[str] = (
        "Cells of one module may stand on both sides of the split, since the data set does not say "
        "which module a cell is from; no published one-class split exists to compare with"
    )

    def __post_init__(self) -> None:
        if self.uncertain not in ("out", "in"):
            raise ConfigError(f"elpv: uncertain = {self.uncertain!r}; choose out or in")

    def categories(self) -> Sequence[str]:
        self._folder()
        return list(TYPES)

    def samples(self, category: str, split: Split) -> Sequence[Sample]:
        if category not in TYPES:
            raise DataError(f"elpv: no category {category!r}; {nearest(category, TYPES)}")
        folder = self._folder()
        cells = [cell for cell in _read(folder / LABELS) if cell.type == category]
        missing = [cell.image for cell in cells if not (folder / cell.image).is_file()]
        if missing:
            raise DataError(
                f"{folder / missing[0]}: no such file ({len(missing)} of {len(cells)} images of "
                f"{category} are missing); get the package again: {self.source}"
            )
        normal = [cell for cell in cells if cell.thirds == 0]
        train = sorted(normal, key=_drawn)[: round(TRAIN_SHARE * len(normal))]
        if split == "train":
            chosen = train
        else:
            kept = (0, 3) if self.uncertain == "out" else (0, 1, 2, 3)
            chosen = [c for c in cells if c.thirds in kept and c not in set(train)]
        samples = [Sample(folder / c.image, int(c.thirds > 1), _NAMES[c.thirds]) for c in chosen]
        return sorted(samples, key=lambda sample: sample.image.as_posix())

    def expected(self) -> Mapping[str, Mapping[str, int]]:
        counts = {
            "mono": {"train": 353, "good": 235, "anomalous": 313},
            "poly": {"train": 552, "good": 368, "anomalous": 402},
        }
        if self.uncertain == "in":
            for name, doubtful, likely in (("mono", 117, 56), ("poly", 178, 50)):
                counts[name]["good"] += doubtful
                counts[name]["anomalous"] += likely
        return counts

    def _folder(self) -> Path:
        """The folder of labels.csv.

        Raises:
            DataError: neither the root nor an installed package has it.
        """
        if (self.root / LABELS).is_file():
            return self.root
        if self.root.is_dir() and any(self.root.iterdir()):
            raise DataError(f"{self.root}: holds no {LABELS}; not the folder of elpv")
        spec = importlib.util.find_spec("elpv_dataset")
        places = list(spec.submodule_search_locations or ()) if spec is not None else []
        found = [Path(place) / "data" for place in places]
        if not found or not (found[0] / LABELS).is_file():
            raise DataError(
                f"elpv: neither {self.root} nor an installed package holds it; {self.source} "
                f"(91 MB, licence: {self.licence}), or name a folder by --data-root DIR"
            )
        return found[0]


@dataclass(frozen=True)
class _Cell:
    image: str
    thirds: int  # of the probability that it is defective
    type: str


def _read(file: Path) -> list[_Cell]:
    """Lines such as `images/cell0001.png  1.0  mono`."""
    cells = []
    for number, line in enumerate(read_text(file).splitlines(), 1):
        parts = line.split()
        if not parts:
            continue
        try:
            image, probability, type_ = parts
            cells.append(_Cell(image, round(3 * float(probability)), type_))
        except ValueError as error:
            raise DataError(f"{file}:{number}: {line!r} is not `image probability type`") from error
        if cells[-1].thirds not in _NAMES or type_ not in TYPES:
            raise DataError(f"{file}:{number}: {line!r} has an unknown probability or type")
    return cells


def _drawn(cell: _Cell) -> str:
    """A fixed draw that depends on nothing but the name."""
    return hashlib.sha256(f"elpv split/{cell.image}".encode()).hexdigest()
