"""`python -m bench.run.worker RESULT`: reads a job from standard input, writes its rows as JSON.

Each cell of the job becomes a line of RESULT once it is finished, in the order of the cells.

The worker ends when its standard input closes, that is, when its driver is gone: no orphan stays.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import traceback
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from bench.errors import BenchError
from bench.run.job import EVENT, Job

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from bench.plan.cells import Cell
    from bench.run.cell import Trained

Found = TypeVar("Found")


def run(result: str) -> int:
    """Run the job that standard input names; 0 whether cells gave rows or recorded errors.

    Args:
        result: the file that rows and errors are written to.
    """
    job = Job.from_json(sys.stdin.readline())
    threading.Thread(target=_end_with_driver, daemon=True).start()
    trained = _attempt(partial(_train, job))
    for cell in job.cells:
        found = trained if isinstance(trained, dict) else _attempt(partial(_row, trained, cell))
        with Path(result).open("a", encoding="ascii") as stream:
            stream.write(json.dumps(found) + "\n")
    return 0


def _train(job: Job) -> Trained:
    from bench.run.cell import train

    return train(job, _emit)


def _row(trained: Trained, cell: Cell) -> dict[str, Any]:
    row, environment = trained.row(cell)
    return {"row": asdict(row), "environment": dict(environment)}


def _attempt(work: Callable[[], Found]) -> Found | dict[str, Any]:
    """What it gives, or the error that it ends with."""
    try:
        return work()
    except BenchError as error:
        return _failure(str(error))
    except Exception as error:  # noqa: BLE001 - a plugin may raise anything: recorded
        text = str(error).partition("\n")[0]
        return _failure(f"{type(error).__name__}: {text}" if text else type(error).__name__)


def _failure(cause: str) -> dict[str, str]:
    """The present exception, as text that any terminal and file can hold."""
    texts = {"error": cause, "traceback": traceback.format_exc()}
    return {k: v.encode(errors="backslashreplace").decode() for k, v in texts.items()}


def _emit(event: Mapping[str, Any]) -> None:
    print(EVENT + json.dumps(event), flush=True)


def _end_with_driver() -> None:
    # Reads the descriptor, not sys.stdin: a daemon thread that holds the buffer's lock would abort
    # the interpreter at exit.
    while os.read(0, 4096):
        continue
    if os.name == "posix" and os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)  # with the processes that the method started
    os._exit(70)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1]))
