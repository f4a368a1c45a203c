"""The table that a run ends with: categories, their mean, the protocol in the caption."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tabulate import tabulate

from bench.report import quantities as q
from bench.report.coverage import Chosen, choose, dropped
from bench.report.marks import data_notes, marks
from bench.report.variants import BY_CATEGORY, configurations, is_set_by_category
from bench.report.words import device, listed

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from bench.row import Row

COLUMNS = (
    ("image AUROC", "image_auroc"),
    ("pixel AUROC", "pixel_auroc"),
    ("AUPRO 0.3", "aupro_30"),
    ("FPS", "fps"),
    ("p50 ms", "latency_p50_ms"),
    ("infer MB", "infer_mb"),
    ("fit MB", "fit_mb"),
    ("fit s", "fit_s"),
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
    headers = ["method", "category", *(name for name, _ in COLUMNS)]
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
    lines += dropped({label: choose(of_method) for label, of_method in _by_method(rows).items()})
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
    for name, column in COLUMNS:
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
    counting = choose(rows)
    return [_text(counting, column) for _, column in COLUMNS]


def _text(counting: Chosen, column: str) -> str:
    """Mean ± standard deviation of a score, median of a cost; n/a where one is missing."""
    rows = counting.every_row
    if any(q.quantity(row, column) is None for row in rows):
        return "n/a"
    value, deviation = q.over_seeds(rows, column, list(counting.rows))
    return q.show(column, value) + ("" if deviation is None else f" ± {q.show(column, deviation)}")


def _list(values: Sequence[int]) -> str:
    return ", ".join(map(str, values)) or "n/a"
