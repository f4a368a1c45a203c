"""The store under fire: full disks, damaged files, merging, many rows."""

from __future__ import annotations

import csv
import errno
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import bench.rows.store
import bench.run.driver
from bench.errors import StoreError
from bench.report.choice.summary import tables
from bench.report.formats import render
from bench.rows.csv_file import write_csv
from bench.rows.row import SCHEMA, Row, columns
from bench.rows.store import ResultStore, merge
from tests.row_maker import make_row, read_csv

pytestmark = pytest.mark.skipif(os.name != "posix", reason="forks and sends POSIX signals")


def row(number: int = 0, **changes: Any) -> Row:
    values: dict[str, Any] = {
        "cell": f"{number:012x}",
        "seed": number,
        "pretrained": "random",
        "image_auroc": 0.75,
        "noisy": True,
        "fps": 12.5,
        "started": "2026-01-01T00:00:00+00:00",
    }
    return make_row(**{**values, **changes})


# Disks


def in_child(action: str, folder: Path, limit: str) -> subprocess.CompletedProcess[str]:
    """Run an action on a store in a process of its own, below a limit."""
    code = (
        "import os, resource, sys\nfrom pathlib import Path\nfrom dataclasses import replace\n"
        "from bench.errors import StoreError\nfrom bench.rows.store import ResultStore\n"
        f"store = ResultStore(Path({str(folder)!r}))\nold = store.rows()[0]\n"
        f"{limit}\ntry:\n    {action}\nexcept StoreError as error:\n"
        "    print(error)\n    sys.exit(2)\n"
    )
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


PUT = "store.put(replace(old, cell='f' * 12, command='x' * 9000))"


def test_a_full_disk_gives_one_line_and_keeps_what_was_there(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    store.put(row())
    limit = "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))"
    done = in_child(PUT, tmp_path, limit)
    assert done.returncode == 2, done.stderr
    assert done.stdout.count("\n") == 1
    assert f"{os.strerror(errno.EFBIG)}); what was there is kept" in done.stdout
    assert store.rows() == [row()]
    assert [f.name for f in (tmp_path / "mtd").iterdir()] == ["padim.csv"]


def test_a_folder_that_cannot_be_written_gives_one_line(tmp_path: Path) -> None:
    if os.geteuid() == 0 and not readable_by_nobody(tmp_path):
        pytest.skip("root may write everywhere, and another user cannot read this folder")
    store = ResultStore(tmp_path)
    store.put(row())
    (tmp_path / "mtd").chmod(0o555)
    tmp_path.chmod(0o555)
    other = "os.setuid(65534)" if os.geteuid() == 0 else "pass"
    try:
        put = in_child(PUT, tmp_path, other)
        lock = in_child("store.lock().__enter__()", tmp_path, other)
    finally:
        tmp_path.chmod(0o755)
        (tmp_path / "mtd").chmod(0o755)
    assert (put.returncode, put.stdout.count("\n")) == (2, 1), put.stderr
    assert "cannot be written (Permission denied); what was there is kept" in put.stdout
    assert lock.returncode == 2, lock.stderr
    assert "choose another folder with --results" in lock.stdout
    assert store.rows() == [row()]


def readable_by_nobody(folder: Path) -> bool:
    for parent in [folder, *folder.parents]:
        # pytest makes its folders private; opened for the test, below a private one they stay so.
        if parent.stat().st_uid == os.geteuid() and parent.name.startswith(("pytest-", "test_")):
            parent.chmod(0o755)
    return all(parent.stat().st_mode & 0o005 == 0o005 for parent in [folder, *folder.parents])


@pytest.mark.parametrize("step", ["mkstemp", "write", "fsync", "replace"])
def test_a_disk_that_fails_at_any_step_keeps_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    store = ResultStore(tmp_path)
    store.put(row())

    def broken(*_arguments: object, **_named: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    target: Any = {"mkstemp": tempfile, "replace": Path}.get(step, os)
    monkeypatch.setattr(target, {"write": "fdopen"}.get(step, step), broken)
    with pytest.raises(StoreError, match="Input/output error"):
        store.put(row(1))
    monkeypatch.undo()
    assert store.rows() == [row()]
    assert list((tmp_path / "mtd").iterdir()) == [tmp_path / "mtd" / "padim.csv"]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_number_that_no_file_may_hold_is_refused_before_anything_is_written(
    tmp_path: Path, value: float
) -> None:
    store = ResultStore(tmp_path)
    store.put(row())
    with pytest.raises(StoreError, match=r"cell 000000000001: column 'fit_s' is -?(nan|inf)"):
        store.put(row(1, fit_s=value))
    assert store.rows() == [row()]


def test_a_command_line_that_is_not_utf_8_is_stored_readably(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    store.put(row(command="bench run --data-root \udcff"))
    assert store.rows()[0].command == "bench run --data-root \\udcff"


# Damage


VALID = Path("valid.csv")


def csv_bytes(folder: Path) -> bytes:
    write_csv(folder / VALID, [row(i, command='a "quoted", text') for i in range(3)])
    return (folder / VALID).read_bytes()


@given(data=st.data())
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_mutilated_file_is_read_or_refused_and_never_changed(
    tmp_path: Path, data: st.DataObject
) -> None:
    content = bytearray(csv_bytes(tmp_path))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content)))
        length = data.draw(st.integers(0, 40))
        odd = st.sampled_from([b"\0", b'"', b"\n", b"\r", b",", b"\xff", b"nan", b"1e999", b"-"])
        content[place : place + length] = data.draw(st.one_of(st.binary(max_size=8), odd))
    file = tmp_path / "mutilated.csv"
    file.write_bytes(bytes(content))
    try:
        rows = read_csv(file)
    except StoreError as error:
        assert str(file) in str(error)  # noqa: PT017 - either outcome is fine
    else:
        write_csv(tmp_path / "again.csv", rows)
        assert len(read_csv(tmp_path / "again.csv")) == len(rows)
    assert file.read_bytes() == bytes(content)


