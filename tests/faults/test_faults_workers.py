"""Workers that misbehave: each is a recorded failure with its cause and log, the others go on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

import bench.run.local
from bench.plan.cells import Cell
from bench.rows.column import FOUND
from bench.rows.row import columns
from bench.rows.store import ResultStore
from bench.run.executors import ignore
from bench.run.forkserver import ForkServerError, can_fork
from bench.run.job import Done, Failure, Job
from bench.run.local import LocalExecutor
from bench.settings.protocol import Protocol
from bench.settings.speed import SpeedProtocol
from bench.weights.choice import Weights

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bench.run.executors import OnEvent

pytestmark = pytest.mark.skipif(os.name != "posix", reason="sends POSIX signals")

# A worker without torch: it reads its job as `bench.run.worker` does and then does what it is told.
STAND_IN = """
import json, os, resource, signal, subprocess, sys, time
job = json.loads(sys.stdin.readline())
told = job["cells"][0]["params"]["told"]
identity = dict(cell="0" * 12, method="m", method_version=1, dataset="d", dataset_version=1,
    category="c", seed=job["cells"][0]["seed"], protocol="p", pretrained="none", data="f", code="b")
def finish():
    with open(sys.argv[1], "w") as stream:
        json.dump({"row": identity, "environment": {}}, stream)
