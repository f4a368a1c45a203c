"""How many threads cells get."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

ONE_CORE = """
import os
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
from bench.run.slots import usable_cores
print(usable_cores())
"""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity on this system")
def test_a_process_that_is_bound_to_one_core_may_use_one() -> None:
    done = subprocess.run(
        [sys.executable, "-c", ONE_CORE], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "1"
