"""Which rows of one method are one entry of a table: those of one configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.report.choice.settings_text import not_shared
from bench.rows.settings import Likeness, precision_of
from bench.rows.text import plain

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from bench.rows.row import Row

BY_CATEGORY = "settings differ by category; the column params has them"


def configurations(rows: Sequence[Row]) -> list[list[Row]]:
    """Rows of one configuration together, in the order in which they first appear.

    A configuration may set parameters for each category, as papers do: sets of parameters that
    share no category are one configuration, joined to the set from which they differ least.

    Args:
        rows: of one method, on one data set under one protocol.
    """
    likeness = Likeness(rows)
    sets: dict[tuple[object, ...], list[Row]] = {}
    for row in rows:
        sets.setdefault((*_fixed(row), likeness.key(row, "params")), []).append(row)
    found: list[list[Row]] = []
    for group in sorted(sets.values(), key=lambda group: -len(_categories(group))):
        free = [
            other
            for other in found
            if _fixed(other[0]) == _fixed(group[0])
            and _categories(other).isdisjoint(_categories(group))
        ]
        if free:
            min(free, key=lambda other: _distance(likeness, other[0], group[0])).extend(group)
        else:
            found.append(list(group))
    place = {id(row): index for index, row in enumerate(rows)}
    ordered = [sorted(group, key=lambda row: place[id(row)]) for group in found]
    return sorted(ordered, key=lambda group: place[id(group[0])])


def variants(rows: Sequence[Row]) -> tuple[dict[str, list[Row]], dict[str, str]]:
    """Rows by method, in the order of the rows, and what tells one method's configurations apart.

    A method with several configurations stands as `method #1`, `method #2`, each with the text that
    says in what it differs from the others.
    """
    methods: dict[str, list[Row]] = {}
    for row in rows:
        methods.setdefault(row.method, []).append(row)
    found: dict[str, list[Row]] = {}
    texts: dict[str, str] = {}
    for method, of_method in methods.items():
        known = configurations(of_method)
        for index, chosen in enumerate(known, 1):
            name = f"{method} #{index}" if len(known) > 1 else method
            found[name] = chosen
            parts = told_apart(chosen[0], [other[0] for other in known])
            if is_set_by_category(chosen):
                parts.append(BY_CATEGORY)
            if parts:
                texts[name] = ", ".join(parts)
    return found, texts


def told_apart(row: Row, known: Sequence[Row], without: Sequence[str] = ()) -> list[str]:
    """In what a row's configuration differs from those of other rows of its method.

    Args:
        without: parameters that are not named.
    """
    likeness = Likeness([row, *known])
    mine = _named(row, likeness)
    told = not_shared([mine, *(_named(other, likeness) for other in known)])
    names = [name for name in told if name in mine and name not in without]
    texts = [mine[k] if k in _OWN else f"{k}={mine[k]}" for k in names]
    return [*texts, *told_by_weights(row, known)]


def told_by_weights(row: Row, known: Iterable[Row]) -> list[str]:
    """The hash of a row's weights, where another row has the same settings with other weights."""
    known = list(known)
    likeness = Likeness([row, *known])
    mine = (_named(row, likeness), identity_of_weights(row))
    others = [(_named(other, likeness), identity_of_weights(other)) for other in known]
    is_needed = any(named == mine[0] and weights != mine[1] for named, weights in others)
    return [f"weights {row.weights}"] if is_needed else []


def identity_of_weights(row: Row) -> str:
    """Names and hashes of the encoders; empty for random weights, whose hash holds the seed."""
    return "" if row.pretrained == "random" else row.weights


_OWN = ("method version", "encoder weights", "kind of row", "precision of products")
"""Texts that need no name before them; with spaces, as no parameter is called."""


def _named(row: Row, likeness: Likeness) -> dict[str, str]:
    own = (f"version {row.method_version}", row.pretrained, row.kind, precision_of(row))
    return {
        **dict(zip(_OWN, own, strict=True)),
        **{k: plain(v) for k, v in likeness.settings(row, "params").items()},
    }


def is_set_by_category(configuration: Sequence[Row]) -> bool:
    """Whether the parameters of a configuration are not the same in all its rows."""
    likeness = Likeness(configuration)
    return len({likeness.key(row, "params") for row in configuration}) > 1


def _fixed(row: Row) -> tuple[object, ...]:
    """What is the same in all rows of a configuration."""
    weights = identity_of_weights(row)
    return (row.method_version, row.pretrained, row.kind, weights, precision_of(row))


def _categories(rows: Sequence[Row]) -> set[str]:
    return {row.category for row in rows}


def _distance(likeness: Likeness, a: Row, b: Row) -> int:
    """How many parameters differ."""
    left, right = (likeness.settings(row, "params") for row in (a, b))
    return sum(left.get(name) != right.get(name) for name in {*left, *right})
