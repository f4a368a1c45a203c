"""`python -m bench.run.worker RESULT`: reads a job from standard input, writes its row as JSON.

The worker ends when its standard input closes, that is, when its driver is gone: no orphan stays.
"""

from __future__ import annotations

import json
import math
import os
import signal
import sys
import threading
import traceback
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.disk import replace_file
from bench.errors import BenchError, MethodError
from bench.run.job import EVENT, Job

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bench.rows.row import Row


def run(result: str) -> int:
    """Run the job that standard input names; 0 whether it gave a row or a recorded error.

    Args:
        result: the file that the row, or the error, is written to.
    """
    job = Job.from_json(sys.stdin.readline())
    threading.Thread(target=_end_with_driver, daemon=True).start()
    outcome: dict[str, Any]
    try:
        from bench.run.cell import run_cell

        row, environment = run_cell(job, _emit)
        _refuse_not_finite(row)
        outcome = {"row": asdict(row), "environment": dict(environment)}
    except BenchError as error:
        outcome = _failure(str(error))
    except Exception as error:  # noqa: BLE001 - a plugin may raise anything: recorded
        text = str(error).partition("\n")[0]
        outcome = _failure(f"{type(error).__name__}: {text}" if text else type(error).__name__)
    replace_file(Path(result), json.dumps(outcome).encode())
    return 0


def _refuse_not_finite(row: Row) -> None:
    values = {f.name: getattr(row, f.name) for f in fields(row)}
    bad = [k for k, v in values.items() if isinstance(v, float) and not math.isfinite(v)]
    if bad:
        raise MethodError(f"{', '.join(f'{name} is {values[name]}' for name in bad)}; not a result")


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
