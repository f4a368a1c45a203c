"""What a column of a results file is; every field of `bench.rows.row.Row` carries one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from bench.rows.row_values import Values

Part = Literal[
    "identity", "setting", "score", "finding", "count", "condition", "cost", "provenance"
]
"""Of a row. Scores, findings and counts say what was found in the test images, costs what that
took, and conditions how costs were measured."""

FOUND: tuple[Part, ...] = ("score", "finding", "count")

Machine = Literal["", "steps", "fit", "speed", "memory"]
"""What of a machine a number depends on; "": nothing. `steps` and `fit` are times by the clock, of
inference and of training, that are noisy where the machine is busy; `speed` is without noise."""


Origin = Literal["", "code", "weights", "data", "environment", "protocol"]
"""What a row comes from and a column tells of; "": it does not."""

ORIGINS: tuple[Origin, ...] = ("code", "weights", "data", "environment", "protocol")


@dataclass(frozen=True, kw_only=True)
class Column:
    """What a column holds, and what reports do with it.

    Attributes:
        part: of a row.
        values: how its text is read and written.
        label: how tables call it; empty: its name in words.
        heading: the same where space is scarce; empty: the label.
        unit: as printed; scores are stored as fractions and printed in percent.
        better: which end is, of a number that is good or bad.
        level: of a score, what is scored.
        is_maximum: whether the threshold is the one that is best on the test images themselves.
        machine: what of it the number depends on.
        is_at_batch: whether a cost was measured at the row's `fps_batch`.
        is_of_training: whether training, or what it left behind, is counted in a cost.
        is_main: whether short tables show it.
        has_epoch: whether the protocol `oracle-per-metric` chooses an epoch for it.
        origin: what two rows of one cell may differ in, beside their numbers.
        is_gated: whether the regression gate compares it though it is no score and no count.
        since: the schema that it came with; a file without it is older.
    """

    part: Part
    values: Values
    label: str = ""
    heading: str = ""
    unit: str = ""
    better: Literal["higher", "lower", ""] = ""
    level: Literal["image", "pixel", ""] = ""
    is_maximum: bool = False
    machine: Machine = ""
    is_at_batch: bool = False
    is_of_training: bool = False
    is_main: bool = False
    has_epoch: bool = False
    origin: Origin = ""
    is_gated: bool = False
    since: int = 1
