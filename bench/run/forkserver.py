"""A process that has imported what cells need, and forks a worker for each: cells start at once.

The server runs no thread and touches no GPU, since a forked process inherits neither whole. It
reads requests from a socket of the driver's, and ends when the driver closes it or is gone. Each
request brings three descriptors: the worker's standard input, its output, and a pipe for its
process number and exit status.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from typing import IO, TYPE_CHECKING, NoReturn

from bench.errors import BenchError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

PRELOADED = ("bench.run.cell", "timm", "scipy.ndimage", "PIL.Image")
"""What the server imports: the torch side of a run, and what cells import on first use."""


def can_fork() -> bool:
    """Whether workers can be forked: on Linux; the system libraries of macOS do not survive it."""
    return sys.platform.startswith("linux")


class ForkServerError(BenchError):
    """The server did not start, or is gone."""


class ForkedWorker:
    """A worker that the server forked; waited for as a `subprocess.Popen` is.

    Attributes:
        pid: of the worker, which leads a process group of its own.
        stdin: kept open by the driver; the worker ends when it closes.
        stdout: output and errors of the worker, as text.
        returncode: None until it ended, and for good where the server ended before it.
    """

    def __init__(self, stdin: int, stdout: int, status: int) -> None:
        self.stdin: IO[str] = os.fdopen(stdin, "w", encoding="utf-8")
        self.stdout: IO[str] = os.fdopen(stdout, encoding="utf-8", errors="replace")
        self.returncode: int | None = None
        self._status = os.fdopen(status, encoding="ascii")
        first = self._status.readline()
        if not first:
            self._close()
            raise ForkServerError("the fork server ended before it forked a worker")
        self.pid = int(first)
        self._ended = threading.Event()
        threading.Thread(target=self._wait_for_status, daemon=True).start()

    def poll(self) -> int | None:
        """The exit status, negative for a signal; None while the worker runs."""
        return self.returncode if self._ended.is_set() else None

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait for the end of the worker.

        Raises:
            subprocess.TimeoutExpired: it still runs after `timeout` seconds.
        """
        if not self._ended.wait(timeout):
            raise subprocess.TimeoutExpired("worker", timeout or 0.0)
        return self.returncode

    def kill(self) -> None:
        """End it at once."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def _wait_for_status(self) -> None:
        with self._status:
            line = self._status.readline()
        if line:
            self.returncode = int(line)
        self._ended.set()

    def _close(self) -> None:
        for stream in (self.stdin, self.stdout, self._status):
            with suppress(OSError):
                stream.close()


class ForkServer:
    """The driver's side: starts the server, and asks it for workers.

    Args:
        environment: of the server; a worker's own changes come with each request.

    Raises:
        ForkServerError: the server ended while it imported; the message has its last line.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket = ours
        self._lock = threading.Lock()
        with theirs, tempfile.TemporaryFile() as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "bench.run.forkserver", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
                env=dict(environment),
                pass_fds=(theirs.fileno(),),
                start_new_session=True,  # Ctrl-C is the driver's to handle
            )
            theirs.close()
            ready = ours.recv(16)
            if not ready:
                self._process.wait()
                errors.seek(0)
                lines = errors.read().decode(errors="replace").strip().splitlines()
                ours.close()
                raise ForkServerError(
                    f"the fork server ended: {lines[-1] if lines else 'silently'}"
                )

    def fork(self, result: Path, environment: Mapping[str, str]) -> ForkedWorker:
        """A new worker that writes to `result`; it waits for its job on standard input.

        Raises:
            ForkServerError: the server is gone.
        """
        stdin, worker_stdin = _pipe_to_worker()
        stdout, worker_stdout = os.pipe()
        status, worker_status = os.pipe()
        given = (worker_stdin, worker_stdout, worker_status)
        try:
            with self._lock:
                socket.send_fds(self._socket, [b"fork"], given)
        except OSError as error:
            for descriptor in (stdin, stdout, status):
                os.close(descriptor)
            raise ForkServerError(f"the fork server is gone: {error}") from error
        finally:
            for descriptor in given:
                os.close(descriptor)
        worker = ForkedWorker(stdin, stdout, status)
        request = {"result": str(result), "environment": dict(environment)}
        with suppress(BrokenPipeError):  # it died at once: its exit status says why
            worker.stdin.write(json.dumps(request) + "\n")
            worker.stdin.flush()
        return worker

    def close(self) -> None:
        """End the server; workers that still run go on."""
        self._socket.close()
        self._process.wait()


