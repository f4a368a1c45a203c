"""A row made by hand, for tests of what is done with rows."""

from __future__ import annotations

from typing import Any

from bench.rows.row import Row


def make_row(**changes: Any) -> Row:
    """`make_row(method="cflow", image_auroc=0.9)`: of PaDiM on mtd, and what is given."""
    values: dict[str, Any] = {
        "cell": "0123456789ab",
        "method": "padim",
        "method_version": 1,
        "dataset": "mtd",
        "dataset_version": 1,
        "category": "tile",
        "seed": 0,
        "protocol": "standard",
        "pretrained": "pretrained",
        "data": "feed",
        "code": "beef",
    }
    return Row(**{**values, **changes})
