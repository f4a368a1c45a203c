"""Generated textures and objects with exact defect masks: runs without any download."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from bench.api import ConfigError, Dataset, Sample, nearest

from .cache import read_category
from .defects import SEVERITIES
from .listing import Settings, mask_path
from .picture import SCENES
from .progress import shown
from .writer import workers_for, write_categories

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bench.api import Split

    from .writer import Entry

SMALLEST, LARGEST, STEP = 64, 1024, 32


@dataclass
class Synthetic(Dataset):
    """Six generated categories: three textures and three objects, with exact masks.

    Attributes:
        seed: another seed, other images.
        size: side in pixels; the same seed shows the same scenes at every size.
        train, good, bad: images per category.
        severity: of the defects: "hard", "medium", "easy", or "mixed" for all three in turn.
        categories_only: comma-separated names; empty: all.
        keep_clean: also write the twin without the defect, below `clean/`.
    """

    version = 1
    licence = "Apache-2.0 (the images are made by this project)"
    source = "generated on first use"
    generated = True
    every_category = tuple(SCENES)

    root: Path
    seed: int = 0
    size: int = 256
    train: int = 24
    good: int = 8
    bad: int = 16
    severity: str = "mixed"
    categories_only: str = ""
    keep_clean: bool = False

    def __post_init__(self) -> None:
        self.root = Path(self.root)
        self._checked: dict[str, list[Entry]] = {}
        if self.size % STEP or not SMALLEST <= self.size <= LARGEST:
            raise ConfigError(
                f"synthetic.size is {self.size}; a multiple of {STEP} from {SMALLEST} to {LARGEST}"
            )
        for name in ("train", "good", "bad"):
            if getattr(self, name) < 1:
                raise ConfigError(
                    f"synthetic.{name} is {getattr(self, name)}; at least 1 is needed"
                )
        if self.seed < 0:
            raise ConfigError(f"synthetic.seed is {self.seed}; 0 or more is needed")
        levels = ("mixed", *SEVERITIES)
        if self.severity not in levels:
            raise ConfigError(
                f"synthetic.severity: {self.severity!r}; {nearest(self.severity, levels)}"
            )
        self.categories()

    @property
    def settings(self) -> Settings:
        """What determines the files."""
        return Settings(
            seed=self.seed,
            size=self.size,
            train=self.train,
            good=self.good,
            bad=self.bad,
            severity=self.severity,
            keep_clean=self.keep_clean,
        )

    @property
    def folder(self) -> Path:
        """The folder that holds the categories."""
        return self.root / self.settings.folder()

    def categories(self) -> Sequence[str]:
        """The selected categories; textures first."""
        wanted = [name.strip() for name in self.categories_only.split(",") if name.strip()]
        for name in wanted:
            self._known(name)
        return [name for name in SCENES if name in wanted or not wanted]

    def prepare(self, categories: Sequence[str] = ()) -> None:
        """Make what is not there yet, and check what is; of all categories if none is named.

        Raises:
            DataError: a category that was made earlier is damaged; the message names the file.
        """
        self._ensure(categories or self.categories())

    def samples(self, category: str, split: Split) -> Sequence[Sample]:
        """The images of one category and split, made if needed.

        Raises:
            ConfigError: an unknown category.
            DataError: as for `prepare`.
        """
        self._known(category)
        self._ensure([category])
        folder = self.folder / category
        return [
            Sample(
                image=folder / entry.path,
                label=entry.label,
                defect=entry.type,
                mask=folder / mask_path(PurePosixPath(entry.path)) if entry.label else None,
            )
            for entry in self._checked[category]
            if entry.split == split
        ]

    def fingerprint(self, category: str) -> str:
        """16 hex digits over the generator's version and what determines the pixels."""
        self._known(category)
        text = json.dumps(self.settings.identity(category), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def expected(self) -> Mapping[str, Mapping[str, int]]:
        """The counts that were asked for."""
        counts = {"train": self.train, "good": self.good, "anomalous": self.bad}
        return dict.fromkeys(self.categories(), counts)

    def _known(self, category: str) -> None:
        if category not in SCENES:
            raise ConfigError(
                f"synthetic has no category {category!r}; {nearest(category, SCENES)}"
            )

    def _ensure(self, categories: Sequence[str]) -> None:
        settings = self.settings
        missing = [name for name in categories if not (self.folder / name).exists()]
        if missing:
            totals = Counter({name: len(settings.keys(name)) for name in missing})
            with shown(totals, settings.size) as on_image:
                workers = workers_for(totals.total())
                write_categories(self.folder, settings, missing, workers, on_image)
        for name in categories:
            if name not in self._checked:
                self._checked[name] = read_category(self.folder / name, settings, name)
