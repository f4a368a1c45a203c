"""One writer for each results folder: a file that the system keeps locked while its owner lives."""

from __future__ import annotations

import json
import os
import socket
import sys
from typing import IO, TYPE_CHECKING, Any

import psutil

from bench.errors import StoreError

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

if sys.platform != "win32":
    import fcntl


class Lock:
    """Held inside a `with`; the file names its owner, for the message to everyone else.

    The system drops the lock of a process that dies, however it dies, so a file that is left
    behind is stale and is taken over without a race. A file that names another machine is
    respected: not every network file system passes locks on.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._stream: IO[str] | None = None

    def __enter__(self) -> Lock:
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            while self._stream is None:
                self._stream = self._take()
        except OSError as error:
            raise StoreError(
                f"{self.file.parent} cannot be written ({error.strerror}); "
                "choose another folder with --results"
            ) from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._stream is not None
        # Removed while held: whoever opened it meanwhile finds another file, or none, under its
        # name, and starts again.
        if sys.platform != "win32":
            self.file.unlink(missing_ok=True)
        self._stream.close()
        self._stream = None
        if sys.platform == "win32":
            self.file.unlink(missing_ok=True)

    def _take(self) -> IO[str] | None:
        """The open and locked file; None if it vanished between opening and locking."""
        stream = self.file.open("a+", encoding="utf-8")
        try:
            free = _hold(stream)
            if free and not _is_same(stream, self.file):
                stream.close()
                return None
            self._refuse_if_owned(stream, free)
            stream.truncate(0)
            json.dump(_own_name(), stream)
            stream.flush()
        except BaseException:
            stream.close()
            raise
        return stream

    def _refuse_if_owned(self, stream: IO[str], free: bool) -> None:
        folder = self.file.parent
        stream.seek(0)
        try:
            owner = json.loads(stream.read())
        except ValueError:  # empty, or its owner died while writing it
            owner = {}
        host = owner.get("host") if isinstance(owner, dict) else None
        if host not in (None, socket.gethostname()):
            raise StoreError(
                f"{folder} is in use by a run on {host}; use another --results folder, or delete "
                f"{self.file} if that run is over"
            )
        if not free or (sys.platform == "win32" and _is_alive(owner)):
            raise StoreError(
                f"{folder} is in use by process {owner.get('pid', 'unknown')}; wait for it, or use "
                "another folder with --results and `bench merge` afterwards"
            )


def _hold(stream: IO[str]) -> bool:
    """Lock an open file; False if another process, or another `Lock`, holds it."""
    if sys.platform != "win32":
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def _is_same(stream: IO[str], file: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(stream.fileno()), file.stat())
    except FileNotFoundError:
        return False


def _own_name() -> dict[str, Any]:
    return {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "started": psutil.Process().create_time(),
    }


def _is_alive(owner: dict[str, Any]) -> bool:
    """For systems without file locks: whether the owner's process is there, started as noted."""
    try:
        started = psutil.Process(owner["pid"]).create_time()
        return abs(started - float(owner["started"])) < 1.0
    except (psutil.Error, KeyError, TypeError, ValueError):
        return False
