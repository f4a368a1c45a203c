"""Reading image and mask files: one defined rule for every mode, one error for every defect."""

from __future__ import annotations

import hashlib
import struct
import zlib
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from bench.errors import DataError
from bench.files.folders import mask_files

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from bench.api import MaskRule

MAX_PIXELS = 178_956_970
"""Larger images are refused: Pillow's own limit for decompression bombs."""

# Formats are told by content, never by suffix. Others are refused: some run external programs.
_FORMATS = ("PNG", "JPEG", "BMP", "DIB", "TIFF", "WEBP", "PPM", "GIF")
_ORIENTATION = 0x0112

# What Pillow's readers raise on malformed files.
MALFORMED = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    EOFError,
    OverflowError,
    ZeroDivisionError,
    AttributeError,
    NotImplementedError,
    RuntimeError,
    MemoryError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)


@dataclass(frozen=True)
class ImageInfo:
    """What a file turned out to be.

    Attributes:
        format: by content: "PNG", "JPEG", ...
        mode: Pillow's mode on disk.
        size: (height, width) after the EXIF rotation.
        notes: what was done beyond plain reading ("rotated by EXIF", ...).
        largest: value of a 16-bit image; 0 of others.
        pixels: SHA-256 over what methods see, the same in every lossless encoding.
    """

    format: str
    mode: str
    size: tuple[int, int]
    notes: tuple[str, ...] = ()
    largest: int = 0
    pixels: str = ""

    @property
    def bits(self) -> int:
        """Bits per channel on disk, as far as they matter: 8 or 16."""
        return 16 if self.mode.startswith("I") else 8


def read_rgb(path: Path, bits: int = 16) -> Image.Image:
    """The image in 8-bit RGB, upright.

    Grey is replicated, 16-bit grey divided by 257, transparency composited on black, CMYK converted
    by Pillow, the EXIF orientation applied.

    Args:
        bits: `Sample.bits`; 16-bit grey of fewer is scaled so that 2**bits - 1 is white.

    Raises:
        DataError: the file is missing, empty, truncated, damaged, no image, animated, larger than
            `MAX_PIXELS`, of a mode without a defined rule (float, 32-bit), or of more bits.
    """
    return _decode(path, bits)[0]


def image_info(path: Path, bits: int = 16) -> ImageInfo:
    """Decode the file in full and say what it is; PNG checksums are compared too.

    Raises:
        DataError: as `read_rgb`.
    """
    with _opened(path) as image:
        if image.format == "PNG":
            image.verify()
    rgb, info = _decode(path, bits)
    digest = hashlib.sha256(f"{rgb.width} x {rgb.height} ".encode())
    digest.update(rgb.tobytes())
    return replace(info, pixels=digest.hexdigest())


def image_size(path: Path) -> tuple[int, int]:
    """(height, width) after the EXIF rotation, from the header alone.

    Raises:
        DataError: as `read_rgb`, as far as the header shows it.
    """
    with _opened(path) as image:
        width, height = image.size
        is_swapped = _orientation(image) >= 5
        # Of a TIFF some versions of Pillow give the upright size, others that of the tags.
        if isinstance(image, TiffImageFile):
            width, height = image.tag_v2[256], image.tag_v2[257]
    return (width, height) if is_swapped else (height, width)


def _frame(path: Path, index: int) -> NDArray[np.uint16]:
    """One mask of a video's, mapped: a scene's masks are larger than memory."""
    try:
        masks = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not a .npy file of masks: {error}") from error
    if masks.ndim != 3 or masks.dtype.kind not in "bu" or masks.dtype.itemsize > 2:
        raise DataError(
            f"{path}: {masks.dtype} of shape {masks.shape}; masks are (frames, height, width) of "
            "8 or 16 bits without sign"
        )
    if not 0 <= index < len(masks):
        raise DataError(f"{path}: no frame {index}; it holds {len(masks)}")
    values: NDArray[np.uint16] = np.asarray(masks[index]).astype(np.uint16)
    return values


