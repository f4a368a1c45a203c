"""Decoding of every mode, and one error for every damaged file."""

from __future__ import annotations

import io
import struct
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from bench.errors import DataError
from bench.files import images
from bench.files.images import binarise, image_info, image_size, mask_values, read_rgb

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

GREY = np.arange(120, dtype=np.uint8).reshape(10, 12)


def save(path: Path, picture: Image.Image, **options: Any) -> Path:
    picture.save(path, **options)
    return path


def grey() -> Image.Image:
    return Image.fromarray(GREY)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "P"])
def test_a_grey_picture_is_the_same_in_every_opaque_mode(tmp_path: Path, mode: str) -> None:
    path = save(tmp_path / "x.png", grey().convert(mode))
    assert np.array_equal(np.asarray(read_rgb(path)), np.stack([GREY] * 3, -1))
    assert image_info(path).mode == mode
    assert image_info(path).notes == ()


def test_one_bit_is_black_and_white(tmp_path: Path) -> None:
    path = save(tmp_path / "x.png", Image.fromarray(GREY > 60))
    assert np.array_equal(np.asarray(read_rgb(path))[..., 0], (GREY > 60) * 255)


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_sixteen_bits_are_scaled_and_not_clipped(tmp_path: Path, suffix: str) -> None:
    values = (GREY.astype(np.uint16) * 257) + 100
    path = tmp_path / f"x.{suffix}"
    if suffix == "pgm":  # Pillow reads these, but writes them only since version 11
        path.write_bytes(b"P5 12 10 65535\n" + values.astype(">u2").tobytes())
    else:
        save(path, Image.fromarray(values))
    assert np.array_equal(np.asarray(read_rgb(path))[..., 0], GREY)
    info = image_info(path)
    assert info.bits == 16
    assert info.notes == ("16-bit, divided by 257",)


@pytest.mark.parametrize("bits", [9, 10, 12, 14, 16])
def test_fewer_bits_of_a_sixteen_bit_file_are_scaled_to_the_full_range(
    tmp_path: Path, bits: int
) -> None:
    white = 2**bits - 1
    values = np.linspace(0, white, 120).astype(np.uint16).reshape(10, 12)
    path = save(tmp_path / "x.png", Image.fromarray(values))
    expected = np.floor(values * (255 / white) + 0.5)
    assert np.array_equal(np.asarray(read_rgb(path, bits))[..., 0], expected)
    assert image_info(path, bits).pixels != image_info(path).pixels or bits == 16
    if bits > 9:
        with pytest.raises(DataError, match=rf"x\.png: the value {white} has more than {bits - 1}"):
            read_rgb(path, bits - 1)


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_pixels_without_a_defined_range_are_refused(tmp_path: Path, dtype: Any) -> None:
    path = save(tmp_path / "x.tif", Image.fromarray(GREY.astype(dtype)))
    with pytest.raises(DataError, match=r"x\.tif: pixels of mode '[FI]' have no defined range"):
        read_rgb(path)


def test_transparent_pixels_are_black_and_noted(tmp_path: Path) -> None:
    rgba = np.full((4, 4, 4), 200, np.uint8)
    rgba[..., 3] = 0
    rgba[0, 0, 3] = 255
    path = save(tmp_path / "x.png", Image.fromarray(rgba))
    pixels = np.asarray(read_rgb(path))
    assert pixels[0, 0].tolist() == [200] * 3
    assert pixels[1:].max() == 0
    assert image_info(path).notes == ("transparent, put on black",)


def test_a_transparent_palette_entry_is_black(tmp_path: Path) -> None:
    palette = grey().convert("P")
    path = save(tmp_path / "x.png", palette, transparency=bytes([0] * 200 + [255] * 56))
    assert np.asarray(read_rgb(path)).max() == 0


