"""What a cell needs to run on this machine, and how it can end."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from bench.plan.cells import Cell
from bench.settings.speed import SpeedProtocol
from bench.weights.choice import Weights

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bench.rows.row import Row

EVENT = "@bench "
"""Start of a worker's line that is an event for the driver; every other line belongs to the log."""


@dataclass(frozen=True)
class Job:
    """A cell with what a worker needs to run it on this machine."""

    cell: Cell
    root: Path  # the data set's folder
    device: str  # "auto", "cpu", "cuda"
    threads: int
    loaders: int
    batch: int
    weights: Weights
    speed: SpeedProtocol
    artifacts: Path  # made by the worker, moved into place by the driver
    cache: Path | None = None  # folder of audits of files, and of features
    auxiliary: Mapping[str, Path] = field(default_factory=dict)  # folders of pictures by field
    save_maps: bool = False
    keep_maps: bool = False
    map_budget_mb: float = math.inf
    feature_cache_mb: float = 0.0  # 0: no features are kept
    allow_leaks: bool = False
    command: str = ""
    commit: str = ""
    code: str = ""
    expected_s: float = 0.0  # seconds of the cell, by earlier rows; 0: nobody knows
    expected_mb: float = 0.0  # host memory that its method takes; 0: nobody knows

    def to_json(self) -> str:
        """One line."""
        return json.dumps({**asdict(self), "cell": self.cell.to_json()}, default=str)

    @classmethod
    def from_json(cls, text: str) -> Job:
        """The inverse of `to_json`."""
        values = json.loads(text)
        values |= {name: Path(values[name]) for name in ("root", "artifacts")}
        values["cache"] = Path(cache) if (cache := values["cache"]) else None
        values["auxiliary"] = {k: Path(v) for k, v in values["auxiliary"].items()}
        weights = values["weights"]
        folders = {k: Path(v) if (v := weights[k]) else None for k in ("file", "folder")}
        return cls(
            **{
                **values,
                "cell": Cell.from_json(values["cell"]),
                "weights": Weights(weights["kind"], **folders),
                "speed": SpeedProtocol(**values["speed"]),
            }
        )


@dataclass(frozen=True)
class Failure:
    """Why a cell has no row."""

    job: Job
    cause: str  # one line
    log: str  # traceback and output
    seconds: float


@dataclass(frozen=True)
class Done:
    """A finished cell."""

    job: Job
    row: Row
    environment: Mapping[str, str]
    seconds: float
