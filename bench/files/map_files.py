"""Anomaly maps as files: float32 TIFF, as MVTec's evaluation script reads it, or NPY. No torch."""

from __future__ import annotations

import math
import tokenize
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from bench.errors import DataError
from bench.files.images import MALFORMED, MAX_PIXELS

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

SUFFIXES = (".tiff", ".tif", ".npy")
PIXELS_PER_BYTE = 2000
"""Deflate and LZW hold at most about 1300; a header that promises more is damaged or hostile."""


def write_map(path: Path, values: NDArray[Any]) -> None:
    """Write an (H, W) map; the suffix decides: .npy keeps the type, .tiff is float32.

    Raises:
        DataError: the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".npy":
            np.save(path, values)
        else:
            Image.fromarray(values.astype(np.float32)).save(path, format="TIFF")
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror or error}") from error


def read_map(path: Path) -> NDArray[Any]:
    """The values of a map file as stored, of whatever shape; nothing in it is executed.

    Raises:
        DataError: no such file, damaged, an object array, no numbers, or more than `MAX_PIXELS`.
    """
    try:
        values = _read_npy(path) if path.suffix.lower() == ".npy" else _read_tiff(path)
    except (*MALFORMED, tokenize.TokenError) as error:
        text = "no such file" if not path.is_file() else (str(error) or type(error).__name__)
        raise DataError(f"{path}: not a readable map: {text.splitlines()[0]}") from error
    if values.dtype.kind not in "uif":
        raise DataError(f"{path}: holds {values.dtype}, not real numbers")
    return values


def _read_npy(path: Path) -> NDArray[Any]:
    # Mapped, not read: a header that promises more than the file holds then allocates nothing.
    values = np.load(path, mmap_mode="r", allow_pickle=False)
    if not isinstance(values, np.ndarray):
        values.close()
        raise ValueError("an archive of arrays; save one array in a file")
    _refuse_large(values.shape)
    return np.array(values)


def _read_tiff(path: Path) -> NDArray[Any]:
    try:
        with warnings.catch_warnings():
            # Of odd tags, which a map does not need, and of sizes, which are checked here.
            warnings.simplefilter("ignore", UserWarning)
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path, formats=("TIFF",)) as image:
                if getattr(image, "n_frames", 1) > 1:
                    raise ValueError("holds more than one picture")
                _refuse_large((image.height, image.width), path.stat().st_size)
                return np.array(image)
    except UnidentifiedImageError:
        # Pillow knows 32-bit floats only; half and double precision are legal TIFF too.
        return _read_rare_tiff(path)


def _read_rare_tiff(path: Path) -> NDArray[Any]:
    try:
        import tifffile
    except ImportError as error:
        raise ValueError(
            "not a TIFF that Pillow reads; save it as float32, or install tifffile"
        ) from error
    try:
        with tifffile.TiffFile(path) as file:
            if len(file.pages) != 1:
                raise ValueError("holds more than one picture")
            _refuse_large(file.pages[0].shape, path.stat().st_size)
            return np.asarray(file.pages[0].asarray())
    except tifffile.TiffFileError as error:  # not a ValueError in every version
        raise ValueError(str(error)) from error


def _refuse_large(shape: tuple[int, ...], file_bytes: int | None = None) -> None:
    pixels = math.prod(shape)
    text = f"{' x '.join(map(str, shape))} values"
    if pixels > MAX_PIXELS:
        raise ValueError(f"{text} are more than {MAX_PIXELS}")
    if file_bytes is not None and pixels > PIXELS_PER_BYTE * file_bytes:
        raise ValueError(f"{text} cannot be in {file_bytes} bytes")
