"""What `bench check` finds and how often it calls unchanged code changed, by simulation.

    python benchmarks/gate_power.py [--runs 40000]

Three tables: how the two rules of the gate answer a fall of one score in every cell; how often they
are wrong about seeds that were drawn again, beside the rule of earlier versions; and how large a
change must be for `--new-seeds` to find it in 80 % of the cases, in deviations between seeds and in
points of the committed rows. Numbers of seeds are normally distributed around one mean.
"""

from __future__ import annotations

import argparse
import math
import statistics
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy import optimize, stats
from tabulate import tabulate

from bench.report.choice.coverage import choose
from bench.report.choice.groups import groups
from bench.rows.changes import Environments
from bench.rows.check import compare
from bench.rows.drawn_again import two_means
from bench.rows.store import ResultStore
from bench.rows.tolerances import COUNTS, SIZES, Tolerances, figures_of
from bench.settings.config import load_settings

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bench.rows.row import Row

ROOT = Path(__file__).parents[1]
SEEDS = (1, 2, 3, 5, 10)
CHANCE = 0.05
POWER = 0.8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=40_000)
    runs = parser.parse_args().runs
    rows = ResultStore(ROOT / "results" / "baseline").rows()
    tolerances = Tolerances.from_table(load_settings(ROOT).check, "bench.toml")
    figures = sum(_is_uncertain(name, value) for r in rows for name, value in figures_of(r).items())
    print("A fall of AUPRO 0.3 by 0.01 in every cell, same seeds: exit code of the gate")
    print(tabulate(_same_seeds(tolerances), ["seeds", "earlier rule", "same seeds"], "pipe"))
    print(f"\nUnchanged code, other seeds on both sides: called changed (%), {runs} figures")
    head = ["seeds a side", "earlier rule, each figure", "--new-seeds, each figure"]
    head += [f"earlier rule, any of {figures}", f"--new-seeds, any of {figures}"]
    print(
        tabulate(
            _false_alarms(figures, tolerances, runs),
            head,
            "pipe",
            disable_numparse=True,
            stralign="right",
        )
    )
    deviation = _deviation_of_seeds("aupro_30")
    print(
        f"\nChange of one of {figures} figures that --new-seeds finds in {POWER:.0%} of the cases"
    )
    print(f"(between seeds the AUPRO 0.3 of a committed cell deviates by {100 * deviation:.1f})")
    head = [
        "seeds a side",
        "deviations between seeds",
        "points of AUPRO 0.3",
        "found (%), simulated",
    ]
    print(tabulate(_power(figures, deviation, runs), head, "pipe", floatfmt=".1f"))


def _is_uncertain(name: str, value: float | None) -> bool:
    return value is not None and name not in (*COUNTS, *SIZES)


def _same_seeds(tolerances: Tolerances) -> list[list[object]]:
    """Rows of one cell whose seeds deviate by 0.01, each 0.01 lower now."""
    rng = np.random.default_rng(0)
    cell = next(row for row in ResultStore(ROOT / "results" / "baseline").rows() if row.aupro_30)
    table: list[list[object]] = []
    for count in SEEDS:
        values = 0.7 + 0.01 * rng.standard_normal(count)
        old, now = (
            [_seed(cell, seed, value - fall) for seed, value in enumerate(values)]
            for fall in (0.0, 0.01)
        )
        found = compare(old, now, tolerances, Environments([]))
        spread = _earlier(values, tolerances.scores)
        is_silent = min(spread, spread / math.sqrt(count)) >= 0.01
        table.append([count, 0 if is_silent else 1, found.exit_code()])
    return table


def _seed(row: Row, seed: int, value: float) -> Row:
    return replace(row, seed=seed, cell=f"{seed:012x}", aupro_30=float(value))


def _earlier(before: NDArray[np.float64], flat: float) -> float:
    """Tolerance of a cell until version 0.1: three deviations of a difference of two seeds."""
    return max(flat, 3 * math.sqrt(2) * float(np.std(before, ddof=1))) if len(before) > 1 else flat


def _false_alarms(figures: int, tolerances: Tolerances, runs: int) -> list[list[str]]:
    """With a deviation of 0.02 between seeds, ten times the flat tolerance."""
    rng = np.random.default_rng(1)
    table: list[list[str]] = []
    for count in SEEDS:
        # Whether each figure of each check is called changed: by three rules.
        alarms = np.zeros((3, -(-runs // figures), figures), dtype=bool)
        for check, figure in np.ndindex(alarms.shape[1:]):
            before, after = 0.02 * rng.standard_normal((2, count))
            distance = abs(before.mean() - after.mean())
            alarms[0, check, figure] = _earlier_alarm(before, after, tolerances.scores)
            for rule, chance in enumerate((CHANCE, CHANCE / figures), 1):
                if count > 1:
                    allowed = max(two_means(before, after, chance), tolerances.scores)
                    alarms[rule, check, figure] = distance > allowed
        shares = [alarms[0].mean(), alarms[1].mean(), *(alarms[i].any(1).mean() for i in (0, 2))]
        texts = [f"{100 * share:.1f}" for share in shares]
        if count == 1:
            texts[1] = texts[3] = "not compared"
        table.append([str(count), *texts])
    return table


def _earlier_alarm(before: NDArray[np.float64], after: NDArray[np.float64], flat: float) -> bool:
    """Of a seed, or of the mean of several, as the gate until version 0.1 compared them."""
    allowed = _earlier(before, flat)
    if len(before) == 1:
        return bool(abs(before - after)[0] > allowed)
    mean = abs(before.mean() - after.mean()) > max(flat, allowed / math.sqrt(len(before)))
    return bool(mean or (abs(before - after) > allowed).any())


def _power(figures: int, deviation: float, runs: int) -> list[list[object]]:
    rng = np.random.default_rng(2)
    table: list[list[object]] = []
    for count in SEEDS[1:]:
        change = _found_change(count, CHANCE / figures)
        hits = []
        for _ in range(runs // 10):
            before, after = rng.standard_normal((2, count))
            after += change
            allowed = two_means(before, after, CHANCE / figures)
            hits.append(abs(before.mean() - after.mean()) > allowed)
        table.append([count, change, 100 * change * deviation, 100 * np.mean(hits)])
    return table


def _found_change(count: int, chance: float) -> float:
    """In deviations: the power of Student's test by its noncentral distribution."""
    freedom = 2 * count - 2
    limit = float(stats.t.ppf(1 - chance / 2, freedom))

    def missing(change: float) -> float:
        return float(stats.nct.sf(limit, freedom, change * math.sqrt(count / 2))) - POWER

    return float(optimize.brentq(missing, 0.0, 4 * limit / math.sqrt(count / 2)))


def _deviation_of_seeds(metric: str) -> float:
    """Median over the committed cells of `synthetic` that have several seeds."""
    found: list[float] = []
    for group in groups(ResultStore(ROOT / "results").rows()):
        for of_method in group.variants.values():
            for rows in choose(of_method).rows.values():
                values = [value for row in rows if (value := getattr(row, metric)) is not None]
                found += [statistics.stdev(values)] if len(values) > 2 else []
    return statistics.median(found)


if __name__ == "__main__":
    main()
