"""What cells of one training need to run on this machine, and how each can end."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field, replace
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
    """Cells that share a training, with what a worker needs to run them on this machine."""

    cells: tuple[Cell, ...]  # of one `Cell.training`; at least one
    root: Path  # the data set's folder
    device: str  # "auto", "cpu", "cuda"
    threads: int
    loaders: int
    batch: int
    weights: Weights
    speed: SpeedProtocol
    artifacts: Path  # where the worker makes a folder for each cell, and the driver renames it
    cache: Path | None = None  # folder of audits of files, and of features
    auxiliary: Mapping[str, Path] = field(default_factory=dict)  # folders of pictures by field
    save_maps: bool = False
    keep_maps: bool = False
    map_budget_mb: float = math.inf
    feature_cache_mb: float = 0.0  # 0: no features are kept
    allow_leaks: bool = False
    gpu_share: float = 1.0  # of a GPU, that it takes where a machine can divide one
    command: str = ""
    commit: str = ""
    code: str = ""
    expected_s: float = 0.0  # seconds of the cell, by earlier rows; 0: nobody knows
    expected_mb: float = 0.0  # host memory that its method takes; 0: nobody knows

    @property
    def cell(self) -> Cell:
        """The first; the others differ from it in what is done after prediction alone."""
        return self.cells[0]

    @property
    def label(self) -> str:
        """How messages call it where cells are under several protocols."""
        return f"{self.cell.label}, {' + '.join(cell.protocol.name for cell in self.cells)}"

    def alone(self, cell: Cell) -> Job:
        """The job of one of its cells."""
        return replace(self, cells=(cell,))

    def folder(self, cell: Cell) -> Path:
        """Where the artifacts of a cell are made."""
        return self.artifacts / f"{cell.id}.part"

    def to_json(self) -> str:
        """One line."""
        cells = [cell.to_json() for cell in self.cells]
        return json.dumps({**asdict(self), "cells": cells}, default=str)

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
                "cells": tuple(map(Cell.from_json, values["cells"])),
                "weights": Weights(weights["kind"], **folders),
                "speed": SpeedProtocol(**values["speed"]),
            }
        )


@dataclass(frozen=True)
class Failure:
    """Why a cell has no row."""

    job: Job  # of this cell alone
    cause: str  # one line
    log: str  # traceback and output
    seconds: float


@dataclass(frozen=True)
class Done:
    """A finished cell."""

    job: Job  # of this cell alone
    row: Row
    environment: Mapping[str, str]
    seconds: float  # its share of the job's


def failed(job: Job, cause: str, log: str, seconds: float) -> list[Failure]:
    """The same failure of each cell of a job."""
    share = seconds / len(job.cells)
    return [Failure(job.alone(cell), cause, log, share) for cell in job.cells]
