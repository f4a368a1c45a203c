"""Rows evaluated again from the maps that were kept of them, without a training. No torch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from bench.errors import StoreError
from bench.evaluate.exact import evaluate
from bench.evaluate.large import evaluate_large
from bench.evaluate.result import VERSION
from bench.evaluate.rounded import bounds
from bench.rows.row import stored
from bench.rows.row_values import RESCORED
from bench.run.kept_maps import load_kept
from bench.settings.protocol import make_protocol

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from bench.evaluate.result import Evaluation
    from bench.rows.row import Row
    from bench.run.kept_maps import KeptMaps
    from bench.settings.protocol import Protocol

MB = 10**6


@dataclass(frozen=True)
class Rescored:
    """A row before and after, and how far its values can be from those of the maps."""

    old: Row
    new: Row
    bounds: dict[str, float]


def rescore(row: Row, artifacts: Path, budget_mb: float) -> Rescored:
    """Evaluate the kept maps of a row under its protocol.

    Args:
        artifacts: folder of the row's artifacts.
        budget_mb: MB of maps up to which they are held in memory.

    Raises:
        StoreError: no maps were kept, they are damaged, or each metric is of an epoch of its own.
    """
    protocol = make_protocol(row.protocol, row.protocol_fields, f"row {row.cell}")
    if protocol.epoch == "oracle-per-metric":
        raise StoreError(
            f"{row.cell}: each metric of protocol {row.protocol} has an epoch of its own, and maps "
            "of one are kept; run the cell again"
        )
    kept = load_kept(artifacts)

    def measured(maps: Sequence[NDArray[Any]]) -> Evaluation:
        return _evaluated(kept, maps, protocol, budget_mb)

    found = measured(kept.maps)
    wide = bounds(found, kept.levels, kept.coded, kept.masks, measured)
    known: dict[str, Any] = stored(found.values)
    new = replace(
        row,
        **known,
        published=found.published,
        undefined=found.undefined,
        evaluator=RESCORED,
        evaluator_version=VERSION,
        bounds={k: v for k, v in wide.items() if k in known},
    )
    return Rescored(row, new, wide)


def _evaluated(
    kept: KeptMaps, maps: Sequence[NDArray[Any]], protocol: Protocol, budget_mb: float
) -> Evaluation:
    args = (kept.masks, kept.labels, kept.tops if protocol.image_score == "max" else kept.scores)
    pixels = sum(height * width for height, width in filter(None, kept.masks.shapes))
    if 4 * pixels > budget_mb * MB:
        return evaluate_large(
            maps, *args, names=kept.names, published=protocol.published, room_mb=budget_mb
        )
    return evaluate(list(maps), *args, names=kept.names, published=protocol.published)
