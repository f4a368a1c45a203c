"""Kills writers and whole runs with SIGKILL at random points, and counts what was lost.

    python tests/faults/kill_anywhere.py --rounds 200           # a writer of rows, killed 200 times
    python tests/faults/kill_anywhere.py --rounds 200 --runs 5  # and `bench run`, killed 5 times
    python tests/faults/kill_anywhere.py --rounds 0 --upgrades  # an upgrade, at each of its steps

A round forks a writer that stores rows as the driver does (artifacts, environment, row) and says
each time that a row is stored; after a few of them it is killed, anywhere within the next. Then
every row that was said to be stored must be there, in its last state or a later one, and every
file must parse. An upgrade of an older results folder is killed before each thing that it does to
the disk; readers must find its old state or its new one, and the next writer must end it. Exit code
1 if anything was lost, is corrupt, or is left running.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from bench.errors import BenchError
from bench.plan.cells import Cell
from bench.rows.csv_file import read_schemas, sort_rows, write_csv
from bench.rows.row import Row
from bench.rows.schema import upgraded
from bench.rows.store import ResultStore
from bench.rows.upgrade import STAGE, current
from bench.run.driver import _keep
from bench.run.job import Done, Failure, Job
from bench.settings.config import Paths, Settings
from bench.settings.protocol import Protocol
from bench.settings.speed import SpeedProtocol
from bench.weights.choice import Weights

CELLS = 40
MOST_ROWS = 5
"""A writer is killed after none to so many rows."""


@dataclass
class Tally:
    """What the rounds came to."""

    rounds: int = 0
    finished: int = 0
    lost: int = 0
    corrupt: int = 0
    orphans: int = 0
    interrupted_writes: int = 0

    def text(self) -> str:
        return (
            f"{self.rounds} kills: {self.finished} rows finished, {self.lost} rows lost, "
            f"{self.corrupt} files corrupt, {self.orphans} processes left running "
            f"({self.interrupted_writes} kills hit a write)"
        )


def outcome(results: Path, number: int, step: int) -> tuple[Job, Row]:
    """A job and its row; `step` is what makes a later row of the same cell differ."""
    cell = Cell(
        method=f"method{number % 3}",
        method_version=1,
        params={"width": number},
        dataset="made",
        dataset_version=1,
        dataset_params={},
        category=f"category {number}",
        seed=0,
        protocol=Protocol("standard"),
        pretrained="random",
        data="feed",
    )
    weights, speed = Weights("random"), SpeedProtocol()
    job = Job((cell,), results, "cpu", 1, 0, 8, weights, speed, results / "artifacts")
    row = Row(
        cell=cell.id,
        method=cell.method,
        method_version=1,
        dataset="made",
        dataset_version=1,
        category=cell.category,
        seed=0,
        protocol="standard",
        pretrained="random",
        data="feed",
        code="beef",
        image_auroc=0.5,
        epoch=step,
        env=f"{number % 5:012x}",
        command="x" * 200,
    )
    return job, row


def write_for_ever(results: Path, start: int, said: int) -> None:
    """Store rows as a run does; write "CELL STEP" to the pipe `said` once each is stored."""
    settings = Settings(project=results, paths=Paths(results=results))
    store = ResultStore(results)
    with store.lock():
        os.write(said, b"ready 0\n")
        step = start
        while True:
            step += 1
            job, row = outcome(results, random.randrange(CELLS), step)
            if step % 7 == 0:
                _keep(settings, store, Failure(job, "on purpose", "log", 0.1))
                continue
            folder = job.folder(job.cell)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "history.json").write_text("[]", encoding="utf-8")
            _keep(settings, store, Done(job, row, {"step": str(step)}, 0.1))
            os.write(said, f"{row.cell} {step}\n".encode())


def one_kill(results: Path, start: int) -> dict[str, int]:
    """Fork a writer, kill it at a random point; the rows that it said are stored."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(reading)
            random.seed()
            write_for_ever(results, start, writing)
        finally:
            os._exit(1)
    os.close(writing)
    wanted = random.randint(0, MOST_ROWS)
    said, moments = b"", [time.monotonic()]
    while said.count(b"\n") <= wanted and (more := os.read(reading, 65536)):
        said += more
        moments.append(time.monotonic())
    time.sleep(random.uniform(0.0, 1.5 * (moments[-1] - moments[0]) / len(moments)))
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    while more := os.read(reading, 65536):
        said += more
    os.close(reading)
    lines = [line.split() for line in said.decode().splitlines()]
    if lines[:1] != [["ready", "0"]]:
        raise SystemExit(f"the writer did not start: {lines}")
    return {cell: int(step) for cell, step in lines[1:]}


