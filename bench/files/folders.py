"""What lies in a folder of images: litter passed over, links and names that mislead refused."""

from __future__ import annotations

import os
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.api import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

IMAGE_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".pgm", ".ppm"}
)
UNREAD_SUFFIXES = frozenset(
    {".gif", ".jp2", ".j2k", ".jpf", ".jxl", ".heic", ".heif", ".avif", ".dng", ".cr2", ".nef"}
    | {".arw", ".raw", ".pbm", ".pnm", ".pfm", ".tga", ".dcm", ".exr", ".hdr", ".psd", ".svg"}
)
"""Of images that no data set here reads."""

_LITTER = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx"})


@dataclass(frozen=True)
class Listing:
    """What lies in one folder, each list sorted by the bytes of the name; litter left out."""

    folders: list[Path]
    images: list[Path]
    others: list[Path]


def is_litter(name: str) -> bool:
    """Whether the operating system or an editor left this file: hidden, AppleDouble, Thumbs.db."""
    return name.startswith(".") or name.casefold() in _LITTER


def listing(folder: Path, root: Path) -> Listing:
    """The entries of a folder inside `root`; links are followed as long as they stay inside.

    Raises:
        DataError: the folder cannot be read, lies outside `root`, or holds a dangling link, a link
            that leaves `root` or leads back to a parent, or a name that is not UTF-8.
    """
    try:
        real, real_root = folder.resolve(strict=True), root.resolve(strict=True)
        names = sorted((path.name for path in folder.iterdir()), key=os.fsencode)
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links, before Python 3.13
        raise DataError(f"{folder}: cannot be read: {_reason(error)}") from error
    _inside(folder, real, real_root)
    found = Listing([], [], [])
    for name in names:
        if is_litter(name):
            continue
        _utf8(folder, name)
        path = folder / name
        if path.is_symlink():
            _follow(path, real, real_root)
        if path.is_dir():
            found.folders.append(path)
        elif path.suffix.lower() in IMAGE_SUFFIXES:
            found.images.append(path)
        else:
            found.others.append(path)
    _refuse_repeats(found.folders)
    return found


def image_files(folder: Path, root: Path) -> list[Path]:
    """The images of one folder, sorted.

    Raises:
        DataError: as `listing`; or a folder below, or two images with one stem.
    """
    found = listing(folder, root)
    if found.folders:
        raise DataError(
            f"{found.folders[0]}: a folder below {folder.name}/, where only images are expected; "
            "move its images up, or out of the data set"
        )
    by_stem(found.images)
    return found.images


def mask_files(mask: Path) -> list[Path]:
    """The files of a sample's mask: itself, or those of the folder of its defects, sorted.

    Raises:
        DataError: as `image_files`; or the folder holds no image.
    """
    if not mask.is_dir():
        return [mask]
    files = image_files(mask, mask)
    if not files:
        raise DataError(f"{mask}: a folder of masks without a mask; restore them, or remove it")
    return files


def stem(path: Path) -> str:
    return unicodedata.normalize("NFC", path.stem)


def by_stem(paths: Sequence[Path]) -> dict[str, Path]:
    """Paths by NFC-normalised stem."""
    stems: dict[str, Path] = {}
    for path in paths:
        other = stems.setdefault(stem(path), path)
        if other is not path:
            raise DataError(f"{path}: same name as {other.name} beside it; remove one of the two")
    return stems


def _utf8(folder: Path, name: str) -> None:
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f"{folder}: the name {os.fsencode(name)!r} is not UTF-8; rename it"
        ) from error


def _inside(path: Path, real: Path, real_root: Path) -> None:
    if not real.is_relative_to(real_root):
        raise DataError(
            f"{path}: a link that leaves {real_root}, to {real}; copy the files, or name the "
            "folder that holds them as the root; mvtec follows a category's link by "
            "--set mvtec.follow_links=true"
        )


def _follow(path: Path, folder: Path, real_root: Path) -> None:
    """Refuse a link that dangles, leaves the root, or leads back to a folder above it."""
    try:
        real = path.resolve(strict=True)
    except (OSError, RuntimeError) as error:
        raise DataError(f"{path}: a link that leads nowhere: {_reason(error)}") from error
    _inside(path, real, real_root)
    if folder.is_relative_to(real):
        raise DataError(f"{path}: a link back to {real}, which holds it; remove the link")


def _refuse_repeats(folders: Sequence[Path]) -> None:
    seen: dict[Path, Path] = {}
    for folder in folders:
        other = seen.setdefault(folder.resolve(), folder)
        if other is not folder:
            raise DataError(f"{folder}: the same folder as {other}; remove one of the links")


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
