"""Golden files of other folders: other cases pass the same tests, what lacks is named."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests import golden_files
from tests.golden_files import COMMITTED, Compared, GoldenFile, Record, cases_of, present, table

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]


@pytest.fixture
def record() -> Iterator[Record]:
    """A record of its own, so that what these tests compare is in no table."""
    kept = golden_files.session.record
    golden_files.session.record = Record()
    yield golden_files.session.record
    golden_files.session.record = kept


@pytest.fixture
def make_file(tmp_path: Path) -> Any:
    def make(**arrays: Any) -> GoldenFile:
        named = {name.replace("__", "/"): value for name, value in arrays.items()}
        np.savez(tmp_path / "x.npz", **named)
        return GoldenFile(tmp_path / "x.npz")

    return make


@pytest.mark.parametrize(
    ("found", "wanted", "relative", "error"),
    [
        ([1.0, 2.0], [1.0, 4.0], True, 0.5),
        ([1.0, 2.0], [1.0, 4.0], False, 2.0),
        ([0.0], [0.0], True, 0.0),
        ([1e-9], [0.0], True, np.inf),
        ([np.nan, np.inf], [np.nan, np.inf], False, 0.0),
        ([np.nan], [1.0], False, np.inf),
        ([1.0], [np.nan], False, np.inf),
        ([np.inf], [-np.inf], False, np.inf),
        ([], [], True, 0.0),
    ],
)
def test_the_error_is_the_largest_difference(
    found: list[float], wanted: list[float], relative: bool, error: float
) -> None:
    ours, theirs = np.array(found), np.array(wanted)
    assert golden_files.difference(ours, theirs, relative=relative) == error


def test_an_array_that_is_off_is_named_with_its_error(make_file: Any, record: Record) -> None:
    file = make_file(a__mean=[1.0, 2.0])
    file.check("a/mean", [1.0, 2.1], relative=0.1)
    with pytest.raises(AssertionError, match=r"x\.npz: a/mean: relative error 5\.00e-02"):
        file.check("a/mean", [1.0, 2.1], relative=1e-3)
    with pytest.raises(AssertionError, match=r"is of shape \(2,\), found \(1,\)"):
        file.check("a/mean", [1.0])
    assert [entry.error for entry in record.compared] == pytest.approx([0.05, 0.05])


def test_arrays_that_a_file_lacks_are_named_and_the_others_compared(
    make_file: Any, record: Record
) -> None:
    file = make_file(a__level__0=[1.0], a__level__2=[3.0])
    file.check_all("a/level", [[1.0], [2.0], [3.0]])
    assert [entry.array for entry in record.compared] == ["a/level/0", "a/level/2"]
    assert record.lacking == [("x.npz", "a/level/1")]
    assert file.below("a/level") == ["0", "2"]
    assert file.below("a/grad") == []
    assert record.lacking[1:] == [("x.npz", "a/grad/*")]
    for read in (file.sequence, file.tensor, file.cfg):
        with pytest.raises(pytest.skip.Exception, match=r"x\.npz lacks a/level"):
            read("a/level")


def test_cases_are_those_of_the_file(make_file: Any) -> None:
    file = make_file(one__cfg="{}", two__cfg="{}", two__f32__z=1.0, two__f64__z=1.0)
    assert file.cases() == ["one", "two"]
    assert file.cases("*/*/z") == ["two/f32", "two/f64"]
    assert [case.id for case in cases_of([file])] == ["x-one", "x-two"]


def test_a_file_without_cases_gives_one_that_is_skipped(make_file: Any, tmp_path: Path) -> None:
    (case,) = make_file(one=1.0).cases("*/cfg")
    assert case.marks[0].args == ("x.npz", "*/cfg")
    absent = GoldenFile(tmp_path / "absent.npz")
    for (parameter,) in (absent.cases(), cases_of([absent]), present([absent])):
        assert parameter.marks[0].args == ("absent.npz", "")


def test_the_table_has_the_largest_error_of_each_file_and_kind() -> None:
    record = Record(
        [
            Compared("a.npz", "x", "relative", 1e-7, 1e-5),
            Compared("a.npz", "y", "relative", 2e-6, 1e-5),
            Compared("a.npz", "z", "absolute", 0.0, 0.0),
        ],
        [("a.npz", "w"), ("a.npz", "v"), ("a.npz", "w"), ("b.npz", "")],
    )
    record.compared[0] = replace(
        record.compared[0], error=np.float64(1e-7), tolerance=np.float64(1e-5)
    )
    _, plain = record.as_property()
    assert {type(v) for entry in plain["compared"] for v in entry.values()} == {str, float}
    again = Record()
    again.add_property(plain)
    assert [line.split() for line in table(again, Path("d"))] == [
        ["file", "largest", "error", "allowed", "of", "array"],
        ["a.npz", "0.0e+00", "absolute", "0e+00", "1", "z"],
        ["a.npz", "2.0e-06", "relative", "1e-05", "2", "y"],
        ["skipped:", "a.npz", "lacks", "w,", "v"],
        ["skipped:", "d", "lacks", "b.npz"],
    ]


def test_a_golden_folder_without_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(pytest.UsageError, match=f"--golden {tmp_path}: no .npz files there"):
        golden_files.Session().use(tmp_path)


@pytest.mark.slow
def test_a_folder_with_other_cases_and_fewer_arrays_passes_the_same_tests(tmp_path: Path) -> None:
    with np.load(COMMITTED / "padim.npz") as file:
        arrays = {f"new-{name}": file[name] for name in file.files if name.startswith("full")}
    lacking = ("new-fullrank/cov", "new-fullrank/labels", "official_idx/*", "smooth/input")
    np.savez(tmp_path / "padim.npz", **{k: v for k, v in arrays.items() if k not in lacking})
    tests = ["tests/methods/test_padim_golden.py", "tests/evaluate/test_golden_metrics_edge.py"]
    # In another process than the one that writes the table.
    options = ["-q", "-p", "no:cacheprovider", "-n", "1", "--golden", str(tmp_path)]
    command = [sys.executable, "-m", "pytest", *tests, *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert re.search(r"padim\.npz +\d\.\de-\d\d +relative +1e-05", done.stdout)
    for name in lacking:
        assert re.search(rf"skipped: padim\.npz lacks .*{re.escape(name)}", done.stdout)
    assert f"skipped: {tmp_path} lacks metrics_edge.npz" in done.stdout
