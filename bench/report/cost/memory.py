"""Peak memory against the input's size, and PyramidFlow's training memory against its depth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.report.choice import quantities as q
from bench.report.choice.marks import OF_SCORES, ROUGH, marks
from bench.report.choice.settings_text import in_words, not_shared
from bench.report.choice.variants import told_apart
from bench.report.cost.complexity import input_side
from bench.rows.settings import Likeness, defaults_in, precision_of
from bench.rows.text import device, listed, plain, some

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bench.report.paper.published import PublishedNumbers
    from bench.rows.row import Row

STACKS = (2, 4, 8, 16, 32, 64)
"""Those of PyramidFlow's Figure 5."""

RUN_SIZES = (
    "bench run -m padim,cflow,pyramidflow -d synthetic -c weave --preset costs{results} "
    "--set input_size=256, then 384, 512, ..."
)
RUN_STACKS = (
    "bench run -m pyramidflow -d synthetic -c weave --preset costs{results} --set channels=24 "
    "--set levels=8 --set stacks=2, then 4, 8, ...; "
    "or all: bench table pyramidflow/figure5 --run{results}"
)
"""What to run for the figures; `results` is empty or an option with a space before it."""


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

    def place(row: Row) -> tuple[object, ...]:
        data = (row.dataset, row.dataset_version, likeness.key(row, "dataset_params"))
        fields = likeness.key(row, "protocol_fields", without=_SIZES)
        return (*data, fields, row.device, row.threads, row.memory)

    found = [(group[0], series) for group in q.group_by(sized, place) if (series := _series(group))]
    result = []
    for row, series in found:
        told = not_shared([_options(other) for other, _ in found if other.dataset == row.dataset])
        mine = _options(row)
        options = [f"{key}={plain(mine[key])}" for key in told if key in mine]
        protocols = sorted({each.protocol for rows in series.values() for each in rows})
        named = f"protocol{'s' * (len(protocols) > 1)} {some(protocols)}"
        result.append(
            MemoryPlot(
                place=", ".join([row.dataset, named, *options]),
                machine=f"{device(row)}, memory by {row.memory}",
                notes=tuple(_notes(series)),
                series={name: _points(rows) for name, rows in series.items()},
            )
        )
    return result


def _options(row: Row) -> dict[str, Any]:
    """Of data set and protocol, without the size of the input."""
    fields = {k: v for k, v in row.protocol_fields.items() if k not in _SIZES}
    return {**row.dataset_params, **fields}


_SIZES = ("resize", "crop", "mask_size")


def _series(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Rows by method and what tells its settings apart, of settings with two sizes or more."""

    likeness = Likeness(rows)

    def setting(row: Row) -> tuple[object, ...]:
        own = (row.method, row.method_version, row.pretrained, precision_of(row))
        return (*own, likeness.key(row, "params", without=("input_size",)))

    several = [g for g in q.group_by(rows, setting) if len({input_side(row) for row in g}) > 1]
    result = {}
    for group in several:
        known = [other[0] for other in several if other[0].method == group[0].method]
        told = told_apart(group[0], known, without=("input_size",))
        name = group[0].method + "".join(_marks(group))
        result[", ".join([name, *told])] = group
    return result


def _marks(rows: Sequence[Row]) -> dict[str, str]:
    """Marks of the rows that concern memory, with their meaning."""
    found = {mark: text for row in rows for mark, text in sorted(marks(row).items())}
    return {mark: text for mark, text in found.items() if mark not in OF_SCORES + ROUGH}


def _notes(series: Mapping[str, Sequence[Row]]) -> list[str]:
    """What the numbers of a panel come from, and what the marks of its methods mean."""
    rows = [row for found in series.values() for row in found]
    settings = {
        name: in_words(found[:1], ["input_size"])
        for name, found in series.items()
        if defaults_in(found[0], "params")
    }
    return [
        f"{_measured_on(rows)}; median over rows",
        *(f"{name}: {text}" for name, text in settings.items()),
        *(f"{mark}  {text}" for mark, text in _marks(rows).items()),
    ]


def _measured_on(rows: Sequence[Row]) -> str:
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


@dataclass(frozen=True)
class MemoryCurve:
    """Training memory against the number of stacked blocks.

    Attributes:
        saves_memory: whether the backward pass recomputes what it needs.
    """

    label: str
    stacks: tuple[int, ...]
    gigabytes: tuple[float, ...]
    is_published: bool
    saves_memory: bool


_KINDS = {True: "memory-saving", False: "autograd"}


def memory_saving_curves(published: PublishedNumbers, rows: Sequence[Row]) -> list[MemoryCurve]:
    """PyramidFlow's Figure 5, and measured rows that differ in `stacks` alone."""
    curves = []
    for name, saves in (
        ("NF (memory-saving backward)", True),
        ("Net (auto-differentiation)", False),
    ):
        selector = {"metric": "train_memory_gb"}
        found = {n.variant: n.number for n in published.find("pyramidflow", "Figure 5", selector)}
        values = tuple(found[f"{name}, D={d}"] for d in STACKS)
        label = f"{_KINDS[saves]}, published figure (digitised)"
        curves.append(MemoryCurve(label, STACKS, values, True, saves))
    return [*curves, *_measured_curves(rows)]


def _measured_curves(rows: Sequence[Row]) -> list[MemoryCurve]:
    """At least two stacks of one setting, on one machine."""
    flows = [
        row for row in rows if row.method == "pyramidflow" and row.fit_mb and "stacks" in row.params
    ]

    likeness = Likeness(flows)

    def setting(row: Row) -> tuple[object, ...]:
        own = (row.method_version, row.pretrained, precision_of(row))
        known = (*own, likeness.key(row, "params", without=("stacks",)))
        options = (likeness.key(row, column) for column in ("dataset_params", "protocol_fields"))
        place = (row.dataset, row.dataset_version, *options)
        return (*known, *place, row.device, row.threads, row.memory)

    several = [
        group
        for group in q.group_by(flows, setting)
        if len({row.params["stacks"] for row in group}) > 1
    ]
    firsts = [group[0] for group in several]
    places = not_shared([_options(row) for row in firsts])
    curves = []
    for group in several:
        by_stacks: dict[int, list[Row]] = {}
        for row in group:
            by_stacks.setdefault(row.params["stacks"], []).append(row)
        stacks = tuple(sorted(by_stacks))
        medians = [q.median_cost(by_stacks[count], "fit_mb") for count in stacks]
        told = told_apart(group[0], firsts, without=("stacks", *_NAMED))
        mine = _options(group[0])
        told += [f"{key}={plain(mine[key])}" for key in places if key in mine]
        values = tuple((value or 0.0) / 1000 for value in medians)
        saves = bool(group[0].params.get("save_memory"))
        curves.append(MemoryCurve(_label(group, told), stacks, values, False, saves))
    return curves


_NAMED = ("save_memory", "levels", "channels", "input_size")
"""Parameters that every label names."""


def _label(rows: Sequence[Row], told: Sequence[str]) -> str:
    """Settings, data, machine, and how memory was measured."""
    row, marked = rows[0], _marks(rows)
    params = row.params
    kind = _KINDS[bool(params.get("save_memory"))]
    side = input_side(row)
    parts = [
        f"{kind}{''.join(marked)}, measured: {params.get('levels')} levels",
        f"{params.get('channels')} channels",
        f"{side:.0f} px" if side else "size unknown",
        *told,
        f"{row.dataset}, {_measured_on(rows)}",
        device(row),
        f"memory by {row.memory or 'no stated means'}",
        *(f"{mark} {text}" for mark, text in marked.items()),
    ]
    return ", ".join(parts)
