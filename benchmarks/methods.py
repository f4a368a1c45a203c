"""Speed and memory of the methods as ratios to what their published code does, in one table.

    python benchmarks/methods.py [--device cuda] [--only padim] [--threads 2]

Each ratio is taken inside one process, both sides alternating; the references are written from
the specification in the benchmark of each method, benchmarks/<method>.py, which also runs alone.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from tabulate import tabulate

from bench.rows.provenance import cpu_name

if TYPE_CHECKING:
    from collections.abc import Iterable

METHODS = (
    "pyramidflow",
    "cflow",
    "padim",
    "patchcore",
    "spade",
    "dfr",
    "stfpm",
    "uninformed_students",
    "patchsvdd",
    "csflow",
    "differnet",
    "draem",
    "anogan",
    "ae_ssim",
)
AT_MOST = "(at most)"
"""End of a comparison's name whose goal is an upper limit."""


@dataclass(frozen=True)
class Comparison:
    """One ratio and what it should be.

    Attributes:
        name: what is divided by what; `AT_MOST` at its end turns the goal round.
        ratio: measured.
        goal: None where it is only reported.
    """

    name: str
    ratio: float
    goal: float | None

    @property
    def is_met(self) -> bool | None:
        """Whether the ratio reaches the goal; None without one."""
        if self.goal is None:
            return None
        return self.ratio <= self.goal if self.name.endswith(AT_MOST) else self.ratio >= self.goal


def measure(method: str, device: str) -> list[Comparison]:
    """The comparisons of one method's benchmark."""
    module = importlib.import_module(method)
    return [Comparison(*line) for line in module.compare(device)]


def table(comparisons: Iterable[Comparison]) -> str:
    """One line for each comparison."""
    verdicts = {True: "met", False: "NOT MET", None: ""}
    lines = [
        [c.name, f"{c.ratio:.2f}", "" if c.goal is None else f"{c.goal:.2f}", verdicts[c.is_met]]
        for c in comparisons
    ]
    headers = ["comparison", "ratio", "goal", ""]
    return tabulate(lines, headers, disable_numparse=True, colalign=("left", "right", "right"))


def write_json(comparisons: Iterable[Comparison], file: str) -> None:
    """As a list of objects with name, ratio, goal and whether it is met."""
    found = [{**asdict(c), "met": c.is_met} for c in comparisons]
    Path(file).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def machine(device: str) -> str:
    """What the ratios were measured on."""
    name = cpu_name()
    if device == "cuda":
        name = f"{torch.cuda.get_device_name()}, {name}"
    return f"{name}, torch {torch.__version__}, {torch.get_num_threads()} threads"


def main() -> None:
    """Print the table; exit code 1 if a goal is not met."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--only", choices=METHODS, action="append", help="may be repeated")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads; 1 is the quietest")
    parser.add_argument("--json", metavar="FILE", help="write the ratios there as well")
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: torch sees no CUDA device here")
    torch.set_num_threads(arguments.threads)
    print(machine(arguments.device))
    found: list[Comparison] = []
    for method in arguments.only or METHODS:
        start = time.perf_counter()
        found += measure(method, arguments.device)
        print(f"{method}: {time.perf_counter() - start:.0f} s", file=sys.stderr)
    print(table(found))
    if arguments.json:
        write_json(found, arguments.json)
    sys.exit(any(c.is_met is False for c in found))


if __name__ == "__main__":
    main()
