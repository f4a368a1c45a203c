"""What a machine of a cluster looks at before it runs a cell; no cluster is needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench.plan import discovery
from bench.run.node import Home, Refused, problem_on_node, run_on_node, unpack
from bench.settings.config import load_settings
from tests.run.test_executors import job


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("BENCH_PROJECT", str(tmp_path))
    return Home.of(load_settings(tmp_path))


def test_a_path_below_a_folder_of_the_drivers_lies_below_the_machines_own(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, other = tmp_path / "data" / "mtd", Path("/elsewhere/mtd")
    assert home.here(images) == images
    monkeypatch.setenv("BENCH_DATA", "/fast")
    assert home.here(images) == Path("/fast/mtd")
    assert home.here(other) == other


def refused(home: Home, **changes: Any) -> str:
    messages = list(run_on_node(job(**changes), 0.0, home))
    (message,) = messages
    assert isinstance(message, Refused)
    return message.reason


def test_other_code_of_the_method_is_refused(home: Home) -> None:
    assert refused(home, code="other") == (
        "other code of padim than the driver's; give it the same version"
    )


def test_a_machine_without_the_images_is_refused_and_the_folder_named(
    home: Home, tmp_path: Path
) -> None:
    code = discovery.describe("methods", "padim").code()
    assert str(tmp_path / "none") in refused(home, code=code, root=tmp_path / "none")


def test_a_machine_without_the_project_says_so(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BENCH_PROJECT", str(tmp_path / "gone"))
    text = f"there is no project {tmp_path / 'gone'}; give it the folder, or BENCH_PROJECT"
    assert refused(home) == text
    assert problem_on_node([job()], home) == text


def test_files_that_a_cell_wrote_lie_in_the_drivers_folder(tmp_path: Path) -> None:
    unpack({"maps/0.npy": b"map", "scores.csv": b"a,b"}, tmp_path / "cell.part")
    assert (tmp_path / "cell.part" / "maps" / "0.npy").read_bytes() == b"map"
    assert (tmp_path / "cell.part" / "scores.csv").read_bytes() == b"a,b"
