"""Which files a category is made of: hashes of their content, and parts in both splits."""

from __future__ import annotations

import hashlib
import json
import os
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING

from bench.disk import replace_file
from bench.errors import DataError, StoreError
from bench.files.folders import mask_files

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from bench.api import Dataset, Sample, Split

SPLITS: tuple[Split, ...] = ("train", "test")


class Digests:
    """SHA-256 of files, remembered in a JSON file by (path, size, modification time).

    A context manager: what was learnt is written on leaving it, by renaming a finished file.
    """

    def __init__(self, folder: Path | None) -> None:
        self.file = folder / "manifest.json" if folder is not None else None
        self.known: dict[str, list[object]] = _read(self.file)
        self.is_changed = False

    def __enter__(self) -> Digests:
        return self

    def __exit__(self, *error: object) -> None:
        if self.is_changed and self.file is not None:
            # Another process may have written since: keep what it learnt.
            _write(self.file, _read(self.file) | self.known)

    def of(self, path: Path) -> str:
        """64 hex digits of the file's content.

        Raises:
            DataError: the file cannot be read.
        """
        try:
            stat = path.stat()
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror}") from error
        key, stamp = (
            os.fsencode(path.absolute()).decode("latin-1"),
            [stat.st_size, stat.st_mtime_ns],
        )
        entry = self.known.get(key)
        if isinstance(entry, list) and len(entry) == 3 and entry[:2] == stamp:
            return str(entry[2])
        digest = file_digest(path)
        self.known[key] = [*stamp, digest]
        self.is_changed = True
        return digest


def file_digest(path: Path) -> str:
    """SHA-256 of a file's content, 64 hex digits.

    Raises:
        DataError: the file cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    return digest.hexdigest()


def fingerprint(
    dataset: Dataset, category: str, cache: Path | None, splits: Sequence[Split] = SPLITS
) -> str:
    """Identity of a category's files: 16 hex digits, the same wherever the data set lies.

    A generated data set names its own. Else SHA-256 over what the samples say and the content of
    their files; paths are relative to the folder that holds all of them.

    Args:
        cache: folder that remembers the hashes of unchanged files; None: remember nothing.
        splits: those that count; a model that is only trained has no test images.

    Raises:
        DataError: as `Dataset.samples`; or a file that cannot be read.
    """
    own = dataset.fingerprint(category)
    if own is not None:
        return own
    samples = {split: dataset.samples(category, split) for split in splits}
    folder = _common_folder([s for found in samples.values() for s in found])
    with Digests(cache) as digests:
        lines = sorted(
            "\t".join(
                (
                    split,
                    _relative(sample.image, folder),
                    str(sample.label),
                    sample.defect,
                    _relative(sample.mask, folder),
                    sample.mask_rule,
                    digests.of(sample.image),
                    _mask_digest(sample.mask, digests),
                    *(() if sample.mask_index is None else (str(sample.mask_index),)),
                    *(() if sample.bits == 16 else (f"bits {sample.bits}",)),
                )
            )
            for split, found in samples.items()
            for sample in found
        )
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def find_shared_groups(train: Sequence[Sample], test: Sequence[Sample]) -> list[str]:
    """Groups (physical parts) that lie on both sides of the split, sorted."""
    groups = {s.group for s in train} & {s.group for s in test}
    return sorted(group for group in groups if group is not None)


def _mask_digest(mask: Path | None, digests: Digests) -> str:
    """That of the file; of a folder, of the names and contents of its files."""
    if mask is None:
        return ""
    if not mask.is_dir():
        return digests.of(mask)
    lines = (f"{_relative(file, mask)}\t{digests.of(file)}" for file in mask_files(mask))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _common_folder(samples: Iterable[Sample]) -> Path:
    files = [path for s in samples for path in (s.image, s.mask) if path is not None]
    return Path(os.path.commonpath([path.parent for path in files])) if files else Path()


def _relative(path: Path | None, folder: Path) -> str:
    if path is None:
        return ""
    return unicodedata.normalize("NFC", path.relative_to(folder).as_posix())


def _read(file: Path | None) -> dict[str, list[object]]:
    """What the cache holds; nothing where it is absent or damaged: it only saves time."""
    if file is None or not file.is_file():
        return {}
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _write(file: Path, content: dict[str, list[object]]) -> None:
    try:
        replace_file(file, json.dumps(content).encode())
    except StoreError as error:
        raise DataError(
            f"the cache cannot be written: {error}; name another folder by BENCH_CACHE or by "
            "cache under [paths] in bench.toml"
        ) from error
