"""Peak memory against the input's size, for settings that were measured at several."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.report.choice import quantities as q
from bench.report.choice.marks import OF_SCORES, ROUGH, marks
from bench.report.choice.settings_text import in_words, named_values, not_shared
from bench.report.choice.variants import told_apart
from bench.report.cost.complexity import input_side
from bench.rows.settings import Likeness, defaults_in, precision_of
from bench.rows.text import device, listed, some

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bench.rows.row import Row

RUN_SIZES = (
    "bench run -m METHODS -d synthetic -c weave --preset costs{results} "
    "--set input_size=256, then 384, 512, ..."
)
"""What to run for the figure; `results` is empty or an option with a space before it."""

SIZE = "input_size"
"""The parameter of methods that choose the size of their input."""


@dataclass(frozen=True)
class Point:
    """Median peak memory at one size of the input."""

    side: float  # pixels
    fit_mb: float | None
    infer_mb: float | None


@dataclass(frozen=True)
class MemoryPlot:
    """Methods on one data set and machine.

    Attributes:
        place: names data set, protocol and the options that tell it from the other panels.
        machine: device, threads and how memory was measured.
        notes: categories, seeds, speed protocol, settings, and what marks mean.
        series: points sorted by side, by method and settings.
    """

    place: str
    machine: str
    notes: tuple[str, ...]
    series: Mapping[str, tuple[Point, ...]]


def memory_plots(rows: Sequence[Row]) -> list[MemoryPlot]:
    """Settings that were measured at two sizes or more on one machine."""
    sized = [
        row
        for row in rows
        if row.memory and input_side(row) is not None and (row.fit_mb or row.infer_mb)
    ]

    likeness = Likeness(sized)

    together = q.group_by(sized, lambda row: place_and_machine(row, likeness, without=_SIZES))
    found = [(group[0], series) for group in together if (series := _series(group))]
    result = []
    for row, series in found:
        told = not_shared(
            [options_but_size(other) for other, _ in found if other.dataset == row.dataset]
        )
        named = named_values(options_but_size(row), told)
        protocols = sorted({each.protocol for rows in series.values() for each in rows})
        under = f"protocol{'s' * (len(protocols) > 1)} {some(protocols)}"
        result.append(
            MemoryPlot(
                place=", ".join([row.dataset, under, *named]),
                machine=f"{device(row)}, memory by {row.memory}",
                notes=tuple(_notes(series)),
                series={name: _points(rows) for name, rows in series.items()},
            )
        )
    return result


def place_and_machine(
    row: Row, likeness: Likeness, without: tuple[str, ...] = ()
) -> tuple[object, ...]:
    """Equal for rows whose memory may be compared.

    Args:
        without: fields of the protocol in which they may differ.
    """
    data = (row.dataset, row.dataset_version, likeness.key(row, "dataset_params"))
    fields = likeness.key(row, "protocol_fields", without=without)
    return (*data, fields, row.device, row.threads, row.memory)


def setting_of(row: Row, likeness: Likeness, x: str) -> tuple[object, ...]:
    """Equal for rows of a method that differ in the parameter `x` alone."""
    own = (row.method, row.method_version, row.pretrained, precision_of(row))
    return (*own, likeness.key(row, "params", without=(x,)))


def options_but_size(row: Row) -> dict[str, Any]:
    """Of data set and protocol, without the size of the input."""
    fields = {k: v for k, v in row.protocol_fields.items() if k not in _SIZES}
    return {**row.dataset_params, **fields}


_SIZES = ("resize", "crop", "mask_size")


def _series(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Rows by method and what tells its settings apart, of settings with two sizes or more."""
    likeness = Likeness(rows)
    together = q.group_by(rows, lambda row: setting_of(row, likeness, SIZE))
    several = [group for group in together if len({input_side(row) for row in group}) > 1]
    result = {}
    for group in several:
        known = [other[0] for other in several if other[0].method == group[0].method]
        told = told_apart(group[0], known, without=(SIZE,))
        name = group[0].method + "".join(marks_of_memory(group))
        result[", ".join([name, *told])] = group
    return result


def marks_of_memory(rows: Sequence[Row]) -> dict[str, str]:
    """Marks of the rows that do not concern scores or speed alone, with their meaning."""
    found = {mark: text for row in rows for mark, text in sorted(marks(row).items())}
    return {mark: text for mark, text in found.items() if mark not in OF_SCORES + ROUGH}


def _notes(series: Mapping[str, Sequence[Row]]) -> list[str]:
    """What the numbers of a panel come from, and what the marks of its methods mean."""
    rows = [row for found in series.values() for row in found]
    settings = {
        name: in_words(found[:1], [SIZE])
        for name, found in series.items()
        if defaults_in(found[0], "params")
    }
    return [
        f"{measured_on(rows)}; median over rows",
        *(f"{name}: {text}" for name, text in settings.items()),
        *(f"{mark}  {text}" for mark, text in marks_of_memory(rows).items()),
    ]


def measured_on(rows: Sequence[Row]) -> str:
    """Categories, seeds and speed protocols."""
    categories = sorted({row.category for row in rows})
    parts = [
        f"categor{'y' if len(categories) == 1 else 'ies'} {some(categories)}",
        listed("seed", (row.seed for row in rows)),
    ]
    speeds = sorted({row.speed for row in rows if row.speed})
    return ", ".join([*parts, f"speed protocol {some(speeds)}" if speeds else "not timed"])


def _points(rows: Sequence[Row]) -> tuple[Point, ...]:
    by_side: dict[float, list[Row]] = {}
    for row in rows:
        side = input_side(row)
        assert side is not None
        by_side.setdefault(side, []).append(row)
    return tuple(
        Point(side, q.median_cost(found, "fit_mb"), q.median_cost(found, "infer_mb"))
        for side, found in sorted(by_side.items())
    )
