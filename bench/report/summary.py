"""The table that a run ends with: categories, their mean, the protocol in the caption."""

from __future__ import annotations

import json
import statistics
from typing import TYPE_CHECKING

from tabulate import tabulate

from bench.report.marks import data_notes, marks
from bench.report.variants import BY_CATEGORY, configurations, is_set_by_category
from bench.report.words import device, figure, listed, percent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from bench.row import Row

COLUMNS: tuple[tuple[str, str, Callable[[float | None], str]], ...] = (
    ("image AUROC", "image_auroc", percent),
    ("pixel AUROC", "pixel_auroc", percent),
    ("AUPRO 0.3", "aupro_30", percent),
    ("FPS", "fps", figure),
    ("p50 ms", "latency_p50_ms", figure),
    ("infer MB", "infer_mb", figure),
    ("fit MB", "fit_mb", figure),
    ("fit s", "fit_s", figure),
)


def tables(rows: Iterable[Row]) -> str:
    """One table for each data set, protocol and kind of weights; never mixed."""
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        key = (row.dataset, row.dataset_params, row.protocol, row.protocol_fields, row.device)
        groups.setdefault(key, []).append(row)
    return "\n\n".join(table(group) for _, group in sorted(groups.items()))


def table(rows: Sequence[Row]) -> str:
    """The table of one data set under one protocol on one device."""
    lines: list[list[str]] = []
    for label, of_method in _by_method(rows).items():
        categories = list(dict.fromkeys(row.category for row in of_method))
        for category in categories:
            chosen = [row for row in of_method if row.category == category]
            lines.append([label, category, *_cells(chosen)])
        if len(categories) > 1:
            lines.append([label, "mean", *_cells(of_method)])
    headers = ["method", "category", *(name for name, _, _ in COLUMNS)]
    body = tabulate(lines, headers, tablefmt="simple", disable_numparse=True, stralign="right")
    return "\n".join([caption(rows), "", body, *notes(rows)])


def caption(rows: Sequence[Row]) -> str:
    """What makes the numbers comparable: protocol, seeds, device, speed protocol, medians."""
    first = rows[0]
    batches = sorted({row.fps_batch for row in rows if row.fps_batch})
    speeds = sorted({row.speed for row in rows if row.speed})
    parts = [
        f"{first.dataset}, protocol {first.protocol}",
        listed("seed", (row.seed for row in rows)),
    ]
    if first.device:
        parts.append(device(first))
    if speeds:
        parts.append(f"{' and '.join(speeds)}, FPS at batch {_list(batches)}, latency at batch 1")
        if any(len(of_method) > 1 for of_method in _by_method(rows).values()):
            parts.append("costs: median")
    return "; ".join(parts)


def notes(rows: Sequence[Row]) -> list[str]:
    """One line for each mark, and for what was left out."""
    found = {mark: text for row in rows for mark, text in marks(row).items()}
    lines = [f"{mark}  {text}" for mark, text in sorted(found.items())]
    lines += sorted({f"{row.category}: {text}" for row in rows for text in _undefined(row)})
    lines += [
        f"{method}: {BY_CATEGORY}"
        for method, of_method in _methods(rows).items()
        if any(map(is_set_by_category, configurations(of_method)))
    ]
    lines += data_notes(rows)
    return ["", *lines] if lines else []


def _undefined(row: Row) -> list[str]:
    """Which scores of the table are not defined, and why."""
    reasons: dict[str, str] = json.loads(row.undefined)
    names: dict[str, list[str]] = {}
    for name, column, _ in COLUMNS:
        if column in reasons:
            names.setdefault(reasons[column], []).append(name)
    return [f"{' and '.join(columns)} n/a: {reason}" for reason, columns in names.items()]


def _by_method(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Rows by method; numbered where one method stands with several configurations."""
    result: dict[str, list[Row]] = {}
    for of_method in _methods(rows).values():
        found = configurations(of_method)
        for index, group in enumerate(found, 1):
            number = f" #{index}" if len(found) > 1 else ""
            for row in group:
                label = f"{row.method}{number}{''.join(sorted(marks(row)))}"
                result.setdefault(label, []).append(row)
    return result


def _methods(rows: Sequence[Row]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row.method, []).append(row)
    return found


def _cells(rows: Sequence[Row]) -> list[str]:
    return [_aggregate(rows, column, show) for _, column, show in COLUMNS]


def _aggregate(rows: Sequence[Row], column: str, show: Callable[[float | None], str]) -> str:
    """Of a score the mean over categories within a seed, then mean ± standard deviation over seeds;
    of a cost the median over both."""
    by_seed: dict[int, list[float]] = {}
    for row in rows:
        value = getattr(row, column)
        if value is None:
            return "n/a"
        by_seed.setdefault(row.seed, []).append(value)
    if show is not percent:
        return show(statistics.median(v for values in by_seed.values() for v in values))
    means = [statistics.fmean(values) for values in by_seed.values()]
    text = percent(statistics.fmean(means))
    if len(means) > 1:
        text += f" ± {percent(statistics.stdev(means))}"
    return text


def _list(values: Sequence[int]) -> str:
    return ", ".join(map(str, values)) or "n/a"
