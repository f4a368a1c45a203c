"""What a cell costs before and after its own work: workers forked against workers started anew.

    python benchmarks/overhead.py [--cells 6]

Each cell is a method that does nothing, on tiny images, with the shortest timing: all of its time
is overhead. The first cell of a run pays for the imports either way and is left out. Then PaDiM
both ways: memory figures must not depend on how a worker was started.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from bench.plan.request import Request, plan_request
from bench.run.driver import make_jobs
from bench.run.job import Done
from bench.run.local import LocalExecutor
from bench.settings.config import load_settings

if TYPE_CHECKING:
    from bench.rows.row import Row

NOTHING = '''"""Does nothing."""
from dataclasses import dataclass

from bench.api import Method, Prediction


@dataclass
class Nothing(Method):
    def fit(self, train, run):
        yield {}

    def predict(self, images):
        return Prediction(images.mean(1))
'''
SETTINGS = """
[run]
speed = "once"
protocol = "tiny"
threads = 1
device = "cpu"
weights = "random"
[protocols.tiny]
resize = [64, 64]
[datasets.synthetic]
size = 64
train = 4
good = 2
bad = 4
[methods.padim]
dimensions = 40
"""
MEMORY = ("fit_mb", "infer_mb", "state_mb")


def main() -> int:
    """Print both parts."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "--cells", type=int, default=6, help="cells of each way, the first not counted"
    )
    cells = parser.parse_args().cells
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder)
        (project / "methods").mkdir()
        (project / "methods" / "nothing.py").write_text(NOTHING, encoding="utf-8")
        (project / "bench.toml").write_text(SETTINGS, encoding="utf-8")
        os.environ["BENCH_PROJECT"] = str(project)
        print(f"overhead of a cell after the first, {cells - 1} cells, seconds: median (all)")
        found = {}
        for name, fork in (("started anew", False), ("forked", True)):
            outcomes, cpu, wall = execute(project, "nothing", cells, fork)
            later = [o.seconds for o in outcomes[1:]]
            found[name] = statistics.median(later)
            print(
                f"  {name:13} {found[name]:5.2f} ({', '.join(f'{s:.2f}' for s in later)}); first "
                f"{outcomes[0].seconds:.2f}; the run {wall:.1f} s, {cpu:.1f} s of processor"
            )
        print(f"  ratio         {found['started anew'] / found['forked']:5.2f}")
        print("\nmemory of PaDiM, MB: median (extremes) over cells; forked against started anew")
        rows = {f: [o.row for o in execute(project, "padim", cells, f)[0]] for f in (False, True)}
        for column in MEMORY:
            anew, forked = (values(rows[fork], column) for fork in (False, True))
            change = 100 * (statistics.median(forked) / statistics.median(anew) - 1)
            print(f"  {column:9} {change:+.1f} %: {span(forked)} against {span(anew)}")
    return 0


def values(rows: list[Row], column: str) -> list[float]:
    """A column without its first cell."""
    return [float(getattr(row, column)) for row in rows[1:]]


def span(found: list[float]) -> str:
    """Median and extremes."""
    return f"{statistics.median(found):.2f} ({min(found):.2f} to {max(found):.2f})"


def execute(project: Path, method: str, count: int, fork: bool) -> tuple[list[Done], float, float]:
    """Outcomes of so many cells one after the other, processor and wall seconds of all."""
    settings = load_settings(project)
    settings = replace(settings, run=replace(settings.run, seeds=tuple(range(count))))
    request = Request(methods=[method], datasets=["synthetic"], categories=["weave"])
    planned = plan_request(settings, request)
    for part in planned:
        part.dataset.prepare(["weave"])
    wanted = {cell.id for part in planned for cell in part.cells}
    jobs = make_jobs(settings, request, planned, wanted)
    before, start = os.times(), time.perf_counter()
    found = list(LocalExecutor([{}], fork=fork).map(jobs))
    wall, after = time.perf_counter() - start, os.times()
    failed = [o for o in found if not isinstance(o, Done)]
    if failed:
        sys.exit(f"{failed[0].cause}\n{failed[0].log}")
    cpu = after.children_user + after.children_system
    cpu -= before.children_user + before.children_system
    return [o for o in found if isinstance(o, Done)], cpu, wall


if __name__ == "__main__":
    sys.exit(main())