def _united(folder: Path) -> NDArray[np.uint16]:
    """Where one of the masks of a folder is above 0: 255; their values tell kinds of defects."""
    files = mask_files(folder)
    united = mask_values(files[0]) > 0
    for file in files[1:]:
        mask = mask_values(file) > 0
        if mask.shape != united.shape:
            raise DataError(f"{file}: another size than {files[0]}, a mask of the same image")
        united |= mask
    return np.where(united, 255, 0).astype(np.uint16)


def mask_values(path: Path, index: int | None = None) -> NDArray[np.uint16]:
    """(H, W) values of a mask file before any rule: 0 is normal.

    Args:
        path: a file; or a folder of the masks of one image, which are united: 255 where one of
            them is above 0.
        index: the frame, of a .npy file that holds (T, H, W) masks; only it is read.

    The maximum over colours after palette expansion, times opacity. Values of a 1-bit file are 0
    and 255; those of 8 and 16 bits come as they are, since they may be numbers of instances.

    Raises:
        DataError: as `read_rgb`; 16-bit colours, of which Pillow keeps 8 bits; a .npy file without
            such a frame; a folder whose masks differ in size.
    """
    if index is not None:
        return _frame(path, index)
    if path.is_dir():
        return _united(path)
    with _opened(path) as image:
        is_deep = _has_deep_colours(image)
        image.load()
        upright = ImageOps.exif_transpose(image)
        mode = upright.mode
        if mode.startswith("I"):
            values = np.asarray(upright).astype(np.int64)
        elif mode in ("1", "L"):
            values = np.asarray(upright.convert("L")).astype(np.int64)
        else:
            values = _colour_values(upright, path)
    if values.min(initial=0) < 0 or values.max(initial=0) > 65535:
        raise DataError(f"{path}: mask values outside 0 to 65535; save it as an 8-bit image")
    if is_deep:
        raise DataError(
            f"{path}: a mask of 16-bit colours, whose small values would be lost; save it as an "
            "8-bit image, or as 16-bit grey"
        )
    return values.astype(np.uint16)


def binarise(values: NDArray[np.uint16], rule: MaskRule) -> NDArray[np.bool_]:
    """Which pixels are anomalous; "auto" is "nonzero" where no value reaches 128, else ">=128".

    128 is the middle of the range: of values above 255 that of 16 bits, 32768.
    """
    grey = eight_bit(values)
    if rule == "nonzero" or (rule == "auto" and grey.max(initial=0) < 128):
        return values > 0
    return grey >= 128


