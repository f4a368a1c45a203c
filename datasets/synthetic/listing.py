"""Which images a data set has: its settings, and a key for every file."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from .defects import SEVERITIES, Severity
from .picture import SCENES, Key

if TYPE_CHECKING:
    from pathlib import PurePosixPath

GENERATOR_VERSION = 1
"""Bump with every change of a pixel."""
LICENCE = "Apache-2.0"


@dataclass(frozen=True)
class Settings:
    """Everything that determines the files, besides the generator's version."""

    seed: int = 0
    size: int = 256
    train: int = 24
    good: int = 8
    bad: int = 16
    severity: str = "mixed"
    keep_clean: bool = False

    def folder(self) -> str:
        """Name of the folder that holds the categories; other settings, another folder."""
        counts = f"{self.train}-{self.good}-{self.bad}"
        clean = "-clean" if self.keep_clean else ""
        name = f"v{GENERATOR_VERSION}-s{self.seed}-{self.size}-{counts}-{self.severity}"
        return name + clean

    def identity(self, category: str) -> dict[str, Any]:
        """What determines the pixels of a category, and nothing else."""
        values = {k: v for k, v in asdict(self).items() if k != "keep_clean"}
        return {"generator_version": GENERATOR_VERSION, "category": category, **values}

    def parameters(self, category: str) -> dict[str, Any]:
        """Contents of `parameters.json`."""
        return {
            **self.identity(category),
            "keep_clean": self.keep_clean,
            "licence": LICENCE,
            "note": "Synthetic images, made by Flawbench; not photographs.",
        }

    def keys(self, category: str) -> list[Key]:
        """Every image of a category.

        The defect types take turns, and each type goes through hard, medium, easy, so that the
        first images are the same whatever the counts.
        """
        seed, size = self.seed, self.size
        keys = [Key(seed, size, category, "train", "good", n) for n in range(self.train)]
        keys += [Key(seed, size, category, "test", "good", n) for n in range(self.good)]
        types = SCENES[category].types
        for n in range(self.bad):
            number = n // len(types)
            severity = self._severity(number)
            keys.append(Key(seed, size, category, "test", types[n % len(types)], number, severity))
        return keys

    def _severity(self, number: int) -> Severity:
        if self.severity == "mixed":
            return SEVERITIES[number % len(SEVERITIES)]
        return next(s for s in SEVERITIES if s == self.severity)


def image_path(key: Key) -> str:
    """Where an image lies in its category's folder."""
    return f"{key.split}/{key.kind}/{key.index:03d}.png"


def mask_path(image: PurePosixPath) -> str:
    """Where the mask of a defective image lies."""
    return f"ground_truth/{image.parent.name}/{image.stem}_mask.png"


def clean_path(image: PurePosixPath) -> str:
    """Where the twin without the defect lies, if it is kept."""
    return f"clean/{image.parent.name}/{image.stem}.png"
