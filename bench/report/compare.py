"""Methods against each other on the categories of a data set, with ranks, intervals and tests."""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from tabulate import tabulate

from bench.report import quantities as q
from bench.report.captions import ROUGH
from bench.report.significance import (
    ALPHA,
    FEWEST,
    Comparison,
    auroc,
    compare,
    interval,
    rank_columns,
    resampled_aurocs,
)
from bench.report.summary import marks
from bench.report.variants import BY_CATEGORY, configurations, is_set_by_category

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from bench.row import Row

RESAMPLES = 2000


@dataclass(frozen=True)
class Group:
    """Rows that may be compared: one data set, its options and one protocol.

    Attributes:
        title: names all of it.
        variants: rows by method; one that stands with several settings is numbered.
        categories: every category that some row has.
    """

    title: str
    variants: Mapping[str, list[Row]]
    categories: tuple[str, ...]
    settings: tuple[str, ...]


def groups(rows: Sequence[Row], by_device: bool = False) -> list[Group]:
    """Rows apart by everything that makes scores incomparable; by device too, for costs."""

    def key(row: Row) -> tuple[object, ...]:
        machine = (row.device, row.threads, row.speed, row.memory) if by_device else ()
        options = (row.dataset_version, row.dataset_params, row.protocol, row.protocol_fields)
        return (row.schema, row.dataset, *options, *machine)

    found = q.group_by(rows, key)
    named = [_title(group[0], by_device) for group in found]
    result = []
    for group, title in zip(found, named, strict=True):
        name = title if named.count(title) == 1 else f"{title}; {_options(group[0])}"
        categories = tuple(sorted({row.category for row in group}))
        variants, settings = _variants(group)
        result.append(Group(name, variants, categories, settings))
    return result


def _title(row: Row, by_device: bool) -> str:
    text = f"{row.dataset}, protocol {row.protocol}"
    if by_device:
        text += f"; {row.device}, {row.threads} threads, {row.speed}, memory by {row.memory}"
    return text


def _options(row: Row) -> str:
    options = {**json.loads(row.dataset_params), **json.loads(row.protocol_fields)}
    return ", ".join(f"{k}={v}" for k, v in options.items())


def _variants(group: Sequence[Row]) -> tuple[dict[str, list[Row]], tuple[str, ...]]:
    """Rows by method and settings, and what tells the settings of one method apart."""
    result: dict[str, list[Row]] = {}
    legend: list[str] = []
    for rows in q.group_by(group, lambda row: (row.method,)):
        found = configurations(rows)
        for index, chosen in enumerate(found, 1):
            name = f"{rows[0].method} #{index}" if len(found) > 1 else rows[0].method
            result[name] = chosen
            parts = [_difference(chosen[0], [other[0] for other in found])]
            if is_set_by_category(chosen):
                parts.append(BY_CATEGORY)
            if text := ", ".join(filter(None, parts)):
                legend.append(f"{name}: {text}")
    return result, tuple(legend)


def _difference(row: Row, known: Sequence[Row]) -> str:
    """What tells the configurations of a method apart, with this row's values."""
    if len(known) == 1:
        return ""
    params: list[dict[str, Any]] = [json.loads(other.params) for other in known]
    mine = json.loads(row.params)
    changed = [k for k in mine if any(other.get(k) != mine[k] for other in params)]
    parts = [f"{k}={mine[k]}" for k in changed]
    return ", ".join([f"version {row.method_version}", row.pretrained, row.kind, *parts])


@dataclass(frozen=True)
class Table:
    """One metric of a group.

    Attributes:
        cells: (method, category) -> text.
        scores: (M, C) means over seeds on the categories that every method has.
        shared: those categories.
    """

    group: Group
    metric: str
    cells: Mapping[tuple[str, str], str]
    means: Mapping[str, str]
    scores: NDArray[np.float64]
    shared: tuple[str, ...]
    ranks: NDArray[np.float64]
    comparison: Comparison | None
    has_intervals: bool

    @property
    def methods(self) -> list[str]:
        """Names in the order of the rows of `scores`."""
        return list(self.group.variants)


def tabulate_metric(group: Group, metric: str, artifacts: Path | None = None) -> Table:
    """Scores, ranks and tests of one metric; intervals where image scores are stored."""
    cells: dict[tuple[str, str], str] = {}
    values: dict[tuple[str, str], float] = {}
    samples: dict[tuple[str, str], NDArray[np.float64]] = {}
    for name, rows in group.variants.items():
        for category in group.categories:
            of_category = [row for row in rows if row.category == category]
            mean, spread = q.over_seeds(of_category, metric, [category])
            if mean is None:
                continue
            values[name, category] = mean
            text = q.show(metric, mean)
            if spread is not None:
                text += f" ± {q.show(metric, spread)}"
            drawn = _samples(of_category, artifacts) if metric == "image_auroc" else None
            if drawn is not None:
                samples[name, category] = drawn
                text += _brackets(metric, drawn)
            cells[name, category] = text
    methods = list(group.variants)
    shared = tuple(c for c in group.categories if all((m, c) in values for m in methods))
    scores = np.array([[values[m, c] for c in shared] for m in methods]).reshape(len(methods), -1)
    is_lower = q.is_lower_better(metric)
    return Table(
        group=group,
        metric=metric,
        cells=cells,
        means=_means(group, metric, shared, samples),
        scores=scores,
        shared=shared,
        ranks=rank_columns(scores, is_lower),
        comparison=compare(scores, is_lower),
        has_intervals=bool(samples),
    )


