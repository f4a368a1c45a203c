"""The outcome of `bench check` as text, JSON and JUnit XML."""

from __future__ import annotations

import json
import re
import statistics
from typing import TYPE_CHECKING, Any
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from bench.errors import counted
from bench.rows.row import MAIN_COSTS

if TYPE_CHECKING:
    from bench.rows.check import Compared, Comparison, Difference
    from bench.rows.row import Row

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def as_text(outcome: Comparison, complete: bool) -> str:
    """For people: what changed and what else did, what is missing, what is new, speed, verdict."""
    lines: list[str] = []
    for compared in outcome.changed:
        lines += [f"CHANGED {_label(compared)}  cell {compared.current.cell}"]
        lines += [f"    {_difference(d)}" for d in compared.changed]
        lines += [f"    {line}" for line in _causes(compared)]
    lines += [f"MISSING {_name(row)}  cell {row.cell}" for row in outcome.missing]
    lines += [f"NEW     {_name(row)}  cell {row.cell}" for row in outcome.new]
    if lines:
        lines.append("")
    lines += [_speed_line(method, ratios) for method, ratios in speed(outcome).items()]
    changed = sum(bool(c.changed) for c in outcome.cells)
    means = sum(bool(c.changed) for c in outcome.means)
    lines.append(
        f"{counted(len(outcome.cells), 'cell')} compared: {len(outcome.cells) - changed} agree, "
        f"{changed} changed; {len(outcome.missing)} missing, {len(outcome.new)} new"
    )
    if outcome.means:
        lines.append(f"{len(outcome.means)} means over other seeds: {means} changed")
    if outcome.other_seeds:
        lines.append(
            f"{outcome.other_seeds} of the missing have rows of other seeds in the results: "
            "--new-seeds compares their means, from three rows on"
        )
    lines.append(_verdict(outcome, complete))
    return "\n".join(lines)


def as_json(outcome: Comparison, complete: bool) -> str:
    """Every figure that was compared, with its tolerance; keys are stable."""
    values = {
        "exit_code": outcome.exit_code(complete),
        "compared": len(outcome.cells),
        "changed": [_as_values(c) for c in outcome.cells if c.changed],
        "changed_means": [_as_values(c) for c in outcome.means if c.changed],
        "missing": [_identity(row) for row in outcome.missing],
        "new": [_identity(row) for row in outcome.new],
        "agree": [_as_values(c) for c in [*outcome.cells, *outcome.means] if not c.changed],
        "speed": speed(outcome),
    }
    return json.dumps(values, indent=1)


def as_junit(outcome: Comparison, complete: bool) -> str:
    """One test case for each cell and mean; a missing cell fails where all are asked for."""
    suite = Element("testsuite", name="bench check")
    failures = skipped = 0
    for compared in [*outcome.cells, *outcome.means]:
        case = _case(suite, compared.current, _label(compared))
        if compared.changed:
            failures += 1
            message = "; ".join(_difference(d) for d in compared.changed)
            body = SubElement(case, "failure", type="changed", message=_xml(message))
            body.text = _xml("\n".join([message, *_causes(compared)]))
    for row in outcome.missing:
        kind = "failure" if complete else "skipped"
        failures, skipped = failures + complete, skipped + (not complete)
        message = "in the baseline, but not in the results"
        SubElement(_case(suite, row, _name(row)), kind, type="missing", message=message)
    for row in outcome.new:
        skipped += 1
        message = "in the results, but not in the baseline"
        SubElement(_case(suite, row, _name(row)), "skipped", type="new", message=message)
    if outcome.exit_code() == 3:
        failures += 1
        case = SubElement(suite, "testcase", classname="bench check", name="cells to compare")
        SubElement(case, "failure", type="nothing", message=_verdict(outcome, complete))
    suite.set("tests", str(len(suite)))
    suite.set("failures", str(failures))
    suite.set("skipped", str(skipped))
    suite.set("errors", "0")
    indent(suite)
    text: str = tostring(suite, encoding="unicode", xml_declaration=False)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}'


