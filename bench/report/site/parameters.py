"""What rows hold as JSON: parameters of runs and options of data sets, beside their defaults."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.report.choice.settings_text import by_value
from bench.rows.settings import changed, defaults_in
from bench.rows.text import plain

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

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


def parameters(rows: Sequence[Row], column: str = "params") -> tuple[Parameter, ...]:
    """Every setting of a column, in the order of their names.

    Args:
        rows: of one version of one method, or data set.
    """
    defaults = defaults_in(rows[0], column)
    unlike = {name for row in rows for name in changed(row, column)}
    return tuple(
        Parameter(
            name,
            _by_category(values),
            plain(defaults[name]) if name in defaults else None,
            name in unlike and name in defaults,
        )
        for name, values in sorted(by_value(rows, column).items())
    )


def _by_category(found: Mapping[str, Sequence[str]]) -> str:
    if len(found) == 1:
        return next(iter(found))
    return "; ".join(f"{value} ({', '.join(places)})" for value, places in found.items())
