from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import threading
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console

from bench.plan.cells import Cell
from bench.run.driver import _Interrupts
from bench.run.in_process import InProcessExecutor
from bench.run.job import Job
from bench.run.local import LocalExecutor, describe_exit
from bench.run.progress import TimeLeft, duration
from bench.settings.protocol import Protocol
from bench.settings.speed import SPEEDS
from bench.weights.choice import Weights

if TYPE_CHECKING:
    from typing_extensions import Buffer


def job(method: str = "padim", seed: int = 0, **changes: Any) -> Job:
    cell = Cell(
        method=method,
        method_version=1,
        params={"layers": [1, 2]},
        dataset="mtd",
        dataset_version=1,
        dataset_params={},
        category="tile",
        seed=seed,
        protocol=Protocol("standard"),
        pretrained="random",
        data="feed",
    )
    values: dict[str, Any] = {
        "cells": (cell,),
        "root": Path("data"),
        "device": "cpu",
        "threads": 1,
        "loaders": 0,
        "batch": 8,
        "weights": Weights("random"),
        "speed": SPEEDS["brief"],
        "artifacts": Path("out"),
    }
    return Job(**{**values, **changes})


def test_a_job_survives_the_way_to_a_worker() -> None:
    first = job(save_maps=True, command="bench run", cache=Path("cache"))
    again = Job.from_json(first.to_json())
    assert again == first
    assert "\n" not in first.to_json()


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (-9, "SIGKILL; the system may have run out of memory"),
        (-11, "SIGSEGV; native code crashed"),
        (3, "exited with status 3 and left no result"),
    ],
)
def test_an_exit_status_is_put_in_words(status: int, text: str) -> None:
    assert text in describe_exit(status)


def test_a_training_in_this_process_is_let_go_before_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    held: list[weakref.ref[Any]] = []

    class Trained:
        def row(self, cell: Cell) -> tuple[str, dict[str, str]]:
            return cell.method, {}

    def train(job: Job, report: object) -> Trained:
        assert not [trained for trained in held if trained() is not None]
        trained = Trained()
        held.append(weakref.ref(trained))
        return trained

    monkeypatch.setattr("bench.run.cell.train", train)
    assert len(list(InProcessExecutor().map([job(seed=seed) for seed in range(3)]))) == 3
    assert len(held) == 3


def test_nothing_to_run_gives_nothing() -> None:
    assert list(LocalExecutor([{}]).map([])) == []


def test_the_time_left_follows_each_methods_own_mean() -> None:
    jobs = [job("fast", 0), job("fast", 1), job("slow", 0), job("slow", 1)]
    left = TimeLeft(jobs, slots=1)
    assert left.seconds() is None
    left.note(jobs[0], 1.0)
    left.note(jobs[2], 9.0)
    assert left.seconds() == 10.0
    left.note(jobs[1], 3.0)
    assert left.seconds() == 9.0


def test_on_two_slots_the_time_left_is_half_as_long() -> None:
    left = TimeLeft([job("known", 0), job("known", 1), job("unknown", 0)], slots=2)
    left.note(job("known", 0), 4.0)
    assert left.seconds() == 4.0


@pytest.mark.parametrize(
    ("seconds", "text"), [(5.2, "5 s"), (65, "1 min 05 s"), (3661, "1 h 01 min")]
)
def test_durations_are_written_as_people_say_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text


class Screen(io.RawIOBase):
    """Gets a Ctrl-C while it is written to."""

    def __init__(self) -> None:
        self.text = b""
        self.done = threading.Event()

    def writable(self) -> bool:
        return True

    def write(self, data: Buffer) -> int:
        part = bytes(data)
        self.text += part
        if part == b"a row":
            signal.raise_signal(signal.SIGINT)
        elif b"Ctrl-C again" in self.text:
            self.done.set()
        return len(part)


def test_ctrl_c_while_a_line_is_printed_stops_after_the_cells_that_run() -> None:
    screen = Screen()
    file = io.TextIOWrapper(io.BufferedWriter(screen), write_through=True)
    executor = LocalExecutor([{}])
    with _Interrupts(executor, Console(file=file)) as interrupts:
        file.write("a row")
        file.flush()
        assert screen.done.wait(60)
    assert interrupts.count == 1
    assert list(executor.map([job()])) == []


def test_folders_of_killed_drivers_are_cleared_and_those_of_others_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    kept = [f"bench-{os.getpid()}-x", "bench-notes-x", "other-1-x"]
    for name in (f"bench-{gone.pid}-x", *kept):
        (tmp_path / name).mkdir()
        (tmp_path / name / "result.json").touch()
    assert list(LocalExecutor([{}]).map([])) == []
    assert sorted(folder.name for folder in tmp_path.iterdir()) == sorted(kept)
