"""How far each figure of a row may move before the regression gate calls it changed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bench.errors import ConfigError
from bench.rows.row import COLUMNS, Row, columns
from bench.settings.tables import Amount, checked, types_of

if TYPE_CHECKING:
    from collections.abc import Mapping

FRACTIONS = columns("score")
COUNTS = columns("count")
RELATIVE = tuple(name for name, column in COLUMNS.items() if column.is_gated)
SIZES = tuple(name for name in RELATIVE if name in columns("cost"))
"""What no seed changes."""


@dataclass(frozen=True)
class Tolerances:
    """`[check]`: how far a figure may move before it counts as changed, in either direction.

    Attributes:
        scores: absolute, of every score (a fraction) that has no line of its own.
        absolute: of single scores.
        relative: of figures that are no fractions.
        false_alarms: chance that seeds drawn again move any figure of the whole check beyond its
            tolerance though nothing changed; of checks that ask for such seeds alone.
    """

    scores: Amount = 0.0
    absolute: Mapping[str, float] = field(default_factory=dict)
    relative: Mapping[str, float] = field(default_factory=dict)
    false_alarms: Amount = 0.05

    @classmethod
    def from_table(cls, table: Mapping[str, Any], where: str) -> Tolerances:
        """From `[check]`.

        Raises:
            ConfigError: an unknown key, a value that is not a number >= 0, a chance that is none.
        """
        found = cls(**checked(table, types_of(cls), where, "[check]"))
        for name, metrics in (("absolute", FRACTIONS), ("relative", RELATIVE)):
            amounts = dict.fromkeys(metrics, "Amount")
            checked(getattr(found, name), amounts, where, f"[check.{name}]")
        if not 0 < (chance := found.false_alarms) < 1:
            raise ConfigError(f"{where}: [check].false_alarms = {chance!r} is not between 0 and 1")
        return found

    def of(self, metric: str, row: Row) -> float:
        """The absolute tolerance of one figure of one row.

        Args:
            metric: name of a column, or "published.NAME".
            row: of the baseline.
        """
        if metric in COUNTS:
            return 0.0
        if metric in RELATIVE:
            return self.relative.get(metric, 0.0) * abs(figures_of(row)[metric] or 0.0)
        return max(self.absolute.get(metric, self.scores), one_swap(metric, row))


def figures_of(row: Row) -> dict[str, float | None]:
    """Everything that is gated: scores, counts, parameters, FLOPs, scores by other evaluators."""
    found = {name: getattr(row, name) for name in (*FRACTIONS, *COUNTS, *RELATIVE)}
    return found | {f"published.{name}": value for name, value in row.published.items()}


def one_swap(metric: str, row: Row) -> float:
    """The most that two test images can do to an image-level score that change places.

    A normal and an anomalous image that follow each other in the ranking, P anomalous ones and N
    normal: AUROC 1 / (P N). AP j / (P r (r + 1)) at ranks r and r + 1 of which the anomalous one is
    the j-th, j <= r: at most 1 / (2 P), at the top. Best F1 at most 2 j / ((r + P) (r + P + 1)),
    since the cut below both images stays: 1 / (2 P + 1), at r = j = P.
    """
    anomalous = row.n_anomalous or 0
    normal = (row.n_test or 0) - anomalous
    if metric not in IMAGE_LEVEL or not anomalous or not normal:
        return 0.0
    swaps = {
        "image_auroc": anomalous * normal,
        "image_ap": 2 * anomalous,
        "image_f1max": 2 * anomalous + 1,
    }
    return 1 / swaps[metric]


IMAGE_LEVEL = tuple(name for name, column in COLUMNS.items() if column.level == "image")
