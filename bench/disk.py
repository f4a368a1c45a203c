"""Reading text, and files that are replaced in one step: never a part of one is seen."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path

from bench.errors import StoreError


def replace_file(file: Path, content: bytes, *, durable: bool = True) -> None:
    """Write beside, flush to the disk, rename over; on failure the old file stays.

    Args:
        durable: False: without the flush, so that a power cut may leave a damaged file.
    """
    temporary: Path | None = None
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.", suffix=".tmp")
        temporary = Path(name)
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            if durable:
                stream.flush()
                os.fsync(stream.fileno())
        temporary.chmod(0o644)
        temporary.replace(file)
        if durable:
            flush_folder(file.parent)
    except OSError as error:
        if temporary is not None:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
        reason = error.strerror or error
        raise StoreError(f"{file} cannot be written ({reason}); what was there is kept") from error


def tidy(path: Path) -> Path:
    """Absolute, with the user's folder for `~`, and without `..`, as messages name it.

    Links are followed where there is a `..`, which leads up from where a link leads to.
    """
    path = path.expanduser().absolute()
    return path.resolve() if ".." in path.parts else path


def read_text(file: Path) -> str:
    """The text of a file that a user or an archive wrote: UTF-8, with or without byte order mark.

    Raises:
        OSError: it cannot be read.
        UnicodeDecodeError: it is not UTF-8.
    """
    return file.read_text(encoding="utf-8-sig")


def flush_file(file: Path) -> None:
    """Make the content of a file survive a power cut."""
    with file.open("rb") as stream:
        os.fsync(stream.fileno())


def flush_folder(folder: Path) -> None:
    """Make a rename survive a power cut, on systems that can."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        # Some network file systems cannot; the row is in place all the same.
        with suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
