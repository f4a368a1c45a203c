"""Tensors in files of the run's own: their values, their end, and disks without room."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections import namedtuple
from pathlib import Path

import pytest
import torch

from bench.api import MethodError
from bench.run.scratch import mapped_zeros


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.int64, torch.uint8])
def test_it_holds_zeros_and_what_is_written(dtype: torch.dtype) -> None:
    tensor = mapped_zeros("gallery", (3, 4, 5), dtype)
    assert tensor.shape == (3, 4, 5)
    assert tensor.dtype == dtype
    assert not tensor.any()
    tensor[1] = 7
    assert int(tensor.sum()) == 7 * 20


def test_two_of_one_name_are_two() -> None:
    first, second = (mapped_zeros("gallery", (4,), torch.float32) for _ in range(2))
    first += 1
    assert not second.any()


def test_no_file_is_left_behind_however_the_process_ends(folder: Path) -> None:
    code = (
        "import os, signal, torch; from bench.run.scratch import mapped_zeros;"
        "tensor = mapped_zeros('gallery', (10,), torch.float32).add_(1);"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    environment = {"TMPDIR": str(folder), "PYTHONPATH": str(Path(__file__).parents[2])}
    subprocess.run([sys.executable, "-c", code], env=environment, check=False)
    assert not list(folder.iterdir())


def test_a_full_disk_is_named_with_both_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage(10**9, 0, 5 * 10**6))
    with pytest.raises(MethodError, match=r"gallery takes 8 MB, but .* has 5 MB free"):
        mapped_zeros("gallery", (2, 10**6), torch.float32)


def test_a_disk_that_refuses_its_blocks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_handle: int, _offset: int, _size: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", refuse, raising=False)
    with pytest.raises(MethodError, match="set TMPDIR to a folder on a larger disk"):
        mapped_zeros("gallery", (10,), torch.float32)


@pytest.mark.parametrize("shape", [(), (0,), (3, -1)])
def test_an_empty_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(MethodError, match="every side needs at least 1"):
        mapped_zeros("gallery", shape, torch.float32)