def examine(results: Path, expected: dict[str, int], tally: Tally) -> None:
    """Count lost rows and corrupt files."""
    rows: dict[str, Row] = {}
    try:
        rows = {row.cell: row for row in ResultStore(results).rows()}
    except BenchError as error:
        tally.corrupt += 1
        print(error)
    for file in (results / "env").glob("*.json"):
        try:
            json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            tally.corrupt += 1
            print(f"{file}: {error}")
    for cell, step in expected.items():
        if cell not in rows or (rows[cell].epoch or 0) < step:
            tally.lost += 1


def kill_writers(rounds: int, tally: Tally) -> None:
    """The cheap part: no torch, a kill every few milliseconds."""
    with tempfile.TemporaryDirectory(prefix="kill-") as folder:
        results = Path(folder) / "results"
        expected: dict[str, int] = {}
        steps = 0
        for number in range(rounds):
            said = one_kill(results, start=number * 100_000)
            steps += len(said)
            expected |= said
            tally.rounds += 1
            tally.interrupted_writes += bool(list(results.rglob("*.tmp")))
            examine(results, expected, tally)
        with ResultStore(results).lock():
            left = list(results.rglob("*.tmp"))
        tally.corrupt += len(left)
        tally.finished += steps


METHODS = ("cflow", "padim", "pyramidflow")
DISK = ("open", "os.rename", "os.link", "os.remove", "os.rmdir", "os.mkdir", "os.symlink")
"""What Python reports before it does it (`sys.addaudithook`)."""


def make_old(results: Path) -> list[Row]:
    """A results folder of schema 1, with artifacts and logs; its rows in the present schema."""
    rows = []
    for number in range(6):
        row = replace(
            outcome(results, number, number)[1],
            schema=1,
            cell=f"{number:012x}",
            method=METHODS[number % 3],
            params={"batch": number},
        )
        rows.append(row)
        artifacts = results / "artifacts" / row.cell
        (artifacts / "maps").mkdir(parents=True)
        (artifacts / "history.json").write_text(row.category, encoding="utf-8")
        (artifacts / "maps" / "0.npy").write_text(row.category, encoding="utf-8")
    for method in METHODS:
        own = [row for row in rows if row.method == method]
        write_csv(results / "made" / f"{method}.csv", own)
    (results / "failures").mkdir()
    (results / "failures" / f"{rows[0].cell}.txt").write_text("failed again", encoding="utf-8")
    return sort_rows(upgraded(row) for row in rows)


def kill_upgrades(tally: Tally) -> None:
    """Kill an upgrade before its first step, its second, and so on until one is through."""
    is_through = False
    while not is_through:
        with tempfile.TemporaryDirectory(prefix="kill-") as folder:
            results = Path(folder) / "results"
            expected = make_old(results)
            is_through = killed_at(results, tally.rounds) == 0
            tally.rounds += 1
            tally.interrupted_writes += (results / STAGE).exists()
            examine_upgrade(results, expected, tally)
            with ResultStore(results).lock():
                left = list(results.glob(".upgrade*"))
            examine_upgrade(results, expected, tally)
            tally.corrupt += len(left)
            found = {path.name for path in (results / "artifacts").iterdir()}
            tally.corrupt += len(found ^ {row.cell for row in expected})
            tally.finished += len(expected)


def killed_at(results: Path, step: int) -> int:
    """Upgrade in a process that kills itself before that step; its exit status."""
    pid = os.fork()
    if pid == 0:
        steps = 0

        def count(event: str, values: tuple[object, ...]) -> None:
            nonlocal steps
            # What deletes a folder names its files without the folder.
            is_ours = event != "open" or str(values[0]).startswith(str(results))
            if event in DISK and is_ours:
                if steps == step:
                    os.kill(os.getpid(), signal.SIGKILL)
                steps += 1

        sys.addaudithook(count)
        with ResultStore(results).lock():
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def examine_upgrade(results: Path, expected: list[Row], tally: Tally) -> None:
    """Every row and artifact must be there, and the files all be old or all be new."""
    store = ResultStore(results)
    rows = store.rows()
    tally.lost += sum(row not in rows for row in expected) + max(0, len(rows) - len(expected))
    states = {schema for file in store.files() for schema in read_schemas(current(file))}
    tally.corrupt += len(states) != 1
    for row in expected:
        for name in ("history.json", "maps/0.npy"):
            file = store.artifacts(row) / name
            tally.lost += not file.is_file() or file.read_text(encoding="utf-8") != row.category
    logs = [log.read_text(encoding="utf-8") for log in (results / "failures").iterdir()]
    tally.lost += logs != ["failed again"]