@given(
    column=st.sampled_from(columns()),
    text=st.one_of(
        st.text(st.characters(codec="utf-8", exclude_characters="\r\0"), max_size=12),
        st.sampled_from(["nan", "inf", "1e999", "²", "٣", "9" * 5000, "0x1", "1_0", "", "None"]),
    ),
)
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_in_any_column_is_read_or_refused_with_line_and_column(
    tmp_path: Path, column: str, text: str
) -> None:
    csv_bytes(tmp_path)
    with (tmp_path / VALID).open(newline="", encoding="utf-8") as stream:
        first = next(csv.DictReader(stream))
    file = tmp_path / "one.csv"
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, columns(), lineterminator="\n")
        writer.writeheader()
        writer.writerow({**first, column: text})
    try:
        (found,) = read_csv(file)
    except StoreError as error:
        assert re.search(rf"one.csv:\d+: .*{column}", str(error), re.DOTALL)  # noqa: PT017
    else:
        write_csv(file, [found])


def test_a_file_of_a_newer_schema_is_refused_with_its_line_and_never_rewritten(
    tmp_path: Path,
) -> None:
    store = ResultStore(tmp_path)
    store.put(row(0))
    store.put(row(1))
    file = store.file("mtd", "padim")
    head, first, second = file.read_text().splitlines()
    newer = "\n".join([head, first, f"{SCHEMA + 1}{second[1:]}", ""])
    file.write_text(newer)
    with pytest.raises(StoreError, match=r"padim.csv:3: schema \d is newer .* install a newer"):
        store.put(row(2))
    assert file.read_text() == newer


