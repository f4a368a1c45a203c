"""What methods cost: parameters, operations, state, speed, memory, beside their scores."""

from __future__ import annotations

import json
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tabulate import tabulate

from bench.report import quantities as q
from bench.report.compare import Group, groups, marked, meanings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.report.published import Published
    from bench.row import Row

COLUMNS: tuple[tuple[str, str], ...] = (
    ("params M", "params_m"),
    ("GFLOPs", "gflops"),
    ("state MB", "state_mb"),
    ("encoder MB", "state_backbone_mb"),
    ("FPS b1", "fps_b1"),
    ("FPS b8", "fps_b8"),
    ("FPS", "fps"),
    ("p50 ms", "latency_p50_ms"),
    ("p95 ms", "latency_p95_ms"),
    ("encoder FPS", "encoder_fps"),
    ("enc+dec FPS", "decoder_fps"),
    ("fit MB", "fit_mb"),
    ("infer MB", "infer_mb"),
    ("fit s", "fit_s"),
)


@dataclass(frozen=True)
class Cost:
    """One method in one group; each cost is the median over categories and seeds."""

    label: str
    method: str
    costs: dict[str, float | None]
    score: float | None  # mean over categories, then seeds
    batches: tuple[int, ...]
    is_noisy: bool
    input_side: float | None  # pixels; the geometric mean of both sides


def cost_groups(rows: Sequence[Row]) -> list[Group]:
    """Rows with timings, apart by data set, protocol, device, threads and speed protocol."""
    return groups([row for row in rows if row.speed], by_device=True)


def costs(group: Group, metric: str) -> list[Cost]:
    """One line for each method of a group."""
    result = []
    for name, rows in group.variants.items():
        medians = {
            column: _median([q.quantity(row, column) for row in rows]) for _, column in COLUMNS
        }
        categories = sorted({row.category for row in rows})
        score, _ = q.over_seeds(rows, metric, categories)
        sides = [s for row in rows if (s := input_side(row)) is not None]
        result.append(
            Cost(
                label=marked(group, name, "fps"),
                method=rows[0].method,
                costs=medians,
                score=score,
                batches=tuple(sorted({row.fps_batch for row in rows if row.fps_batch})),
                is_noisy=any(row.noisy for row in rows),
                input_side=statistics.median(sides) if sides else None,
            )
        )
    return result


def _median(values: Sequence[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return statistics.median(present) if present else None


def input_side(row: Row) -> float | None:
    """Side of the network's input in pixels; None where neither protocol nor method says."""
    resize = json.loads(row.protocol_fields).get("resize")
    crop = json.loads(row.protocol_fields).get("crop")
    if crop:
        return float(crop)
    if resize == "method":
        resize = json.loads(row.params).get("input_size")
    if isinstance(resize, list):
        return float((resize[0] * resize[1]) ** 0.5)
    return float(resize) if isinstance(resize, (int, float)) else None


def complexity_table(group: Group, metric: str) -> str:
    """Title with device and protocols, costs, notes."""
    lines = []
    for cost in costs(group, metric):
        batch = ", ".join(map(str, cost.batches)) or "n/a"
        values = [q.show(column, cost.costs[column]) or "n/a" for _, column in COLUMNS]
        score = q.show(metric, cost.score) or "n/a"
        lines.append([cost.label + ("*" if cost.is_noisy else ""), score, *values, batch])
    head = ["method", q.label(metric), *(name for name, _ in COLUMNS), "batch"]
    body = tabulate(lines, head, "pipe", disable_numparse=True, stralign="right")
    notes = [
        f"{len(group.categories)} categories: score is their mean, a cost their median",
        "FPS: at the batch in the last column; latency, encoder and enc+dec: at batch 1",
        "enc+dec: network and method, without upsampling and copies",
        "MB of 10^6 bytes; state includes the encoder",
        *group.settings,
        *meanings(group, "fps"),
    ]
    if any(cost.is_noisy for cost in costs(group, metric)):
        notes.append("*  step times spread by more than 10 %: speed is uncertain")
    return "\n".join([f"Complexity on {group.title}", "", body, "", *notes])


@dataclass(frozen=True)
class Curve:
    """Training memory against the number of stacked blocks."""

    label: str
    stacks: tuple[int, ...]
    gigabytes: tuple[float, ...]
    is_published: bool


def memory_saving_curves(published: Published, rows: Sequence[Row]) -> list[Curve]:
    """PyramidFlow's Figure 5, and measured rows that differ in `stacks` alone."""
    curves = []
    for name, label in (
        ("NF (memory-saving backward)", "memory-saving"),
        ("Net (auto-differentiation)", "autograd"),
    ):
        stacks = (2, 4, 8, 16, 32, 64)
        selector = {"metric": "train_memory_gb"}
        found = {n.variant: n.number for n in published.find("pyramidflow", "Figure 5", selector)}
        values = tuple(found[f"{name}, D={d}"] for d in stacks)
        curves.append(Curve(f"{label}, published figure (digitised)", stacks, values, True))
    return [*curves, *_measured_curves(rows)]


def _measured_curves(rows: Sequence[Row]) -> list[Curve]:
    """At least two stacks of one setting, on one device."""
    flows = [
        row
        for row in rows
        if row.method == "pyramidflow" and row.fit_mb and "stacks" in json.loads(row.params)
    ]

    def setting(row: Row) -> tuple[object, ...]:
        params = {k: v for k, v in json.loads(row.params).items() if k != "stacks"}
        place = (row.dataset_params, row.protocol_fields, row.device, row.memory)
        return (row.method_version, json.dumps(params, sort_keys=True), row.dataset, *place)

    curves = []
    for group in q.group_by(flows, setting):
        by_stacks: dict[int, list[float]] = {}
        for row in group:
            assert row.fit_mb is not None
            by_stacks.setdefault(json.loads(row.params)["stacks"], []).append(row.fit_mb / 1000)
        if len(by_stacks) < 2:
            continue
        params = json.loads(group[0].params)
        kind = "memory-saving" if params.get("save_memory") else "autograd"
        side = input_side(group[0])
        curves.append(
            Curve(
                f"{kind}, measured: {params.get('levels')} levels, {params.get('channels')} "
                f"channels, {f'{side:.0f} px' if side else 'size unknown'}, {group[0].device}",
                tuple(sorted(by_stacks)),
                tuple(statistics.median(by_stacks[s]) for s in sorted(by_stacks)),
                False,
            )
        )
    return curves
