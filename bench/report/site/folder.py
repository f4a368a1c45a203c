"""The folder of a site: what it may replace, and what the site before left there."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from bench.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MARK = ".bench-site"
"""Lists the files of a site, so that the next one removes what it does not write again."""


class SiteFolder:
    """Where a site is written; knows every file that it wrote.

    Raises:
        StoreError: the folder is a file, or holds something else than a site.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.written: set[str] = set()
        self._earlier = _earlier(path)

    def target(self, file: str) -> Path:
        """Where a file goes, in a folder that is there."""
        self.written.add(file)
        target = self.path / file
        target.parent.mkdir(parents=True, exist_ok=True)
        return target

    @contextmanager
    def replacing(self) -> Iterator[None]:
        """While the site is written: then what the earlier one alone had is removed.

        Raises:
            StoreError: the folder cannot be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            try:
                yield
                for name in self._earlier - self.written:
                    (self.path / name).unlink(missing_ok=True)
                self._earlier = set()
            finally:
                # Also after an error, so that the next call knows what it may replace.
                names = sorted(self._earlier | self.written)
                (self.path / MARK).write_text("\n".join(names) + "\n", encoding="utf-8")
        except OSError as error:
            message = f"{self.path} cannot be written: {error}; choose another --out"
            raise StoreError(message) from error


def _earlier(out: Path) -> set[str]:
    """Files of the site that the folder holds."""
    if not out.exists():
        return set()
    if not out.is_dir():
        raise StoreError(f"{out} is a file; choose a folder with --out")
    if not (out / MARK).is_file():
        if any(out.iterdir()):
            raise StoreError(f"{out} holds other files; choose an empty folder with --out")
        return set()
    names = (out / MARK).read_text(encoding="utf-8").splitlines()
    inside = out.resolve()
    return {name for name in names if inside in (out / name).resolve().parents}