@pytest.mark.parametrize("schema", ["0", "", "²", "-1", "1.0", "one", "9" * 5000])
def test_a_schema_that_never_was_is_refused(tmp_path: Path, schema: str) -> None:
    store = ResultStore(tmp_path)
    store.put(row(0))
    file = store.file("mtd", "padim")
    head, first = file.read_text().splitlines()
    file.write_text("\n".join([head, f"{schema}{first[1:]}", ""]))
    with pytest.raises(StoreError, match=r"padim.csv:2: column 'schema' holds"):
        store.rows()


def test_a_file_from_before_a_column_was_added_is_read_and_gains_it(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    store.put(row(0))
    file = store.file("mtd", "padim")
    lines = [line.split(",") for line in file.read_text().splitlines()]
    gone = [columns().index(name) for name in ("n_leaked", "unit_ms", "kind")]
    older = [[v for i, v in enumerate(line) if i not in gone] for line in lines]
    file.write_text("\n".join([*(",".join(line) for line in older), ""]))
    assert store.rows() == [row(0)]
    store.put(row(1))
    assert "n_leaked" in file.read_text().splitlines()[0]


def test_a_file_without_a_needed_column_is_refused_whichever_else_is_gone(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    store.put(row(0))
    file = store.file("mtd", "padim")
    lines = [line.split(",") for line in file.read_text().splitlines()]
    gone = [columns().index(name) for name in ("schema", "data")]
    file.write_text(
        "".join(",".join(v for i, v in enumerate(x) if i not in gone) + "\n" for x in lines)
    )
    with pytest.raises(StoreError, match=r":1: column 'data' is missing"):
        store.rows()


# Merging and size


def test_merging_killed_halfway_can_be_repeated(tmp_path: Path) -> None:
    ours, theirs = ResultStore(tmp_path / "a"), ResultStore(tmp_path / "b")
    for number in range(6):
        theirs.put(row(number, method=f"m{number % 3}"))
    ours.put(row(0, method="m0"))
    pid = os.fork()
    if pid == 0:

        def killed(file: Path, rows: list[Row]) -> None:
            if file.name == "m1.csv":
                os.kill(os.getpid(), signal.SIGKILL)
            write_csv(file, rows)

        vars(bench.rows.store)["write_csv"] = killed
        merge(ours, [theirs])
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    merge(ours, [theirs])
    assert ours.rows() == theirs.rows()


def test_merging_several_machines_is_the_same_in_any_order(tmp_path: Path) -> None:
    machines = []
    for number in range(3):
        machines.append(ResultStore(tmp_path / f"machine{number}"))
        for cell in range(number, number + 3):
            started = f"2026-01-0{number + 1}T00:00:00+00:00"
            machines[-1].put(row(cell, started=started, fps=float(number + 1)))
    merged = []
    for name, order in (("x", [0, 1, 2]), ("y", [2, 0, 1]), ("z", [1, 2, 0])):
        target = ResultStore(tmp_path / name)
        merge(target, [machines[i] for i in order])
        merged.append(target.file("mtd", "padim").read_bytes())
    assert merged[0] == merged[1] == merged[2]


@pytest.mark.slow
def test_a_hundred_thousand_rows_render_in_less_time_than_they_are_read(tmp_path: Path) -> None:
    full: dict[str, Any] = dict.fromkeys(("aupro_30", "pixel_auroc", "latency_p50_ms"), 0.5)
    for dataset in range(10):
        for method in range(10):
            rows = [
                row(
                    dataset * 10_000 + method * 1_000 + i,
                    dataset=f"d{dataset}",
                    method=f"m{method}",
                    category=f"c{i % 20}",
                    **full,
                )
                for i in range(1_000)
            ]
            write_csv(tmp_path / f"d{dataset}" / f"m{method}.csv", rows)
    start = time.process_time()
    rows = ResultStore(tmp_path).rows()
    loaded = time.process_time()
    text = render(tables(rows), "txt")
    rendered = time.process_time()
    assert len(rows) == 100_000
    assert "m9" in text
    assert rendered - loaded < loaded - start