def speed(outcome: Comparison) -> dict[str, dict[str, float]]:
    """Median ratio now / baseline of each figure, by method; of pairs on one kind of device only.

    Reported, never gated: a shared machine is as slow as its neighbours make it.
    """
    found: dict[str, dict[str, list[float]]] = {}
    for cell in outcome.cells:
        old, now = cell.baseline, cell.current
        if (old.device, old.threads, old.speed) != (now.device, now.threads, now.speed):
            continue
        for name in MAIN_COSTS:
            before, after = getattr(old, name), getattr(now, name)
            if before and after:
                found.setdefault(now.method, {}).setdefault(name, []).append(after / before)
    return {
        method: {name: round(statistics.median(ratios), 3) for name, ratios in of_method.items()}
        for method, of_method in sorted(found.items())
    }


def _verdict(outcome: Comparison, complete: bool) -> str:
    code = outcome.exit_code(complete)
    if code == 3:
        return "NOTHING COMPARED: no cell is in both folders"
    if code == 0:
        return "OK"
    return (
        "FAILED: find the cause; where the change is meant, replace the baseline's rows in the "
        "same commit and say why"
    )


def _causes(compared: Compared) -> list[str]:
    differ = [f"{c.part} ({'; '.join(c.details)})" for c in compared.changes if c.details]
    same = [c.part for c in compared.changes if not c.details]
    lines = [f"differs: {', '.join(differ)}"] if differ else []
    if same:
        lines.append(f"the same: {', '.join(same)}")
    if not differ:
        lines.append("nothing recorded differs: the cell is not repeatable, or a row was edited")
    return lines


def _difference(d: Difference) -> str:
    if d.delta is None:
        return f"{d.metric} {_number(d.baseline)} -> {_number(d.current)}"
    return (
        f"{d.metric} {_number(d.baseline)} -> {_number(d.current)} "
        f"({d.delta:+.6g}, tolerance {d.tolerance:.3g})"
    )


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.6g}"


def _name(row: Row) -> str:
    random = ", random weights" if row.pretrained == "random" else ""
    return (
        f"{row.method} {row.dataset}/{row.category} seed {row.seed}, "
        f"protocol {row.protocol}{random}"
    )


def _label(compared: Compared) -> str:
    if compared.seeds == compared.old_seeds:
        return _name(compared.baseline)
    now, old = (", ".join(map(str, seeds)) for seeds in (compared.seeds, compared.old_seeds))
    return _name(compared.baseline).replace(
        f"seed {compared.baseline.seed},", f"mean of seeds {now} against that of {old},", 1
    )


def _speed_line(method: str, ratios: dict[str, float]) -> str:
    shown = ", ".join(f"{name} x{ratio:g}" for name, ratio in ratios.items())
    return f"speed, not gated: {method} {shown}"


def _identity(row: Row) -> dict[str, Any]:
    names = ("cell", "method", "dataset", "category", "seed", "protocol", "pretrained", "params")
    return {name: row.key(name) for name in names}


def _as_values(compared: Compared) -> dict[str, Any]:
    return {
        **_identity(compared.current),
        "label": _label(compared),
        "baseline_cell": compared.baseline.cell,
        "seeds": list(compared.seeds),
        "baseline_seeds": list(compared.old_seeds),
        "differences": [
            {
                "metric": d.metric,
                "baseline": d.baseline,
                "current": d.current,
                "delta": d.delta,
                "tolerance": d.tolerance,
                "passed": d.passed,
            }
            for d in compared.differences
        ],
        "differs": {c.part: list(c.details) for c in compared.changes},
    }


def _case(suite: Element, row: Row, name: str) -> Element:
    return SubElement(
        suite, "testcase", classname=_xml(f"{row.method}.{row.dataset}"), name=_xml(name)
    )


def _xml(text: str) -> str:
    """Without the characters that XML 1.0 cannot hold, escaped or not."""
    return _NOT_XML.sub("?", text)
