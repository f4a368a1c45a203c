"""Which rows may stand in one line of a table: of one version, kind of weights, files and seeds."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

from bench.report.choice.coverage import choose, data_states
from bench.report.choice.variants import identity_of_weights
from bench.rows.row_values import MEASURED

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from bench.rows.row import Row


class Step(IntEnum):
    """How far a row came before it was left out; the last ones fit the settings of a table row."""

    CATEGORY = 0
    RANDOM = 1
    PROTOCOL = 2
    DATASET = 3
    PARAMETERS = 4
    ABSENT = 5
    SEED = 6
    KIND = 7
    DATA = 8
    OLDER = 9
    PARTIAL = 10
    FITS = 11


@dataclass(frozen=True)
class Verdict:
    """Whether a row belongs to a row of the table, and if not, why."""

    step: Step
    reason: str = ""


FITS = Verdict(Step.FITS)


_KIND = {
    "method_version": "version {} of the method, not {}",
    "dataset_version": "version {} of the data set, not {}",
    "kind": "{}, not {}",
    "pretrained": "weights {}, not {}",
    "weights": "weights {}, not {}",
}
"""Columns that must agree, and what is said of a row that differs."""


def of_seeds(rows: Iterable[Row], seeds: Sequence[int], left: dict[str, Verdict]) -> list[Row]:
    """Rows of the seeds that were asked for.

    Args:
        left: gets the reason of each row that is left out, by cell; here and below.
    """
    kept = []
    for row in rows:
        if row.seed in seeds:
            kept.append(row)
        else:
            left[row.cell] = Verdict(Step.SEED, f"seed {row.seed} was not asked for")
    return kept


def one_kind(rows: Sequence[Row], left: dict[str, Verdict]) -> list[Row]:
    """Rows of the newest version; measured before submitted, usual weights before a file's."""
    groups = defaultdict(list)
    for row in rows:
        groups[_kind(row)].append(row)
    if not groups:
        return []
    best = max(groups, key=lambda kind: (_preference(groups[kind][0]), _size(groups[kind])))
    for kind, group in groups.items():
        for row in group if kind != best else ():
            text = next(
                text.format(mine, wanted)
                for text, mine, wanted in zip(_KIND.values(), kind, best, strict=True)
                if mine != wanted
            )
            left[row.cell] = Verdict(Step.KIND, text)
    return groups[best]


def _kind(row: Row) -> tuple[object, ...]:
    values = {column: getattr(row, column) for column in _KIND}
    return tuple({**values, "weights": identity_of_weights(row)}.values())


def _preference(row: Row) -> tuple[object, ...]:
    is_file = row.pretrained.startswith("file:")
    versions = (row.method_version, row.dataset_version)
    return (*versions, row.kind == MEASURED, not is_file)


def _size(rows: Sequence[Row]) -> tuple[int, str]:
    """Cells of the group, then its newest row."""
    return len({(row.category, row.seed) for row in rows}), max(row.started for row in rows)


def common_files(lines: Iterable[Sequence[Row]]) -> dict[str, str]:
    """Which data hash each category is shown with in every line of a table."""
    states = data_states(row for rows in lines for row in rows)
    return {category: hashes[0] for category, hashes in states.items()}


def of_files(rows: Iterable[Row], files: Mapping[str, str], left: dict[str, Verdict]) -> list[Row]:
    """Rows on these files."""
    kept = []
    for row in rows:
        if row.data == files[row.category]:
            kept.append(row)
        else:
            text = f"other files of {row.category}: data {row.data}, not {files[row.category]}"
            left[row.cell] = Verdict(Step.DATA, text)
    return kept


def of_whole_seeds(rows: Sequence[Row], left: dict[str, Verdict]) -> list[Row]:
    """Rows that count, so that the cells of a line and its mean come from the same seeds."""
    chosen = choose(rows)
    for row in rows:
        if row.seed in chosen.dropped:
            lacking = ", ".join(chosen.dropped[row.seed])
            left[row.cell] = Verdict(Step.PARTIAL, f"seed {row.seed} lacks {lacking}")
    older = Verdict(Step.OLDER, "an older row of the same category and seed")
    left.update((row.cell, older) for row in chosen.older)
    return list(chosen.every_row)
