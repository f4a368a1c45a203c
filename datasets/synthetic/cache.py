"""Reads a generated category back, and refuses one that is not what was written."""

from __future__ import annotations

import csv
import json
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from bench.api import DataError

from .listing import image_path, mask_path
from .writer import MANIFEST, PARAMETERS, Entry, pixel_hash

if TYPE_CHECKING:
    from .listing import Settings

SAMPLE = 8
"""Images of a category whose pixels are compared with the manifest when it is reused."""


def read_category(folder: Path, settings: Settings, category: str) -> list[Entry]:
    """The manifest of a category, checked.

    Checks the parameters, that every file is there, and the pixels of a sample.

    Raises:
        DataError: naming the first file that is missing, unreadable or different.
    """
    _check_parameters(folder, settings, category)
    entries = _read_manifest(folder)
    expected = sorted(image_path(key) for key in settings.keys(category))
    if [entry.path for entry in entries] != expected:
        raise _damaged(folder / MANIFEST, "does not list the images of these settings")
    for entry in entries:
        for file in _files(folder, entry):
            if not file.is_file():
                raise _damaged(file, "is missing")
    chosen = {round(n) for n in np.linspace(0, len(entries) - 1, SAMPLE)}
    for number in sorted(chosen):
        _check_pixels(folder, entries[number])
    return entries


def _files(folder: Path, entry: Entry) -> list[Path]:
    names = [entry.path]
    if entry.label:
        names.append(mask_path(PurePosixPath(entry.path)))
    return [folder / name for name in names]


def _check_parameters(folder: Path, settings: Settings, category: str) -> None:
    file = folder / PARAMETERS
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _damaged(file, f"cannot be read ({error})") from error
    if found != settings.parameters(category):
        raise _damaged(file, "was written with other settings")


def _read_manifest(folder: Path) -> list[Entry]:
    file = folder / MANIFEST
    try:
        with file.open(newline="", encoding="utf-8") as lines:
            rows = list(csv.DictReader(lines))
        return [
            Entry(
                path=row["path"],
                split=row["split"],
                label=int(row["label"]),
                type=row["type"],
                severity=row["severity"],
                mask_area=int(row["mask_area"]),
                pixel_sha256=row["pixel_sha256"],
            )
            for row in rows
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(file, f"cannot be read ({error})") from error


def _check_pixels(folder: Path, entry: Entry) -> None:
    image, *masks = _files(folder, entry)
    if pixel_hash(_decode(image)) != entry.pixel_sha256:
        raise _damaged(image, "has other pixels than were written")
    for mask in masks:
        if int((_decode(mask) == 255).sum()) != entry.mask_area:
            raise _damaged(mask, "has another area than was written")


def _decode(file: Path) -> np.ndarray:
    try:
        with Image.open(file) as image:
            return np.asarray(image)
    except (OSError, SyntaxError) as error:
        raise _damaged(file, f"cannot be read ({error})") from error


def _damaged(file: Path, what: str) -> DataError:
    folder = next((p for p in file.parents if (p / MANIFEST).exists()), file.parent)
    return DataError(f"{file} {what}: the generated data is damaged; delete {folder} and run again")
