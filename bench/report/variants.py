"""Which rows of one method are one entry of a table: those of one configuration."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.row import Row

BY_CATEGORY = "settings differ by category; the column params has them"


def configurations(rows: Sequence[Row]) -> list[list[Row]]:
    """Rows of one configuration together, in the order in which they first appear.

    A configuration may set parameters for each category, as papers do: sets of parameters that
    share no category are one configuration, joined to the set from which they differ least.

    Args:
        rows: of one method, on one data set under one protocol.
    """
    sets: dict[tuple[object, ...], list[Row]] = {}
    for row in rows:
        sets.setdefault((*_fixed(row), row.params), []).append(row)
    found: list[list[Row]] = []
    for group in sorted(sets.values(), key=lambda group: -len(_categories(group))):
        free = [
            other
            for other in found
            if _fixed(other[0]) == _fixed(group[0])
            and _categories(other).isdisjoint(_categories(group))
        ]
        if free:
            min(free, key=lambda other: _distance(other[0], group[0])).extend(group)
        else:
            found.append(list(group))
    place = {id(row): index for index, row in enumerate(rows)}
    ordered = [sorted(group, key=lambda row: place[id(row)]) for group in found]
    return sorted(ordered, key=lambda group: place[id(group[0])])


def is_set_by_category(configuration: Sequence[Row]) -> bool:
    """Whether the parameters of a configuration are not the same in all its rows."""
    return len({row.params for row in configuration}) > 1


def _fixed(row: Row) -> tuple[object, ...]:
    """What is the same in all rows of a configuration."""
    return (row.method_version, row.pretrained, row.kind)


def _categories(rows: Sequence[Row]) -> set[str]:
    return {row.category for row in rows}


def _distance(a: Row, b: Row) -> int:
    """How many parameters differ."""
    left, right = json.loads(a.params), json.loads(b.params)
    return sum(left.get(name) != right.get(name) for name in {*left, *right})
