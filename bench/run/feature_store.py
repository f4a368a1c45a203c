"""Tensors in files that later cells read: bounded in size, and the longest unused go first."""

from __future__ import annotations

import os
import shutil
import time
import zlib
from contextlib import suppress
from typing import TYPE_CHECKING

import safetensors
import safetensors.torch

from bench.disk import replace_file
from bench.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from torch import Tensor

MB = 10**6

SHARE = 1 / 16
"""Of the limit, that a cell writes before it looks again how much all cells have written."""
PORTION_MB = 256
"""The same, at most."""
RESERVE_MB = 500
"""That are left on the disk: for rows, maps and logs."""

ABANDONED_S = 3600.0
"""Age at which a file that is not yet renamed is taken for one that nobody will finish."""

_CHECK = 4
"""Bytes of CRC-32 before the tensors: a file that a crash cut off is none."""


class FeatureStore:
    """Small sets of named tensors under names that are hex digests.

    Any number of processes may read and write: a file is whole or not there, and one that was
    removed meanwhile is not there. Of n processes that write at a time, all but one can exceed the
    limit by a portion each until they look again. A disk without room costs one warning; what is
    stored can still be read.
    """

    def __init__(self, folder: Path, limit_mb: float, warn: Callable[[str], None]) -> None:
        """
        Args:
            folder: made when the first file is written.
            limit_mb: 10^6 bytes of all files together.
            warn: called once, with one line, where no more can be stored.
        """
        self.folder = folder
        self.limit = int(limit_mb * MB)
        self.warn = warn
        self.is_writable = True
        self._granted = 0

    def read(self, name: str) -> dict[str, Tensor] | None:
        """The tensors of that name, on the CPU; None where they are not there, or damaged."""
        file = self._file(name)
        try:
            with file.open("rb") as stream:
                check, body = stream.read(_CHECK), stream.read()
            os.utime(file)  # the time by which the longest unused are found
        except OSError:
            return None
        if check != _checksum(body):
            with suppress(OSError):
                file.unlink()
            return None
        tensors: dict[str, Tensor] = safetensors.torch.load(body)
        return tensors

    def write(self, name: str, tensors: Mapping[str, Tensor]) -> None:
        """Store contiguous tensors, unless they are there or larger than the limit."""
        file = self._file(name)
        if not self.is_writable or file.exists():
            return
        body = safetensors.torch.save(dict(tensors))
        size = _CHECK + len(body)
        try:
            if self._granted < size:
                self._granted = self._make_room(size)
            if self._granted >= size:
                replace_file(file, _checksum(body) + body, durable=False)
                self._granted -= size
        except (OSError, StoreError) as error:
            self.is_writable = False
            self.warn(f"feature cache: {error}; this cell stores no more, and its row is the same")

    def _make_room(self, needed: int) -> int:
        """Remove what was not used for longest; how many bytes may be written now.

        Raises:
            StoreError: the disk has not that much room.
        """
        portion = max(int(min(self.limit * SHARE, PORTION_MB * MB)), needed)
        if portion > self.limit:
            return 0
        self.folder.mkdir(parents=True, exist_ok=True)
        files = self._files()
        held = sum(size for _, size, _ in files)
        for _, size, file in files:
            if held <= self.limit - portion:
                break
            file.unlink(missing_ok=True)
            held -= size
        free = shutil.disk_usage(self.folder).free
        if free < portion + RESERVE_MB * MB:
            raise StoreError(f"{self.folder} has {free / MB:,.0f} MB free")
        return portion

    def _files(self) -> list[tuple[float, int, Path]]:
        """(time of last use, bytes, file), the longest unused first; none that is being written."""
        found = []
        begun = time.time() - ABANDONED_S
        for file in self.folder.glob("*/*"):
            with suppress(FileNotFoundError):  # another cell removed it
                status = file.stat()
                if status.st_mtime < begun or not file.name.endswith(".tmp"):
                    found.append((status.st_mtime, status.st_size, file))
        return sorted(found)

    def _file(self, name: str) -> Path:
        return self.folder / name[:2] / f"{name}.features"


def _checksum(body: bytes) -> bytes:
    return zlib.crc32(body).to_bytes(_CHECK, "little")