def test_cmyk_is_converted_and_noted(tmp_path: Path) -> None:
    path = save(tmp_path / "x.jpg", grey().convert("RGB").convert("CMYK"), quality=100)
    assert np.abs(np.asarray(read_rgb(path))[..., 0].astype(int) - GREY).max() < 12
    assert image_info(path).notes == ("converted from CMYK",)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int, suffix: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = Image.fromarray(np.repeat(np.repeat(GREY, 4, 0), 4, 1)).convert("RGB")
    path = save(tmp_path / f"x.{suffix}", picture, exif=exif)
    wanted = (48, 40) if orientation >= 5 else (40, 48)
    assert image_size(path) == wanted
    info = image_info(path)
    assert info.size == wanted
    assert info.notes == (() if orientation == 1 else ("rotated by EXIF",))
    upright = np.asarray(read_rgb(path))
    assert upright.shape[:2] == wanted
    if suffix == "png" and orientation == 6:
        assert np.array_equal(upright[..., 0], np.rot90(np.asarray(picture)[..., 0], -1))


def test_the_type_is_told_by_content(tmp_path: Path) -> None:
    path = save(tmp_path / "x.png", grey(), format="BMP")
    assert image_info(path).format == "BMP"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"not a picture at all", "not an image of a known format"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image of a known format"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not an image of a known format"),
    ],
)
def test_files_that_are_no_image_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(content)
    for read in (read_rgb, image_info, image_size, mask_values):
        with pytest.raises(DataError, match=rf"x\.png: {message}"):
            read(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"x\.png: no such file"):
        read_rgb(tmp_path / "x.png")
    with pytest.raises(DataError):
        read_rgb(tmp_path)


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "tif", "webp", "ppm"])
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_a_truncated_file_is_refused(tmp_path: Path, suffix: str, share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    path = save(tmp_path / f"x.{suffix}", Image.fromarray(noise))
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(DataError, match=rf"x\.{suffix}: "):
        image_info(path)


def test_every_flipped_bit_of_png_pixels_is_found(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (6, 6), np.uint8)
    content = save(tmp_path / "good.png", Image.fromarray(noise)).read_bytes()
    start = content.index(b"IDAT")
    length = struct.unpack(">I", content[start - 4 : start])[0]
    path = tmp_path / "bad.png"
    for offset in range(start + 4, start + 4 + length):
        path.write_bytes(content[:offset] + bytes([content[offset] ^ 4]) + content[offset + 1 :])
        with pytest.raises(DataError, match=r"bad\.png: damaged"):
            image_info(path)


def bomb(path: Path, width: int, height: int) -> Path:
    """A PNG of a few bytes whose header promises that many pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        checksum = zlib.crc32(name + data)
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", checksum)

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    pixels = zlib.compress(b"\0" * 1000)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )
    return path


@pytest.mark.parametrize("side", [15_000, 60_000, 2**31 - 1])
def test_a_decompression_bomb_is_refused_before_it_unpacks(tmp_path: Path, side: int) -> None:
    with pytest.raises(DataError, match=r"bomb\.png: .*(bomb|pixels|damaged)"):
        read_rgb(bomb(tmp_path / "bomb.png", side, side))


def test_the_limit_on_pixels_is_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "x.png", grey())
    monkeypatch.setattr(images, "MAX_PIXELS", 119)
    with pytest.raises(DataError, match="12 x 10 pixels are more than 119"):
        read_rgb(path)


@pytest.mark.parametrize("suffix", ["gif", "tif", "png", "webp"])
def test_files_of_several_pictures_are_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x.{suffix}"
    grey().save(path, save_all=True, append_images=[Image.fromarray(GREY[::-1].copy())])
    with pytest.raises(DataError, match="more than one picture"):
        read_rgb(path)


@pytest.fixture(scope="module")
def contents() -> dict[str, bytes]:
    """One small file of each format."""
    files = {}
    for kind, mode in (
        ("PNG", "RGB"),
        ("PNG", "P"),
        ("JPEG", "RGB"),
        ("BMP", "RGB"),
        ("TIFF", "RGB"),
        ("WEBP", "RGB"),
        ("PPM", "L"),
        ("GIF", "P"),
    ):
        stream = io.BytesIO()
        exif = Image.Exif()
        exif[0x0112] = 6
        options = {"exif": exif} if kind in ("PNG", "JPEG", "TIFF", "WEBP") else {}
        grey().convert(mode).save(stream, kind, **options)
        files[f"{kind}-{mode}"] = stream.getvalue()
    return files


@settings(
    max_examples=400,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's own remarks on odd metadata
def test_damaged_files_decode_or_name_themselves(
    data: st.DataObject, contents: dict[str, bytes], tmp_path: Path
) -> None:
    content = bytearray(contents[data.draw(st.sampled_from(sorted(contents)))])
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(1, len(content)))
    path = tmp_path / "fuzzed.png"
    path.write_bytes(bytes(content[:cut]))
    for read in (image_info, image_size, mask_values):
        assert "fuzzed.png" in complaint(read, path)


def complaint(read: Callable[[Path], object], path: Path) -> str:
    """What the reader says of a file; only a DataError counts as saying something."""
    try:
        return f"{path}: {read(path)}"
    except DataError as error:
        return str(error)


# --- masks ---------------------------------------------------------------------------------------


def test_mask_values_of_grey_and_one_bit_files_are_kept(tmp_path: Path) -> None:
    assert np.array_equal(mask_values(save(tmp_path / "x.png", grey())), GREY)
    bits = save(tmp_path / "y.png", Image.fromarray(GREY > 60))
    assert np.array_equal(mask_values(bits), (GREY > 60) * 255)


def test_a_dark_colour_survives_in_a_mask(tmp_path: Path) -> None:
    # Its luminance is 113, below any threshold at the middle.
    colours = np.zeros((4, 4, 3), np.uint8)
    colours[1, 1] = (0x23, 0xA4, 0x36)
    for mode in ("RGB", "P"):
        path = save(tmp_path / f"{mode}.png", Image.fromarray(colours).convert(mode))
        assert binarise(mask_values(path), "auto").sum() == 1


def test_transparent_pixels_of_a_mask_are_normal(tmp_path: Path) -> None:
    rgba = np.full((4, 4, 4), 255, np.uint8)
    rgba[1:, :, 3] = 0
    path = save(tmp_path / "x.png", Image.fromarray(rgba))
    assert binarise(mask_values(path), "auto").sum() == 4


def test_sixteen_bit_masks_keep_their_values(tmp_path: Path) -> None:
    few = save(tmp_path / "few.png", Image.fromarray((GREY % 3).astype(np.uint16)))
    full = save(tmp_path / "full.png", Image.fromarray(GREY.astype(np.uint16) * 257))
    assert np.array_equal(mask_values(few), GREY % 3)
    assert np.array_equal(mask_values(full), GREY.astype(int) * 257)
    assert np.array_equal(binarise(mask_values(full), ">=128"), GREY >= 128)


def test_no_instance_of_a_sixteen_bit_mask_is_lost(tmp_path: Path) -> None:
    instances = np.array([[0, 1, 2, 300]], np.uint16)
    for name in ("ids.png", "ids.tif"):
        values = mask_values(save(tmp_path / name, Image.fromarray(instances)))
        for rule in ("nonzero", "auto"):
            assert binarise(values, rule).tolist() == [[False, True, True, True]]


def test_a_mask_of_sixteen_bit_colours_is_refused(tmp_path: Path) -> None:
    def chunk(kind: bytes, content: bytes) -> bytes:
        body = kind + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0" + struct.pack(">6H", 1, 1, 1, 0, 0, 0))
    path = tmp_path / "deep.png"
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", pixels), chunk(b"IEND", b""))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    assert read_rgb(path).size == (2, 1)
    with pytest.raises(DataError, match="16-bit colours, whose small values would be lost"):
        mask_values(path)


def test_a_float_mask_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "x.tif", Image.fromarray(GREY.astype(np.float32)))
    with pytest.raises(DataError, match="no defined range"):
        mask_values(path)


@pytest.mark.parametrize(
    ("values", "rule", "wanted"),
    [
        ([0, 1, 3], "nonzero", [False, True, True]),
        ([0, 127, 128], ">=128", [False, False, True]),
        ([0, 1, 3], "auto", [False, True, True]),
        ([0, 60, 127], "auto", [False, True, True]),
        ([0, 127, 255], "auto", [False, False, True]),
        ([0, 0, 0], "auto", [False, False, False]),
        ([0, 1, 300], "nonzero", [False, True, True]),
        ([0, 1, 300], "auto", [False, True, True]),
        ([0, 1, 65535], "auto", [False, False, True]),
        ([0, 300, 40000], ">=128", [False, False, True]),
    ],
)
def test_the_rule_decides_which_values_are_anomalous(
    values: list[int], rule: Any, wanted: list[bool]
) -> None:
    assert binarise(np.array([values], np.uint16), rule)[0].tolist() == wanted
