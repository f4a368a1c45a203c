"""Map files that are damaged, or that name no image alone."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.api import Sample
from bench.errors import BenchError, DataError
from bench.files.map_files import read_map, write_map
from bench.files.map_layout import map_keys

WIDTH, HEIGHT = 20, 16


def test_images_that_the_layout_cannot_tell_apart_are_refused() -> None:
    samples = [Sample(Path(f"{name}/1.png"), 0, "good") for name in ("a", "b")]
    with pytest.raises(DataError, match=r"a/1\.png and b/1\.png are both test/good/1"):
        map_keys(samples)


def archive() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, np.zeros(3))
    return buffer.getvalue()


def pickled() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.array([[object()]], dtype=object), allow_pickle=True)
    return buffer.getvalue()


def huge() -> bytes:
    header = np.lib.format.header_data_from_array_1_0(np.zeros((1, 1), np.float32))
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {**header, "shape": (10**9, 10**9)})
    return buffer.getvalue()


@pytest.mark.parametrize("content", [b"", b"x", b"\x93NUMPY", archive(), pickled(), huge()])
@pytest.mark.parametrize("suffix", [".npy", ".tiff"])
def test_damaged_maps_are_one_error(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"map{suffix}"
    path.write_bytes(content)
    with pytest.raises(DataError, match=path.name) as caught:
        read_map(path)
    assert "\n" not in str(caught.value)


@given(cut=st.integers(0, 500), place=st.integers(0, 300), byte=st.integers(0, 255))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_damage_is_an_error_or_an_array(
    tmp_path: Path, cut: int, place: int, byte: int
) -> None:
    for suffix in (".npy", ".tiff"):
        path = tmp_path / f"map{suffix}"
        write_map(path, np.arange(99, dtype=np.float32).reshape(9, 11))
        content = bytearray(path.read_bytes())
        content[place % len(content)] = byte
        path.write_bytes(content[: len(content) - cut % 120])
        with contextlib.suppress(BenchError):
            assert read_map(path).dtype.kind in "uif"


def test_a_tiff_that_promises_more_than_it_can_hold_allocates_nothing(tmp_path: Path) -> None:
    path = tmp_path / "map.tiff"
    write_map(path, np.zeros((4, 4)))
    content = path.read_bytes()
    # Width and length are tags 256 and 257, each a long with the value at byte 8 of its entry.
    for tag in (256, 257):
        place = content.index(tag.to_bytes(2, "little"), 8)
        kind = content[place + 2]
        size = 2 if kind == 3 else 4
        value = (9000).to_bytes(size, "little")
        content = content[: place + 8] + value + content[place + 8 + size :]
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"9000 x 9000 values cannot be in \d+ bytes"):
        read_map(path)
