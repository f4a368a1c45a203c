"""What rows hold as JSON: parameters of runs and options of data sets, beside their defaults."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.report.choice import groups
from bench.rows.settings import Likeness
from bench.rows.text import plain

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from bench.rows.row import Row


@dataclass(frozen=True)
class Parameter:
    """A parameter of the runs of a line, or an option of their data set.

    Attributes:
        text: its value; where categories differ, each value with its categories.
        default: of the method or data set; None where it is unknown.
        is_changed: whether any value is another than the default.
    """

    name: str
    text: str
    default: str | None = None
    is_changed: bool = False

    @property
    def is_default(self) -> bool:
        """Whether it is known to be the default everywhere."""
        return self.default is not None and not self.is_changed


def options(row: Row, defaults: Mapping[str, Any]) -> tuple[Parameter, ...]:
    """The options of the data set of a row, in the order of their names."""
    return tuple(
        Parameter(
            name,
            plain(value),
            plain(defaults[name]) if name in defaults else None,
            name in defaults and value != defaults[name],
        )
        for name, value in sorted(row.dataset_params.items())
    )


def differing(rows: Iterable[Row]) -> list[str]:
    """Names of the parameters that are not the same in all rows."""
    rows = list(rows)
    likeness = Likeness(rows)
    return sorted(groups.differing([likeness.settings(row, "params") for row in rows]))


def changed(rows: Iterable[Row], defaults: Mapping[str, Any]) -> list[str]:
    """Names of the parameters that are not the default in some row."""
    return sorted(
        {
            name
            for values in _sets(rows)
            for name, value in values.items()
            if name in defaults and value != defaults[name]
        }
    )


def parameters(rows: Sequence[Row], defaults: Mapping[str, Any]) -> list[Parameter]:
    """Every parameter of the rows, in the order of their names."""
    places: dict[str, dict[str, list[str]]] = {}
    for row in rows:
        for name, value in row.params.items():
            found = places.setdefault(name, {}).setdefault(plain(value), [])
            if row.category not in found:
                found.append(row.category)
    unlike = set(changed(rows, defaults))
    return [
        Parameter(
            name,
            _by_category(values),
            plain(defaults[name]) if name in defaults else None,
            name in unlike,
        )
        for name, values in sorted(places.items())
    ]


def _sets(rows: Iterable[Row]) -> list[Mapping[str, Any]]:
    """The different sets of parameters."""
    first = {row.texts["params"]: row for row in rows}
    return [row.params for row in first.values()]


def _by_category(found: Mapping[str, Sequence[str]]) -> str:
    if len(found) == 1:
        return next(iter(found))
    return "; ".join(f"{value} ({', '.join(places)})" for value, places in found.items())
