"""Rows that may stand in one table: one data set, state of it, its options and protocol."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from bench.report.choice import quantities as q
from bench.report.choice.coverage import data_states
from bench.report.choice.marks import NOISY, NOISY_MEANING, ROUGH, marks
from bench.report.choice.settings_text import (
    named_values,
    not_shared,
    options_text,
    settings_notes,
)
from bench.report.choice.variants import variants
from bench.rows.settings import Likeness
from bench.rows.text import device, some

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bench.rows.row import Row


@dataclass(frozen=True)
class Group:
    """Rows that may be compared: one data set, its options and one protocol.

    Attributes:
        place: names data set and protocol, the options that tell it from the other groups, and
            the data set's other options that are not its defaults.
        machine: device, threads, speed or memory protocol; empty where scores are compared.
        variants: rows by method; one that stands with several settings is numbered.
        settings: what tells the variants of one method apart, by their name.
        categories: every category that some row has, sorted.
    """

    place: str
    machine: str
    variants: Mapping[str, list[Row]]
    settings: Mapping[str, str]
    categories: tuple[str, ...]

    @property
    def title(self) -> str:
        """Place and machine in one line."""
        return "; ".join(filter(None, (self.place, self.machine)))

    @cached_property
    def first(self) -> Row:
        """A row, for what all have in common."""
        return next(iter(self.variants.values()))[0]

    @property
    def legend(self) -> list[str]:
        """One line for each numbered variant, and for settings that are not the defaults."""
        return settings_notes(self.variants, self.settings)


TIMED_ALIKE = ("device", "threads", "speed")
"""Columns that are the same in rows whose times may be compared."""


def groups(rows: Sequence[Row], alike: Sequence[str] = ()) -> list[Group]:
    """Rows apart by everything that makes scores incomparable.

    Args:
        alike: for costs, further columns that are the same in a group.

    Where a category has rows of several states of its data (other images under one name), the
    state that `data_states` puts first stays, and the others make groups of their own.
    """

    likeness = Likeness(rows)

    def key(row: Row) -> tuple[object, ...]:
        return (*scored_alike(row, likeness), *(getattr(row, column) for column in alike))

    together = q.group_by(rows, key)
    places = [f"{group[0].dataset}, protocol {group[0].protocol}" for group in together]
    result = []
    for group, place in zip(together, places, strict=True):
        near = [other[0] for other, name in zip(together, places, strict=True) if name == place]
        options = options_of(near)
        told = not_shared(options)
        own = options[[row is group[0] for row in near].index(True)]
        named = [", ".join(named_values(own, told)), options_text(group[0], told)]
        name = "; ".join(filter(None, [place, *named]))
        for part, note in _by_data(group):
            found, settings = variants(part)
            result.append(
                Group(
                    place=name + note,
                    machine=machine(group[0], alike),
                    variants=found,
                    settings=settings,
                    categories=tuple(sorted({row.category for row in part})),
                )
            )
    return result


def scored_alike(row: Row, likeness: Likeness) -> tuple[object, ...]:
    """Equal for two rows whose scores may be compared, if they are of the same data."""
    options = (row.dataset_version, likeness.key(row, "dataset_params"), row.protocol)
    return (row.dataset, *options, likeness.key(row, "protocol_fields"))


def machine(row: Row, alike: Sequence[str]) -> str:
    """Device and threads, and of speed protocol and way of reading memory what is asked for."""
    parts = [device(row) if "device" in alike else "", row.speed if "speed" in alike else ""]
    memory = f"memory by {row.memory}" if "memory" in alike and row.memory else ""
    return ", ".join(filter(None, (*parts, memory)))


def options_of(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Of each row the parts of `scored_alike` but the names of data set and protocol, by name.

    Those that some row states; another row that lacks one has its default.
    """
    likeness = Likeness(rows)
    stated = {name for row in rows for name in (*row.dataset_params, *row.protocol_fields)}
    return [
        {"data set version": row.dataset_version}
        | {
            name: value
            for column in ("dataset_params", "protocol_fields")
            for name, value in likeness.settings(row, column).items()
            if name in stated
        }
        for row in rows
    ]


def _by_data(rows: Sequence[Row]) -> list[tuple[list[Row], str]]:
    """Rows in parts where each category has one data hash, with notes; the main one first."""
    states = data_states(rows)
    parts = []
    for number in range(max(map(len, states.values()))):
        part = [row for row in rows if states[row.category].index(row.data) == number]
        named = some(sorted({f"{row.category} {row.data[:8]}" for row in part}))
        parts.append((part, f"; other data: {named}" if number else ""))
    return parts


def marked(group: Group, name: str, *metrics: str) -> str:
    """The method's name with the marks that concern any of the metrics.

    That of noise stands where every row of the method that has one of them is noisy.
    """
    rows = group.variants[name]
    found = {mark for row in rows for mark in _marks(row, metrics)}
    if any(q.is_uncertain(rows, metric) for metric in metrics):
        found.add(NOISY)
    return name + "".join(sorted(found, key=_order))


def meanings(group: Group, *metrics: str) -> list[str]:
    """What those marks say, and that of noise where any row has it."""
    rows = [row for rows in group.variants.values() for row in rows]
    found = {mark: text for row in rows for mark, text in _marks(row, metrics).items()}
    if any(q.is_noisy(row, metric) for row in rows for metric in metrics):
        found[NOISY] = NOISY_MEANING
    return [f"{mark}  {found[mark]}" for mark in sorted(found, key=_order)]


def _marks(row: Row, metrics: Sequence[str]) -> dict[str, str]:
    found = marks(row)
    if not any(map(q.is_timing, metrics)):
        found.pop(ROUGH, None)
    return found


def left_to_noise(name: str, rows: Sequence[Row], metrics: Sequence[tuple[str, str]]) -> list[str]:
    """From how many rows costs come whose others are noisy: `p95 ms: from 4 of 12 rows of cflow`.

    Args:
        metrics: headings and quantities; those with the same numbers stand in one line.
    """
    found: dict[tuple[int, int], list[str]] = {}
    for heading, metric in metrics:
        having = [row for row in rows if q.quantity(row, metric) is not None]
        used = q.quiet(having, metric)
        if len(used) < len(having):
            found.setdefault((len(used), len(having)), []).append(heading)
    return [
        f"{', '.join(headings)}: from {used} of {every} rows of {name}, the others are noisy"
        for (used, every), headings in found.items()
    ]


def _order(mark: str) -> tuple[bool, str]:
    """That of noisy timings comes last."""
    return mark == NOISY, mark
