"""Workers that are forked behave as workers that are started: output, status, groups, ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from bench.run import forkserver
from bench.run.forkserver import ForkedWorker, ForkServer, ForkServerError

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(not forkserver.can_fork(), reason="workers are forked on Linux")

# A server that has imported nothing, whose workers do as they are told.
STAND_IN = """
import os, signal, socket, sys, time
import torch
from bench.run import forkserver
forkserver.PRELOADED = ()
def work():
    import json
    request = json.loads(sys.stdin.readline())
    os.environ.clear()
    os.environ.update(request["environment"])
    exec(request["result"])
    return 0
forkserver._work = work
forkserver.serve(socket.socket(fileno=int(sys.argv[-1])))
"""


@pytest.fixture(scope="module")
def server() -> Iterator[ForkServer]:
    with pytest.MonkeyPatch.context() as patch:
        real = subprocess.Popen

        def popen(command: list[str], **options: object) -> object:
            return real([sys.executable, "-c", STAND_IN, command[-1]], **options)  # type: ignore[call-overload]

        patch.setattr(subprocess, "Popen", popen)
        made = ForkServer(os.environ)
    yield made
    made.close()


def told(server: ForkServer, order: str, **environment: str) -> ForkedWorker:
    return server.fork(order, environment)  # type: ignore[arg-type]


def output(worker: ForkedWorker) -> str:
    text = worker.stdout.read()
    worker.wait(60)
    worker.stdout.close()
    worker.stdin.close()
    return text


@pytest.mark.parametrize(
    ("order", "status"),
    [
        ("pass", 0),
        ("sys.exit(3)", 1),
        ("os._exit(3)", 3),
        ("os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL),
        ("os.abort()", -signal.SIGABRT),
    ],
)
def test_the_exit_status_of_a_worker_is_known(server: ForkServer, order: str, status: int) -> None:
    worker = told(server, order)
    output(worker)
    assert worker.poll() == worker.returncode == status


def test_output_and_errors_come_in_order_and_a_traceback_with_them(server: ForkServer) -> None:
    order = "print('one'); sys.stderr.write('two\\n'); os.system('echo three'); raise KeyError('x')"
    lines = output(told(server, order, PATH=os.environ["PATH"])).splitlines()
    assert lines[:3] == ["one", "two", "three"]
    assert lines[3].startswith("Traceback")
    assert lines[-1] == "KeyError: 'x'"


def test_a_worker_has_the_environment_that_was_asked_for_and_no_other(server: ForkServer) -> None:
    text = output(told(server, "print(dict(os.environ))", ONE="1", TWO="\u00e9"))
    assert text == "{'ONE': '1', 'TWO': '\u00e9'}\n"


def test_a_worker_leads_a_group_of_its_own_from_the_moment_that_it_is_known(
    server: ForkServer,
) -> None:
    for _ in range(20):
        worker = told(server, "time.sleep(600)")
        os.killpg(worker.pid, signal.SIGKILL)
        output(worker)
        assert worker.returncode == -signal.SIGKILL


def test_a_worker_that_runs_has_no_status_and_waiting_ends_at_the_limit(server: ForkServer) -> None:
    worker = told(server, "sys.stdin.read()")
    assert worker.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        worker.wait(0.05)
    worker.stdin.close()
    assert output(worker) == ""
    assert worker.returncode == 0


def test_workers_hold_no_pipe_of_another(server: ForkServer) -> None:
    first = told(server, "sys.stdin.read()")
    second = told(server, "sys.stdin.read()")
    for worker in (first, second):
        worker.stdin.close()
        assert output(worker) == ""
        assert worker.returncode == 0


def test_the_server_runs_no_thread_and_has_no_cuda_context(server: ForkServer) -> None:
    assert psutil.Process(server._process.pid).num_threads() == 1
    order = "import torch; print(torch.cuda.is_initialized(), len(os.listdir('/proc/self/task')))"
    assert output(told(server, order)) == "False 1\n"


def test_a_worker_outlives_a_server_that_is_killed_and_its_end_is_seen() -> None:
    server = ForkServer({**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"})
    assert psutil.Process(server._process.pid).num_threads() == 1  # with all that cells need
    worker = server.fork(Path("result.json"), os.environ)
    server._process.kill()
    server._process.wait()
    assert psutil.pid_exists(worker.pid)
    with pytest.raises(ForkServerError, match="the fork server"):
        server.fork(Path("other.json"), os.environ)
    os.killpg(worker.pid, signal.SIGKILL)
    output(worker)
    assert worker.returncode is None
    server.close()


def test_a_server_that_cannot_import_says_why() -> None:
    environment = {**os.environ, "PYTHONPATH": "", "PYTHONHOME": "/nowhere"}
    with pytest.raises(ForkServerError, match=r"the fork server ended: ."):
        ForkServer(environment)


def test_nothing_stays_when_the_driver_is_killed(tmp_path: Path) -> None:
    code = (
        "import os, sys, time\n"
        "from bench.run.forkserver import ForkServer\n"
        "from pathlib import Path\n"
        "server = ForkServer({**os.environ, 'OMP_NUM_THREADS': '1'})\n"
        "worker = server.fork(Path('result.json'), os.environ)\n"
        "print(server._process.pid, worker.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    driver = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=tmp_path
    )
    assert driver.stdout is not None
    pids = [int(pid) for pid in driver.stdout.readline().split()]
    driver.kill()
    driver.wait()
    driver.stdout.close()
    deadline = time.monotonic() + 60
    while any(map(psutil.pid_exists, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(psutil.pid_exists, pids))
