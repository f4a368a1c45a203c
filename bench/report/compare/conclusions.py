"""What a comparison allows to say, and what it does not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.report.choice import quantities as q
from bench.report.choice.groups import marked, meanings
from bench.report.choice.marks import caution
from bench.report.compare.intervals import MAXIMA
from bench.report.compare.significance import ALPHA, FEWEST
from bench.rows.text import fixed, of_categories, three_digits

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.report.compare.compare import Table
    from bench.report.compare.differences import MeanDifference
    from bench.report.compare.significance import Pair


def conclusions(table: Table) -> list[str]:
    """What stands below a table: of its numbers, of its rows, and of its methods."""
    lines = []
    if any(number.deviation is not None for number in table.cells.values()):
        lines.append("mean ± deviation over seeds")
    if not q.is_score(table.metric):
        lines.append("median over categories and seeds, without interval")
    else:
        lines += caution(table.group.first.dataset)
    lines += [*table.coverage.notes(), *table.intervals, *_batches(table)]
    lines += [*table.group.legend, *meanings(table.group, table.metric), *table.remarks]
    return [*lines, *verdict(table)]


def _batches(table: Table) -> list[str]:
    found = sorted({b for number in table.cells.values() for b in number.batches})
    return [f"measured at batches {', '.join(map(str, found))}: compare with care"] if found else []


def verdict(table: Table) -> list[str]:
    """Whether methods differ on these categories, and whether they would on new ones."""
    names = [marked(table.group, name, table.metric) for name in table.methods]
    if len(names) < 2:
        return [f"{'one method only' if names else 'no method left'}: nothing to compare"]
    if not q.is_score(table.metric):
        return ["no test of costs: categories are no samples of a machine's speed or of sizes"]
    return [*_on_these(table, names), *_on_new(table, names)]


MOST = 10
"""Pairs that are written out; of more only how many differ, and all in the CSV."""


def _on_these(table: Table, names: Sequence[str]) -> list[str]:
    """Differences of means with other images and seeds."""
    found = table.differences
    if not found:
        return [f"on these categories: {_why_no_difference(table)}"]
    lines = []
    for over in dict.fromkeys(each.over for each in found):
        alike = [each for each in found if each.over == over]
        where = f"on these categories, with other {' and '.join(over)}"
        if len(alike) > MOST:
            count = sum(each.p < ALPHA for each in alike)
            lines.append(f"{where}: {count} of {len(alike)} pairs differ")
            continue
        lines += [f"{where}: {_difference(table.metric, each, names)}" for each in alike]
    tail = "p: Student's t, corrected by Holm; from ... to: 95 % of that pair alone"
    return [*lines, f"on these categories: {tail}"]


def _difference(metric: str, each: MeanDifference, names: Sequence[str]) -> str:
    low, high = (q.show(metric, end) for end in each.interval)
    better, worse = names[each.better], names[each.worse]
    gap = f"{q.show(metric, each.value)} points (from {low} to {high}), {p_text(each.p)}"
    if each.p < ALPHA:
        return f"{better} is better than {worse} by {gap}"
    return f"not told apart: {better} and {worse}, {gap}"


def _why_no_difference(table: Table) -> str:
    if table.metric in MAXIMA:
        return "no test of a maximum over thresholds"
    if not table.shared:
        return "no category is measured for every method"
    return "no test: neither image scores of the rows nor several seeds that differ"


def _on_new(table: Table, names: Sequence[str]) -> list[str]:
    """What the tests across categories say."""
    result, where = table.comparison, "on new categories"
    if result is None:
        few = (
            f"{of_categories(table.shared)} measured for every method: too few to conclude anything"
        )
        return [f"{where}: {few}; tests across categories need at least {FEWEST}"]
    lines = []
    if result.friedman is not None:
        lines.append(f"{where}: {friedman(table)}")
    if len(result.pairs) > MOST:
        differing = sum(pair.differs for pair in result.pairs)
        smallest = min(pair.p for pair in result.pairs)
        count = f"{differing} of {len(result.pairs)} pairs differ"
        lines.append(f"{where}: {count}; smallest {p_text(smallest)}")
    else:
        lines += [_pair(pair, names, table) for pair in result.pairs if pair.differs]
        alike = [
            f"{names[pair.better]} and {names[pair.worse]} ({p_text(pair.p)})"
            for pair in result.pairs
            if not pair.differs
        ]
        lines += [f"{where}: not told apart: {', '.join(alike)}"] if alike else []
    correction = ", corrected by Shaffer after Friedman's test" if len(names) > 2 else ""
    lines.append(f"{where}: p of pairs: Wilcoxon signed-rank over categories, exact{correction}")
    return [*lines, *hopeless(table), mean_ranks(table, names)]


def _pair(pair: Pair, names: Sequence[str], table: Table) -> str:
    text = f"{names[pair.better]} is better than {names[pair.worse]}"
    if pair.against_means:
        count = len(table.shared)
        how = "in most categories" if 2 * pair.wins > count else "by signed ranks"
        text += f" {how} ({pair.wins} of {count}), though its mean is lower"
    return f"on new categories: {text}, {p_text(pair.p)}"


def friedman(table: Table) -> str:
    """The test that all methods are equal."""
    assert table.comparison is not None
    assert table.comparison.friedman is not None
    how = "exact" if table.comparison.is_exact else "chi-square"
    p = p_text(table.comparison.friedman)
    return f"Friedman over {of_categories(table.shared)}, {how}: {p}"


def mean_ranks(table: Table, names: Sequence[str]) -> str:
    """How far mean ranks depend on the categories, and that they depend on the methods."""
    assert table.comparison is not None
    parts = [
        f"{name} {fixed(low, 2)} to {fixed(high, 2)}"
        for name, (low, high) in zip(names, table.comparison.rank_intervals, strict=True)
    ]
    return (
        f"mean ranks with other categories (95 %, bootstrap): {', '.join(parts)}; "
        "ranks depend on which methods are compared"
    )


def p_text(p: float) -> str:
    """Three digits; a small one as a bound."""
    return f"p = {three_digits(p)}" if p >= 1e-4 else "p < 0.0001"


def hopeless(table: Table) -> list[str]:
    """That no pair could be told apart, where so."""
    if table.comparison is None or table.comparison.can_tell:
        return []
    where = f"with {of_categories(table.shared)}"
    return [f"{where} no pair can reach p < {ALPHA}, even if one method wins everywhere"]