def _pipe_to_worker() -> tuple[int, int]:
    """The writing end for the driver, the reading end for the worker."""
    reading, writing = os.pipe()
    return writing, reading


# The server's side


def serve(requests: socket.socket) -> None:
    """Import what cells need, then fork a worker for each request until the driver is gone."""
    for module in PRELOADED:
        importlib.import_module(module)
        if _is_closed(requests):
            return
    sys.modules["torch"].compiler.reset()  # loads the compiler, as optimisers do on first use
    gc.collect()
    gc.freeze()  # so that workers do not look through all this at each collection
    wake, woken = os.pipe()
    os.set_blocking(woken, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(woken)
    statuses: dict[int, int] = {}
    selector = selectors.DefaultSelector()
    selector.register(requests, selectors.EVENT_READ)
    selector.register(wake, selectors.EVENT_READ)
    requests.send(b"ready")
    while True:
        ready = {key.fd for key, _ in selector.select()}
        if wake in ready:
            os.read(wake, 4096)
            _report(statuses)
        if requests.fileno() in ready:
            message, descriptors, _, _ = socket.recv_fds(requests, 16, 3)
            if not message:
                return
            pid = os.fork()
            if not pid:
                signal.set_wakeup_fd(-1)
                selector.close()
                requests.close()
                for descriptor in (wake, woken, *statuses.values()):
                    os.close(descriptor)
                _become_worker(*descriptors)
            # In both processes: whichever comes first, nobody sees the worker without its group.
            with suppress(ProcessLookupError, PermissionError):
                os.setpgid(pid, pid)
            stdin, stdout, statuses[pid] = descriptors
            os.close(stdin)
            os.close(stdout)
            os.write(statuses[pid], f"{pid}\n".encode())


def _is_closed(requests: socket.socket) -> bool:
    """Whether the driver is gone: importing takes seconds, too long to stay behind."""
    with suppress(BlockingIOError):
        return not requests.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    return False


def _report(statuses: dict[int, int]) -> None:
    """Tell the driver of the workers that ended."""
    while statuses:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        descriptor = statuses.pop(pid)
        with suppress(BrokenPipeError):  # the driver is gone
            os.write(descriptor, f"{os.waitstatus_to_exitcode(status)}\n".encode())
        os.close(descriptor)


def _become_worker(stdin: int, stdout: int, status: int) -> NoReturn:
    """Run one job in the forked process, as `python -m bench.run.worker` does in a new one.

    The status pipe stays open to its end, so that the driver sees it even without the server.
    """
    os.setpgid(0, 0)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for source, target in ((stdin, 0), (stdout, 1), (stdout, 2)):
        os.dup2(source, target)
    os.close(stdin)
    os.close(stdout)
    sys.stdin = os.fdopen(0, encoding="utf-8", closefd=False)
    sys.stdout = os.fdopen(1, "w", 1, encoding="utf-8", errors="backslashreplace", closefd=False)
    sys.stderr = os.fdopen(2, "w", 1, encoding="utf-8", errors="backslashreplace", closefd=False)
    code = 1
    try:
        code = _work()
    except BaseException:  # noqa: BLE001 - nothing may return into the server's loop
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _work() -> int:
    from threadpoolctl import threadpool_limits

    from bench.run.worker import run

    request = json.loads(sys.stdin.readline())
    os.environ.clear()
    os.environ.update(request["environment"])
    # Libraries read this variable when they are loaded, which was in the server.
    threadpool_limits(int(os.environ["OMP_NUM_THREADS"]))
    sys.argv = ["bench.run.worker", request["result"]]
    return run(request["result"])


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as connection:
        serve(connection)
