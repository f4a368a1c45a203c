"""Folders of auxiliary pictures: what is in them, and its digest. No torch."""

from __future__ import annotations

import hashlib
import unicodedata
from typing import TYPE_CHECKING

from bench.errors import DataError, counted
from bench.files.folders import IMAGE_SUFFIXES
from bench.files.manifest import Digests

if TYPE_CHECKING:
    from pathlib import Path

FEWEST = 10
"""Pictures below which a folder is taken for a wrong one."""


def list_pictures(folder: Path, what: str) -> list[Path]:
    """Every picture of a folder and those in it, sorted; hidden files are passed over.

    Args:
        what: names the folder in messages, as "draem.textures".

    Raises:
        DataError: no such folder, one that cannot be read, or fewer than `FEWEST` pictures.
    """
    if not folder.is_dir():
        raise DataError(f"{what}: {folder} is not a folder of pictures")
    try:
        found = sorted(_pictures(folder))
    except OSError as error:
        raise DataError(f"{what}: {folder} cannot be read: {error.strerror}") from error
    if len(found) < FEWEST:
        raise DataError(
            f"{what}: {folder} holds {counted(len(found), 'picture')}; at least {FEWEST} are needed"
        )
    return found


def pictures_digest(folder: Path, what: str, cache: Path | None) -> str:
    """First 12 hex digits of SHA-256 over names and contents, wherever the folder lies.

    Args:
        cache: folder that remembers the hashes of unchanged files.

    Raises:
        DataError: as `list_pictures`; or a file that cannot be read.
    """
    digest = hashlib.sha256()
    with Digests(cache) as digests:
        for picture in list_pictures(folder, what):
            name = unicodedata.normalize("NFC", picture.relative_to(folder).as_posix())
            digest.update(f"{name}\t{digests.of(picture)}\n".encode())
    return digest.hexdigest()[:12]


def _pictures(folder: Path) -> list[Path]:
    found = []
    for path in folder.iterdir():
        if path.name.startswith("."):
            continue
        if path.is_dir():
            found += _pictures(path)
        elif path.suffix.lower() in IMAGE_SUFFIXES:
            found.append(path)
    return found
