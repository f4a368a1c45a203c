"""Tensors in files that nobody else sees and that no end of the program leaves behind."""

from __future__ import annotations

import atexit
import math
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from bench.errors import MethodError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

MB = 10**6


def mapped_zeros(name: str, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """A tensor of zeros whose memory is a file in the folder for temporary files (TMPDIR).

    The system keeps what fits in memory and writes the rest to the disk. Where it can, the file
    loses its name as soon as it is mapped, so that it is gone with the process, however that ends.

    Args:
        name: what it holds, for messages.

    Raises:
        MethodError: an empty or negative shape, or no room on the disk.
    """
    sizes = tuple(int(side) for side in shape)
    if not sizes or min(sizes) < 1:
        raise MethodError(f"scratch {name!r} of shape {sizes}; every side needs at least 1")
    count = math.prod(sizes)
    needed = count * dtype.itemsize
    folder = Path(tempfile.gettempdir())
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise MethodError(no_room(name, needed, free, folder))
    handle, path = tempfile.mkstemp(prefix="bench-", suffix=".scratch", dir=folder)
    file = Path(path)
    try:
        _reserve(handle, needed)
        tensor = torch.from_file(path, shared=True, size=count, dtype=dtype)
    except OSError as error:
        raise MethodError(no_room(name, needed, shutil.disk_usage(folder).free, folder)) from error
    finally:
        os.close(handle)
        _forget(file)
    return tensor.view(sizes)


def _reserve(handle: int, size: int) -> None:
    """Make the file that long; its blocks are set aside now, so that no write fails later."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(handle, 0, size)
    else:
        os.truncate(handle, size)


def _forget(file: Path) -> None:
    """Remove the name of an open file; where the system keeps it, at the end of the program."""
    try:
        file.unlink()
    except PermissionError:
        atexit.register(file.unlink, missing_ok=True)


def no_room(name: str, needed: int, free: int, folder: Path) -> str:
    """What a user reads where a disk has not the bytes that something takes."""
    return (
        f"{name} takes {needed / MB:,.0f} MB, but {folder} has {free / MB:,.0f} MB free; make "
        "room, set TMPDIR to a folder on a larger disk, or choose settings that keep less"
    )