def _means(
    group: Group,
    metric: str,
    shared: Sequence[str],
    samples: Mapping[tuple[str, str], NDArray[np.float64]],
) -> dict[str, str]:
    """Means over the categories that every method has."""
    result = {}
    for name, rows in group.variants.items():
        mean, spread = q.over_seeds(rows, metric, shared)
        text = q.show(metric, mean)
        if spread is not None:
            text += f" ± {q.show(metric, spread)}"
        if shared and mean is not None and all((name, c) in samples for c in shared):
            text += _brackets(metric, np.mean([samples[name, c] for c in shared], axis=0))
        result[name] = text
    return result


def _samples(rows: Sequence[Row], artifacts: Path | None) -> NDArray[np.float64] | None:
    """Bootstrap samples of a category's image AUROC, averaged over seeds; None if not stored."""
    files = [artifacts / row.cell / "scores.npz" for row in rows] if artifacts else []
    if not files or not all(file.is_file() for file in files):
        return None
    drawn = []
    for row, file in zip(rows, files, strict=True):
        with np.load(file) as stored:
            scores = stored["scores"].astype(np.float64)
            labels = stored["labels"].astype(bool)
        # A file of another run than the row would give an interval around another number.
        if row.image_auroc is None or abs(auroc(scores, labels) - row.image_auroc) > 1e-4:
            return None
        seed = zlib.crc32(f"{row.dataset}/{row.category}".encode())
        drawn.append(resampled_aurocs(scores, labels, RESAMPLES, seed))
    return np.asarray(np.mean(drawn, axis=0))


def _brackets(metric: str, samples: NDArray[np.float64]) -> str:
    low, high = interval(samples)
    return f" [{q.show(metric, low)}, {q.show(metric, high)}]"


def text_table(table: Table, style: str = "pipe") -> str:
    """Title, grid and conclusions."""
    head = ["method", *table.group.categories, "mean", "mean rank"]
    lines = []
    for index, name in enumerate(table.methods):
        cells = [table.cells.get((name, c), "n/a") for c in table.group.categories]
        rank = f"{table.ranks[index].mean():.2f}" if table.shared else "n/a"
        lines.append(
            [marked(table.group, name, table.metric), *cells, table.means[name] or "n/a", rank]
        )
    unit = " (%)" if q.is_score(table.metric) else ""
    body = tabulate(lines, head, style, disable_numparse=True, stralign="right")
    title = f"{q.label(table.metric)}{unit} on {table.group.title}"
    return "\n".join([title, "", body, "", *conclusions(table)])


def marked(group: Group, name: str, metric: str) -> str:
    """The method's name with the marks of its rows that concern a metric."""
    rows = group.variants[name]
    return name + "".join(sorted({m for row in rows for m in _marks(row, metric)}))


def meanings(group: Group, metric: str) -> list[str]:
    """What those marks say."""
    rows = [row for rows in group.variants.values() for row in rows]
    return sorted({f"{m}  {text}" for row in rows for m, text in _marks(row, metric).items()})


def _marks(row: Row, metric: str) -> dict[str, str]:
    found = marks(row)
    if not q.depends_on_hardware(metric):
        found.pop(ROUGH, None)
    return found


def conclusions(table: Table) -> list[str]:
    """What the table allows to say, and what it does not."""
    rows = [row for rows in table.group.variants.values() for row in rows]
    seeds = sorted({row.seed for row in rows})
    lines = [f"seeds {', '.join(map(str, seeds))}; mean ± deviation over seeds where several"]
    if table.has_intervals:
        lines.append(
            f"[low, high]: 95 % interval, {RESAMPLES} bootstrap samples of the test images"
        )
    if len(table.shared) < len(table.group.categories):
        left = [c for c in table.group.categories if c not in table.shared]
        lines.append(f"mean and ranks without {', '.join(left)}: not measured for every method")
    lines += table.group.settings
    return [*lines, *meanings(table.group, table.metric), *verdict(table)]


def verdict(table: Table) -> list[str]:
    """Whether methods differ, as the tests across categories say."""
    result, names = table.comparison, table.methods
    if len(names) < 2:
        return ["one method only: nothing to compare"]
    if result is None:
        return [
            f"{len(table.shared)} categories measured for every method: too few to conclude",
            f"anything; tests across categories need at least {FEWEST}",
        ]
    lines = []
    if result.friedman is not None:
        lines.append(f"Friedman over {len(table.shared)} categories: p = {result.friedman:.3g}")
    for pair in result.pairs:
        word = "differ" if pair.p < ALPHA else "not told apart"
        lines.append(f"{names[pair.a]} and {names[pair.b]}: {word}, p = {pair.p:.3g}")
    lines.append("p of pairs: Wilcoxon signed-rank over categories, corrected by Holm")
    if result.smallest * len(result.pairs) >= ALPHA:
        lines.append(
            f"with {len(table.shared)} categories no pair can reach p < {ALPHA}, "
            "even if one method wins everywhere"
        )
    return lines
