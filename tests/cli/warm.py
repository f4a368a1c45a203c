"""The command `bench`, run by forks of a process that has imported what it imports.

Starting Python and importing torch costs a run seconds and each of its workers as much: most of
what a test of the command would take. Everything else is as a user has it: a process for the
command with its own folder, variables and output, and one for each cell.

    python -m tests.cli.warm     # reads requests, one JSON object a line; answers with exit codes
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from bench.run import forkserver, local

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

READY = "ready"


class WarmCommand:
    """Started once, asked for many runs; a context manager that ends it."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.cli.warm"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
            env={**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"},
        )
        assert self._answer() == READY

    def __enter__(self) -> WarmCommand:
        return self

    def __exit__(self, *error: object) -> None:
        self._process.communicate()

    def run(
        self, arguments: Sequence[str], cwd: Path, environment: Mapping[str, str]
    ) -> subprocess.CompletedProcess[str]:
        """`bench` with these arguments, as `subprocess.run` would give it."""
        with tempfile.TemporaryDirectory() as folder:
            files = [Path(folder, name) for name in ("stdout", "stderr")]
            request = {
                "arguments": list(arguments),
                "cwd": str(cwd),
                "environment": dict(environment),
                "files": [str(file) for file in files],
            }
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            code = int(self._answer())
            texts = [file.read_text(encoding="utf-8") for file in files]
        return subprocess.CompletedProcess(["bench", *arguments], code, *texts)

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


class _Forked:
    """A forked process, as far as `ForkServer` asks one that it started."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def wait(self) -> int:
        return os.waitpid(self.pid, 0)[1]


class WarmServer(forkserver.ForkServer):
    """A server of workers that is a fork of this process, which has imported what they need."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        pid = os.fork()
        if not pid:
            ours.close()
            os.setsid()
            os.environ.clear()
            os.environ.update(environment)
            forkserver.serve(theirs)
            os._exit(0)
        theirs.close()
        self._socket = ours
        self._lock = threading.Lock()
        self._process: Any = _Forked(pid)
        assert ours.recv(16)


def _spawn(result: Path, environment: Mapping[str, str]) -> forkserver.ForkedWorker:
    return WarmServer(environment).fork(result, environment)


def _serve() -> None:
    for module in ("bench.cli", "rich.progress", *forkserver.PRELOADED):
        importlib.import_module(module)
    vars(local).update(ForkServer=WarmServer, _spawn=_spawn)
    gc.collect()
    gc.freeze()
    print(READY, flush=True)
    for line in sys.stdin:
        pid = os.fork()
        if not pid:
            _become(json.loads(line))
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


def _become(request: Mapping[str, Any]) -> NoReturn:
    """Be the command: its arguments, folder, variables, output; never return into the loop."""
    for target, name in ((0, os.devnull), *zip((1, 2), request["files"], strict=True)):
        opened = os.open(name, os.O_RDWR | os.O_CREAT, 0o600)
        os.dup2(opened, target)
        os.close(opened)
    sys.stdin, sys.stdout, sys.stderr = (
        os.fdopen(number, mode, encoding="utf-8", closefd=False)
        for number, mode in ((0, "r"), (1, "w"), (2, "w"))
    )
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["cwd"])
    sys.argv = ["bench", *request["arguments"]]
    code = 1
    try:
        importlib.import_module("bench.cli").main()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001 - as Python ends a program
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    _serve()
