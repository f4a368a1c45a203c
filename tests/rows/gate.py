"""Rows of the regression gate, and what it finds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bench.rows.changes import Environments
from bench.rows.check import Comparison, compare
from bench.rows.tolerances import Tolerances
from tests.row_maker import make_row

if TYPE_CHECKING:
    from bench.rows.row import Row

TOLERANCES = Tolerances(scores=0.002, relative={"gflops": 0.01})
NOWHERE = Environments([])


def row(seed: int = 0, /, **changes: Any) -> Row:
    values: dict[str, Any] = {
        "cell": f"{seed:012x}",
        "seed": seed,
        "pretrained": "random",
        "weights": "random resnet18",
        "commit": "abc",
        "env": "cafe",
        "device": "CPU x",
        "image_auroc": 0.75,
        "pixel_auroc": 0.9,
        "aupro_30": 0.6,
        "n_test": 100,
        "n_anomalous": 50,
        "params_m": 2.78,
        "gflops": 10.0,
        "fps": 50.0,
        "started": "2026-01-01T00:00:00+00:00",
    }
    return make_row(**{**values, **changes})


def outcome(old: list[Row], now: list[Row], tolerances: Tolerances = TOLERANCES) -> Comparison:
    return compare(old, now, tolerances, NOWHERE)