PROJECT = {
    "bench.toml": "[run]\nspeed = 'one'\nprotocol = 'small'\n[protocols.small]\nresize = [64, 64]\n"
    "[speed.one]\nwarmup_steps_cpu = 1\nmin_steps_cpu = 1\nmin_s_cpu = 0\nmax_batch = 1\n"
    "[datasets.synthetic]\nsize = 64\ntrain = 2\ngood = 1\nbad = 1\n",
    "methods/grey.py": '"""Distance to grey."""\nfrom dataclasses import dataclass\n'
    "from bench.api import Method, Prediction\n\n\n@dataclass\nclass Grey(Method):\n"
    "    def fit(self, train, run):\n        yield {}\n\n"
    "    def predict(self, images):\n        return Prediction(images.abs().mean(1))\n",
}


def kill_runs(count: int, tally: Tally) -> None:
    """`bench run`, killed at random points and resumed; at the end every cell has its row."""
    with tempfile.TemporaryDirectory(prefix="kill-") as name:
        folder = Path(name).resolve()
        for path, text in PROJECT.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text, encoding="utf-8")
        (folder / "datasets").mkdir()
        expected: dict[str, int] = {}
        for _ in range(count):
            run = start_run(folder)
            time.sleep(random.uniform(1.0, 12.0))
            run.kill()
            run.wait()
            tally.rounds += 1
            tally.orphans += await_end(folder)
            examine(folder / "results", expected, tally)
            expected |= {row.cell: 0 for row in ResultStore(folder / "results").rows()}
        if start_run(folder).wait() != 0:
            tally.lost += 1
        examine(folder / "results", expected, tally)
        rows = ResultStore(folder / "results").rows()
        tally.finished += len(rows)
        tally.lost += max(0, 3 - len(rows))


def start_run(folder: Path) -> subprocess.Popen[bytes]:
    """Three cells of a method that costs nothing."""
    command = [sys.executable, "-m", "bench", "run", "-m", "grey", "--device", "cpu"]
    command += ["-c", "bolt,capsule,board", "--threads", "1"]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("BENCH_")}
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL)


def await_end(folder: Path, seconds: float = 60.0) -> int:
    """How many workers have not noticed after a while that their driver is gone.

    They end as soon as they look, but on a busy machine one may have to load torch first.
    """
    end = time.monotonic() + seconds
    while (left := workers_in(folder)) and time.monotonic() < end:
        time.sleep(0.1)
    return len(left)


def workers_in(folder: Path) -> list[psutil.Process]:
    """Processes whose working directory is the project."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.cwd() == str(folder) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


def main() -> int:
    """Run the rounds and print the tally."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=200, help="kills of a writer")
    parser.add_argument("--runs", type=int, default=0, help="kills of `bench run`")
    parser.add_argument("--seed", type=int, default=None, help="of the random points")
    parser.add_argument("--upgrades", action="store_true", help="kill an upgrade at each step")
    given = parser.parse_args()
    random.seed(given.seed)
    writers, runs, upgrades = Tally(), Tally(), Tally()
    if given.rounds:
        kill_writers(given.rounds, writers)
        print(f"writer: {writers.text()}", flush=True)
    if given.runs:
        kill_runs(given.runs, runs)
        print(f"bench run: {runs.text()}", flush=True)
    if given.upgrades:
        kill_upgrades(upgrades)
        print(f"upgrade: {upgrades.text()}", flush=True)
    every = (writers, runs, upgrades)
    total = replace(writers, **{k: sum(getattr(t, k) for t in every) for k in vars(writers)})
    print(f"rows finished {total.finished}, rows lost {total.lost}, files corrupt {total.corrupt}")
    return 1 if total.lost or total.corrupt or total.orphans else 0


if __name__ == "__main__":
    sys.exit(main())
