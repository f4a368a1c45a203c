"""Everything that needs a GPU, in one command: tests, ratios, and a row of each method.

    python benchmarks/gpu.py [--out gpu] [--minutes 8] [--fresh]

Writes gpu/report.md, gpu/ratios.csv with the goals, the output of each step, and the rows in
gpu/results. A step that is finished is not run again: after an interruption, or when the minutes
are over, the same command goes on.
Needs what `pip install -e .` installs, and pytest. Exit code 0: all steps passed; 1: some failed;
3: no GPU; 4: the minutes were over first.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from bench.plan import discovery

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

ROOT = Path(__file__).parents[1]
NO_GPU = 3
OUT_OF_TIME = 4
WITH_GOALS = ("cflow", "pyramidflow")
"""Methods whose ratios have goals on a GPU: measured before the rows."""


@dataclass(frozen=True)
class Step:
    """One command.

    Attributes:
        minutes: after so many it is ended and counts as failed.
        ratios: the file of ratios that it writes, as `benchmarks/methods.py --json` does.
    """

    name: str
    command: list[str]
    minutes: float = 2.0
    ratios: Path | None = None


@dataclass(frozen=True)
class Outcome:
    """How a step ended; status None: it was ended at its limit."""

    status: int | None
    seconds: float

    @property
    def word(self) -> str:
        """For the report."""
        if self.status is None:
            return "out of time"
        return "passed" if self.status == 0 else f"failed ({self.status})"


def steps(out: Path, has_weights: bool) -> list[Step]:
    """In the order of what matters most, should the minutes not be enough."""
    python = sys.executable
    methods = sorted(discovery.sources("methods"))
    weights = [] if has_weights else ["--random-weights"]
    rows = ["--dataset", "synthetic", "--category", "weave", "--preset", "quick"]
    rows += ["--device", "cuda", "--results", str(out / "results"), *weights]

    def ratios(name: str, script: str, *options: str) -> Step:
        file = out / f"{name.replace(' ', '-')}.json"
        command = [python, f"benchmarks/{script}.py", "--device", "cuda", *options]
        return Step(name, [*command, "--json", str(file)], ratios=file)

    measured = [m for m in methods if m in _measured()]
    measured.sort(key=lambda m: m not in WITH_GOALS)
    of_methods = [ratios(f"ratios of {m}", "methods", "--only", m) for m in measured]
    goals, others = of_methods[: len(WITH_GOALS)], of_methods[len(WITH_GOALS) :]
    bench = [python, "-m", "bench", "run", *rows, "--method"]
    return [
        Step(
            "tests",
            [python, "-m", "pytest", "-m", "gpu", "-q", "-p", "no:cacheprovider", "tests"],
            4.0,
        ),
        ratios("evaluator", "evaluator", "--repeats", "3", "--size", "512"),
        *goals,
        ratios("layout", "layout"),
        *(Step(f"rows of {m}", [*bench, m]) for m in methods),
        *others,
    ]


def _measured() -> tuple[str, ...]:
    """The methods that have a benchmark."""
    from methods import METHODS

    return tuple(METHODS)


def run(step: Step, log: Path, seconds_left: float) -> Outcome | None:
    """Run a step; None where the minutes of the whole were over before it ended."""
    limit = min(60 * step.minutes, seconds_left)
    start = time.monotonic()
    environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE", "PYTHONUNBUFFERED": "1"}
    with log.open("w", encoding="utf-8") as output:
        output.write(f"$ {' '.join(step.command)}\n")
        output.flush()
        child = subprocess.Popen(
            step.command,
            cwd=ROOT,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            status: int | None = child.wait(limit)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            status = None
    if status is None and seconds_left < 60 * step.minutes:
        return None
    return Outcome(status, time.monotonic() - start)


def ratios_of(plan: Iterable[Step], done: Collection[str]) -> list[dict[str, Any]]:
    """Name, ratio, goal and whether it is met, of the finished steps that write such a file."""
    files = [step.ratios for step in plan if step.ratios and step.name in done]
    return [line for file in files if file.is_file() for line in json.loads(file.read_text())]


def write_csv(lines: Sequence[dict[str, Any]], file: Path) -> None:
    """The ratios; `goal` and `met` are empty where there is none."""
    with file.open("w", encoding="utf-8", newline="") as output:
        writer = csv.DictWriter(output, ("name", "ratio", "goal", "met"), lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)


def goals(lines: Iterable[dict[str, Any]]) -> list[str]:
    """A line for each ratio that has a goal."""
    words = {True: "met", False: "NOT MET"}
    return [
        f"{line['name']}: {line['ratio']:.2f}, goal {line['goal']:g}, {words[line['met']]}"
        for line in lines
        if line["goal"] is not None
    ]


def report(
    out: Path, done: dict[str, Outcome], waiting: list[str], ratios: list[dict[str, Any]]
) -> str:
    """Machine, goals, a line for each step, then the end of what each printed."""
    facts = torch.cuda.get_device_properties(0)
    lines = [
        (
            f"# {facts.name}, {facts.total_memory / 1e9:.0f} GB, torch {torch.__version__}, "
            f"CUDA {torch.version.cuda}"
        ),
        "",
        *(f"- {line}" for line in goals(ratios)),
        "",
        "| step | outcome | seconds |",
        "|---|---|---|",
        *(f"| {name} | {o.word} | {o.seconds:.0f} |" for name, o in done.items()),
        *(f"| {name} | not run | |" for name in waiting),
    ]
    for name in done:
        text = _log(out, name).read_text(encoding="utf-8", errors="replace").rstrip()
        lines += ["", f"## {name}", "", "```", *text.splitlines()[-40:], "```"]
    return "\n".join(lines) + "\n"


def _log(out: Path, name: str) -> Path:
    return out / f"{name.replace(' ', '-')}.txt"


def main() -> int:
    """Run what is not finished, and write the report after each step."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=ROOT / "gpu", help="folder of the report")
    parser.add_argument("--minutes", type=float, default=8.0, help="for all steps together")
    parser.add_argument("--fresh", action="store_true", help="forget finished steps")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("make gpu: torch sees no CUDA device here; nothing was run", file=sys.stderr)
        return NO_GPU
    end = time.monotonic() + 60 * options.minutes
    out: Path = options.out.absolute()
    if options.fresh and out.exists():
        shutil.rmtree(out)
    out.mkdir(parents=True, exist_ok=True)
    state = out / "steps.json"
    kept = json.loads(state.read_text()) if state.exists() else {}
    done = {name: Outcome(**values) for name, values in kept.items()}
    plan = steps(out, has_weights=_has_weights())
    for number, step in enumerate(plan):
        if step.name in done:
            continue
        left = end - time.monotonic()
        outcome = run(step, _log(out, step.name), left) if left > 0 else None
        if outcome is not None:
            done[step.name] = outcome
            state.write_text(json.dumps({name: asdict(o) for name, o in done.items()}, indent=1))
        waiting = [s.name for s in plan[number:] if s.name not in done]
        found = ratios_of(plan, done)
        write_csv(found, out / "ratios.csv")
        (out / "report.md").write_text(report(out, done, waiting, found), encoding="utf-8")
        if outcome is None:
            print(f"the minutes are over; {len(waiting)} steps wait for the same command again")
            return OUT_OF_TIME
        print(f"{step.name}: {outcome.word}, {outcome.seconds:.0f} s", flush=True)
    print("\n".join(goals(ratios_of(plan, done))))
    print(f"report: {out / 'report.md'}, ratios: {out / 'ratios.csv'}")
    return int(any(o.status != 0 for o in done.values()))


def _has_weights() -> bool:
    """Whether real features are installed; else the rows are marked as random."""
    from bench.weights.packages import PACKAGED, installed_file

    return installed_file(PACKAGED[0]) is not None


if __name__ == "__main__":
    sys.exit(main())
