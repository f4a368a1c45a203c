"""`python -m bench.worker RESULT`: reads a job from standard input, writes its row as JSON.

The worker ends when its standard input closes, that is, when its driver is gone: no orphan stays.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.errors import BenchError
from bench.executors import EVENT, Job

if TYPE_CHECKING:
    from collections.abc import Mapping


def main() -> int:
    """Run one job; 0 whether it gave a row or a recorded error."""
    result = Path(sys.argv[1])
    job = Job.from_json(sys.stdin.readline())
    threading.Thread(target=_end_with_driver, daemon=True).start()
    outcome: dict[str, Any]
    try:
        from bench.cell import run_cell

        row, environment = run_cell(job, _emit)
        outcome = {"row": asdict(row), "environment": dict(environment)}
    except BenchError as error:
        outcome = {"error": str(error), "traceback": traceback.format_exc()}
    except Exception as error:  # noqa: BLE001 - a plugin may raise anything: recorded
        cause = f"{type(error).__name__}: {error}".split("\n", 1)[0]
        outcome = {"error": cause, "traceback": traceback.format_exc()}
    temporary = result.with_suffix(".tmp")
    temporary.write_text(json.dumps(outcome), encoding="utf-8")
    temporary.replace(result)
    return 0


def _emit(event: Mapping[str, Any]) -> None:
    print(EVENT + json.dumps(event), flush=True)


def _end_with_driver() -> None:
    # Reads the descriptor, not sys.stdin: a daemon thread that holds the buffer's lock would abort
    # the interpreter at exit.
    while os.read(0, 4096):
        continue
    os._exit(70)


if __name__ == "__main__":
    sys.exit(main())