def eight_bit(values: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """Mask values in the range of 8 bits: divided by 257 where one exceeds 255."""
    if values.max(initial=0) <= 255:
        return values
    return ((values.astype(np.int64) + 128) // 257).astype(np.uint16)


def _has_deep_colours(image: Image.Image) -> bool:
    """Whether the file holds colours of 16 bits; told before the pixels are loaded."""
    arguments = [tile[3] for tile in getattr(image, "tile", ())]
    raw = [a[0] if isinstance(a, tuple) and a else a for a in arguments]
    return not image.mode.startswith("I") and any(";16" in r for r in raw if isinstance(r, str))


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """The file opened by Pillow; whatever a reader raises becomes a DataError naming the file."""
    try:
        with Image.open(path, formats=_FORMATS) as image:
            _refuse_bomb(path, image)
            yield image
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"{path}: {error}; shrink the image") from error
    except MALFORMED as error:
        raise DataError(f"{path}: {_reason(path, error)}") from error


def _refuse_bomb(path: Path, image: Image.Image) -> None:
    if image.width * image.height > MAX_PIXELS:
        raise DataError(
            f"{path}: {image.width} x {image.height} pixels are more than {MAX_PIXELS}; shrink it"
        )
    # A phone's MPO holds the photograph first, and a preview or depth map behind it.
    if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
        raise DataError(f"{path}: holds more than one picture; save the one that counts")


def _reason(path: Path, error: BaseException) -> str:
    if not path.exists():
        return "no such file"
    if path.is_file() and path.stat().st_size == 0:
        return "the file is empty; copy it again"
    if isinstance(error, PermissionError):
        return "no permission to read it"
    if isinstance(error, UnidentifiedImageError):
        return "not an image of a known format; remove or replace it"
    return f"damaged or truncated: {error}; copy it again"


def _decode(path: Path, bits: int) -> tuple[Image.Image, ImageInfo]:
    with _opened(path) as image:
        notes = ["rotated by EXIF"] if _orientation(image) > 1 else []
        image.load()
        rgb = _to_rgb(ImageOps.exif_transpose(image), image.format, path, notes, bits)
        largest = int(np.asarray(image).max(initial=0)) if image.mode.startswith("I") else 0
        size = (rgb.height, rgb.width)
        info = ImageInfo(image.format or "", image.mode, size, tuple(notes), largest)
    return rgb, info


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8, before the pixels are loaded."""
    # A PNG is asked only for what precedes its pixels: asking for all would decode them.
    if image.format == "PNG" and "exif" not in image.info:
        return 1
    value = image.getexif().get(_ORIENTATION, 1)
    return value if value in range(1, 9) else 1


def _to_rgb(
    image: Image.Image, kind: str | None, path: Path, notes: list[str], bits: int = 16
) -> Image.Image:
    """The picture in RGB; what was lost on the way is appended to `notes`.

    `kind` is the file's format: 32-bit pixels of a PNG or PPM hold 16 bits.
    """
    mode = image.mode
    if mode in ("RGB", "L", "1"):
        return image.convert("RGB")
    if mode.startswith("I;16") or (mode == "I" and kind in ("PNG", "PPM")):
        # Full range to full range; `convert` would clip everything above 255 to white.
        notes.append("16-bit, divided by 257" if bits == 16 else f"16-bit, read as {bits}-bit")
        values = np.asarray(image).astype(np.int64).clip(0, 65535)
        white = 2**bits - 1
        if values.max(initial=0) > white:
            raise DataError(
                f"{path}: the value {values.max()} has more than {bits} bits; set the option bits "
                f"of the data set to {int(values.max()).bit_length()}"
            )
        grey = (2 * 255 * values + white) // (2 * white)  # rounded
        return Image.fromarray(grey.astype(np.uint8)).convert("RGB")
    if mode in ("LA", "La", "PA", "RGBA", "RGBa") or (mode == "P" and _has_transparency(image)):
        return _composite(image.convert("RGBA"), notes)
    if mode == "CMYK":
        notes.append("converted from CMYK")
    if mode in ("P", "CMYK", "YCbCr", "RGBX"):
        return image.convert("RGB")
    raise DataError(f"{path}: pixels of mode {mode!r} have no defined range; save them as 8-bit")


def _has_transparency(image: Image.Image) -> bool:
    return "transparency" in image.info


def _composite(rgba: Image.Image, notes: list[str]) -> Image.Image:
    if rgba.getchannel("A").getextrema() == (255, 255):
        return rgba.convert("RGB")
    notes.append("transparent, put on black")
    black = Image.new("RGBA", rgba.size, (0, 0, 0, 255))
    return Image.alpha_composite(black, rgba).convert("RGB")


def _colour_values(image: Image.Image, path: Path) -> NDArray[np.int64]:
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or _has_transparency(image):
        rgba = np.asarray(image.convert("RGBA")).astype(np.int64)
        visible: NDArray[np.int64] = (rgba[..., :3].max(axis=-1) * rgba[..., 3] + 127) // 255
        return visible
    values: NDArray[np.int64] = (
        np.asarray(_to_rgb(image, None, path, [])).astype(np.int64).max(axis=-1)
    )
    return values
