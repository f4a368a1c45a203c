"""Writers of the store that are killed, and several at once."""

from __future__ import annotations

import importlib.util
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import bench.rows.csv_file
import bench.rows.store
import bench.run.driver
from bench.errors import StoreError
from bench.rows.store import ResultStore
from tests.row_maker import make_row

if TYPE_CHECKING:
    from types import ModuleType

pytestmark = pytest.mark.skipif(os.name != "posix", reason="forks and sends POSIX signals")
SCRIPT = Path(__file__).parent / "kill_anywhere.py"


def load_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("kill_anywhere", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["kill_anywhere"] = module
    spec.loader.exec_module(module)
    return module


def test_a_writer_killed_at_random_points_loses_no_row_and_spoils_no_file() -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--rounds", "60"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.search(r"rows finished (\d+), rows lost 0, files corrupt 0", done.stdout)
    assert found is not None, done.stdout
    assert int(found[1]) >= 60


def test_the_killing_would_find_a_writer_that_is_not_atomic(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def in_place(file: Path, content: bytes) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("wb", buffering=0) as stream:
            for start in range(0, len(content), 256):
                stream.write(content[start : start + 256])
                time.sleep(0.0002)  # as on a slow disk: a fast one is done before most kills

    script = load_script()
    random.seed(0)
    monkeypatch.setattr(bench.rows.csv_file, "replace_file", in_place)
    monkeypatch.setattr(bench.run.driver, "replace_file", in_place)
    tally = script.Tally()
    # A writer that finds a spoiled file is refused and does not start; it was counted before.
    with suppress(SystemExit):
        while not tally.lost + tally.corrupt and tally.rounds < 400:
            script.kill_writers(20, tally)
    assert tally.lost + tally.corrupt > 0


def test_an_upgrade_killed_at_any_step_leaves_the_old_state_or_the_new_one() -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--rounds", "0", "--upgrades"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.search(r"upgrade: (\d+) kills: .* 0 rows lost, 0 files corrupt", done.stdout)
    assert found is not None, done.stdout
    assert int(found[1]) > 100  # as many as an upgrade has steps


def test_the_killing_would_find_an_upgrade_file_by_file(monkeypatch: pytest.MonkeyPatch) -> None:
    script = load_script()
    monkeypatch.setattr(bench.rows.store, "current", lambda file: file)
    monkeypatch.setattr(script, "current", lambda file: file)
    tally = script.Tally()
    script.kill_upgrades(tally)
    assert tally.corrupt > 0


@pytest.mark.slow
def test_a_run_killed_at_a_random_point_leaves_no_process_and_can_be_resumed() -> None:
    command = [sys.executable, str(SCRIPT), "--rounds", "0", "--runs", "2"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 processes left running" in done.stdout


def test_of_many_processes_that_find_a_stale_lock_one_takes_it(tmp_path: Path) -> None:
    (tmp_path / ".lock").write_text('{"pid": 1, "started": 1.0}', encoding="utf-8")
    over = tmp_path / "over"
    children = {fork_holder(tmp_path, over) for _ in range(8)}
    codes: list[int] = []
    end = time.monotonic() + 60
    while len(codes) < 7 and time.monotonic() < end:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid in children:
            codes.append(os.waitstatus_to_exitcode(status))
            children.remove(pid)
        time.sleep(0.01)
    over.touch()
    codes += [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
    assert codes == [3] * 7 + [0]
    assert not (tmp_path / ".lock").exists()


def fork_holder(folder: Path, over: Path) -> int:
    """A process that takes the lock and keeps it until the file is there; 3 if it is refused."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            with ResultStore(folder).lock():
                while not over.exists():
                    time.sleep(0.01)
            code = 0
        except StoreError:
            code = 3
        finally:
            os._exit(code)
    return pid


def test_the_lock_of_a_killed_process_is_free_at_once(tmp_path: Path) -> None:
    pid = os.fork()
    if pid == 0:
        with ResultStore(tmp_path).lock():
            time.sleep(60)
        os._exit(0)
    while not (tmp_path / ".lock").exists() or not (tmp_path / ".lock").read_text():
        time.sleep(0.01)
    with pytest.raises(StoreError, match=f"in use by process {pid}"), ResultStore(tmp_path).lock():
        pass
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    with ResultStore(tmp_path).lock():
        assert json.loads((tmp_path / ".lock").read_text())["pid"] == os.getpid()


@pytest.mark.parametrize("content", ["", "[]", "nonsense", '{"pid": "x"}', "\0\0\0"])
def test_a_lock_file_with_any_content_is_taken_if_nobody_holds_it(
    tmp_path: Path, content: str
) -> None:
    (tmp_path / ".lock").write_text(content, encoding="utf-8")
    with ResultStore(tmp_path).lock():
        pass
    assert not (tmp_path / ".lock").exists()


def test_what_a_killed_writer_left_half_written_is_removed(tmp_path: Path) -> None:
    ResultStore(tmp_path).put(make_row())
    left = tmp_path / "mtd" / ".padim.csv.abc.tmp"
    left.write_text("cell,meth", encoding="utf-8")
    assert ResultStore(tmp_path).rows() == [make_row()]
    with ResultStore(tmp_path).lock():
        assert not left.exists()