exec(told)
"""


PROTOCOLS = Protocol("p"), Protocol("q", mask_size="native")


def job(told: str, seed: int = 0, protocols: Sequence[Protocol] = PROTOCOLS[:1]) -> Job:
    params = {"told": told}
    cells = [Cell("m", 1, params, "d", 1, {}, "c", seed, p, "none", "f") for p in protocols]
    weights, speed = Weights("random"), SpeedProtocol()
    return Job(tuple(cells), Path("data"), "cpu", 1, 0, 8, weights, speed, Path("out"))


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Any:
    """`run([told, ...])`: outcomes of stand-in workers, in the order of the jobs."""

    def spawn(result: Path, environment: Mapping[str, str]) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", STAND_IN, str(result)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=dict(environment),
            start_new_session=True,
        )

    def outcomes(
        orders: Sequence[str | Job], slots: int = 2, on_event: OnEvent = ignore, **options: Any
    ) -> list[Done | Failure]:
        jobs = [told if isinstance(told, Job) else job(told, n) for n, told in enumerate(orders)]
        monkeypatch.setattr(bench.run.local, "_spawn", spawn)
        executor = LocalExecutor([{}] * slots, **{"fork": False, **options})
        found = list(executor.map(jobs, on_event))
        assert len(found) == sum(len(one.cells) for one in jobs)
        return sorted(found, key=lambda o: o.job.cell.seed)

    return outcomes


BAD = {
    "print('some output'); sys.exit(3)": "exited with status 3 and left no result",
    "sys.exit(0)": "exited with status 0 and left no result",
    "os.kill(os.getpid(), signal.SIGKILL)": "ended by SIGKILL; the system may have run out of",
    "os.kill(os.getpid(), signal.SIGSEGV)": "ended by SIGSEGV; native code crashed",
    "os.abort()": "ended by SIGABRT; native code gave up",
    "open(sys.argv[1], 'w').write('{\"row\"')": "result cannot be read",
    "os.kill(os.getpid(), 40)": "ended by signal 40",
}


def test_each_way_to_die_is_a_failure_with_its_cause_and_the_others_go_on(run: Any) -> None:
    *failures, done = run([*BAD, "finish()"])
    assert isinstance(done, Done)
    for failure, text in zip(failures, BAD.values(), strict=True):
        assert isinstance(failure, Failure)
        assert text in failure.cause
    assert failures[0].log == "some output\n"


def test_a_worker_that_dies_leaves_the_rows_of_its_cells_that_were_finished(
    run: Any,
) -> None:
    told = "finish(); os.kill(os.getpid(), signal.SIGKILL)"
    done, failure = run([job(told, protocols=PROTOCOLS)])
    assert isinstance(done, Done)
    assert isinstance(failure, Failure)
    assert "ended by SIGKILL" in failure.cause
    assert [one.job.cells for one in (done, failure)] == [
        (cell,) for cell in job(told, protocols=PROTOCOLS).cells
    ]


def test_cells_that_share_a_training_have_the_time_of_all(run: Any) -> None:
    found = run([job("time.sleep(600)", protocols=PROTOCOLS)], timeout=0.25)
    assert [one.cause for one in found] == [
        "no result within 0.5 s ([run].timeout); it was ended"
    ] * 2


def test_a_worker_that_ignores_the_request_to_end_is_killed(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench.run.local, "GRACE_S", 0.3)
    told = "signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
    # In one slot: the second starts only once the first is gone.
    for failure in run([told, told], slots=1, timeout=1.5):
        assert "no result within 1.5 s" in failure.cause


def test_a_process_that_a_dead_worker_left_is_ended_and_not_waited_for(
    run: Any, tmp_path: Path
) -> None:
    note = tmp_path / "pid"
    told = (
        f"p = subprocess.Popen(['sleep', '600']); open({str(note)!r}, 'w').write(str(p.pid)); "
        "os.kill(os.getpid(), signal.SIGSEGV)"
    )
    start = time.monotonic()
    (failure,) = run([told])
    assert time.monotonic() - start < 60
    assert "SIGSEGV" in failure.cause
    assert is_gone(int(note.read_text()))


@pytest.mark.parametrize("line", ["5", "null", "[1]", "{", '{"epoch": {}, "loss": null}', '"x"'])
def test_an_event_that_a_plugin_made_up_does_no_harm(run: Any, line: str) -> None:
    def on_event(_job: Job, event: Mapping[str, Any]) -> None:
        assert isinstance(event, dict)
        f"{event['loss']:.4g}"

    (done,) = run([f"print('@bench ' + {line!r}); finish()"], on_event=on_event)
    assert isinstance(done, Done)


def test_only_the_end_of_an_endless_log_is_kept(run: Any) -> None:
    (failure,) = run(["[print(i) for i in range(5000)]; sys.exit(1)"])
    lines = failure.log.splitlines()
    assert (len(lines), lines[-1]) == (bench.run.local.LOG_LINES, "4999")


def test_without_room_for_temporary_files_cells_fail_and_the_run_ends(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_arguments: object, **_named: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "mkdtemp", full)
    failures = run(["finish()", "finish()", "finish()"])
    assert all("No space left on device" in f.cause for f in failures)


def test_many_cells_on_many_slots_all_come_back_once(run: Any) -> None:
    orders = [told for told in ("finish()", "sys.exit(1)") for _ in range(6)]
    found = run(orders, slots=4)
    assert [isinstance(o, Done) for o in found] == [True] * 6 + [False] * 6


def is_gone(pid: int) -> bool:
    for _ in range(100):
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.1)
    return False


# The real worker


METHOD = '''"""{name}."""
from dataclasses import dataclass

from bench.api import Method, Prediction


class Strange(Exception):
    """Neither pickles nor prints."""

    def __init__(self, a, b):
        self.lock = __import__("threading").Lock()

    def __str__(self):
        return self.args


@dataclass
class {title}(Method):
    def fit(self, train, run):
        {fit}
        yield {{}}

    def predict(self, images):
        return Prediction(images.abs().mean(1))
'''
METHODS = {
    "memory": "import resource; resource.setrlimit(resource.RLIMIT_AS, (2**33, 2**33)); "
    "x = bytearray(2**34)",
    "odd": "raise Strange(1, 2)",
    "surrogate": "raise RuntimeError('file \\udcff')",
    "parent": "import os, subprocess; p = subprocess.Popen(['sleep', '600']); "
    "open('left', 'w').write(str(p.pid)); os.kill(os.getpid(), 9)",
    "fine": "pass",
}
CAUSES = {
    "memory": "MemoryError",
    "odd": "left no result",
    "surrogate": "RuntimeError: file \\udcff",
    "parent": "ended by SIGKILL; the system may have run out of memory",
}
SETTINGS = """
[run]
speed = 'one'
protocol = 'small'
[protocols.small]
resize = [64, 64]
[speed.one]
warmup_steps_cpu = 1
min_steps_cpu = 1
min_s_cpu = 0
max_batch = 1
[datasets.synthetic]
size = 64
train = 2
good = 1
bad = 1
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project whose methods misbehave."""
    (tmp_path / "methods").mkdir()
    (tmp_path / "datasets").mkdir()
    (tmp_path / "bench.toml").write_text(SETTINGS, encoding="utf-8")
    for name, fit in METHODS.items():
        text = METHOD.format(name=name, title=name.title(), fit=fit)
        (tmp_path / "methods" / f"{name}.py").write_text(text, encoding="utf-8")
    return tmp_path


def start(project: Path, *arguments: str) -> subprocess.Popen[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("BENCH_")}
    command = [sys.executable, "-m", "bench", "run", "--device", "cpu", "--threads", "1"]
    return subprocess.Popen(
        [*command, "-c", "bolt", *arguments],
        cwd=project,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.slow
def test_real_workers_that_fail_are_recorded_with_cause_and_log(project: Path) -> None:
    run = start(project, "-m", ",".join(METHODS))
    output, _ = run.communicate()
    assert run.returncode == 1, output
    assert [r.method for r in ResultStore(project / "results").rows()] == ["fine"]
    logs = [f.read_text() for f in (project / "results" / "failures").glob("*.txt")]
    for name, cause in CAUSES.items():
        (log,) = [text for text in logs if text.startswith(f"{name} ")]
        assert cause in log.splitlines()[1]
        assert "Traceback" in log or name == "parent"
    assert is_gone(int((project / "left").read_text()))


@pytest.mark.skipif(not can_fork(), reason="workers are forked on Linux")
def test_without_a_fork_server_each_cell_starts_anew_and_the_run_says_so(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_environment: object) -> None:
        raise ForkServerError("the fork server ended: no module named torch")

    events: list[Mapping[str, Any]] = []
    monkeypatch.setattr(bench.run.local, "ForkServer", broken)
    found = run(
        ["finish()"] * 3, fork=True, on_event=lambda _job, event: events.append(event), slots=1
    )
    assert all(isinstance(outcome, Done) for outcome in found)
    text = "the fork server ended: no module named torch; each cell starts a process of its own"
    assert [event["warning"] for event in events] == [text]


@pytest.mark.slow
def test_a_forked_worker_measures_the_same_scores_as_one_that_is_started_anew(
    project: Path,
) -> None:
    # A single cell starts a process of its own.
    for arguments in (("--seed", "1"), ("--seeds", "0,1,2")):
        folder = "-".join(arguments)
        done = start(project, "-m", "fine", *arguments, "--results", folder)
        output, _ = done.communicate()
        assert done.returncode == 0, output
    (anew,) = ResultStore(project / "--seed-1").rows()
    forked = ResultStore(project / "--seeds-0,1,2").rows()
    assert [row.seed for row in forked] == [0, 1, 2]
    for column in columns(*FOUND):
        assert getattr(forked[1], column) == getattr(anew, column)
    assert forked[1].threads == anew.threads
    assert forked[1].env == anew.env


@pytest.mark.slow
def test_a_failed_cell_is_tried_again_at_the_next_run_and_a_finished_one_is_not(
    project: Path,
) -> None:
    first, _ = start(project, "-m", "odd,fine").communicate()
    assert "1/2" in first
    (project / "methods" / "odd.py").write_text(
        METHOD.format(name="odd", title="Odd_", fit="pass"), encoding="utf-8"
    )
    run = start(project, "-m", "odd,fine")
    output, _ = run.communicate()
    assert run.returncode == 0, output
    assert "1 of 2 cells have a row already" in output
    assert list((project / "results" / "failures").iterdir()) == []


@pytest.mark.slow
def test_ctrl_c_once_finishes_the_cell_that_runs_and_starts_no_other(project: Path) -> None:
    file = project / "methods" / "fine.py"
    wait = "while not __import__('os').path.exists('go'): __import__('time').sleep(0.05)"
    file.write_text(file.read_text().replace("pass", wait))
    run = start(project, "-m", "fine", "--seeds", "0,1,2")
    assert run.stdout is not None
    assert any("reading" in line for line in run.stdout)
    run.send_signal(signal.SIGINT)
    assert any("finishing the cells that run" in line for line in run.stdout)
    (project / "go").touch()
    output, _ = run.communicate()
    assert run.returncode == 130, output
    assert [r.seed for r in ResultStore(project / "results").rows()] == [0]
    assert not (project / "results" / ".lock").exists()


def test_a_result_that_is_not_finite_is_refused() -> None:
    from bench.errors import MethodError
    from bench.rows.row import Row
    from bench.run.cell import refuse_not_finite

    identity: dict[str, Any] = json.loads(
        '{"cell": "0", "method": "m", "method_version": 1, "dataset": "d", "dataset_version": 1, '
        '"category": "c", "seed": 0, "protocol": "p", "pretrained": "none", "data": "f", '
        '"code": "b"}'
    )
    refuse_not_finite(Row(**identity, fps=1.0))
    for value in (float("nan"), float("inf")):
        with pytest.raises(MethodError, match=f"fps is {value}; not a result"):
            refuse_not_finite(Row(**identity, fps=value))
