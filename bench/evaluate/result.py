"""What an evaluation returns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

VERSION = 1
"""Of what the values mean; another one where a change of code moves some of them."""

__all__ = ["NO_MAPS", "NO_MASK", "VERSION", "Evaluation", "aupro_key"]

NO_MAPS = "the method gives no maps"
"""Why the pixel metrics of an image-level method are undefined."""
NO_MASK = "no image has a mask"
"""Why those of a test set are, in which no pixel counts."""


@dataclass(frozen=True)
class Evaluation:
    """All metrics of one category.

    Attributes:
        values: metric -> fraction; thresholds in units of the scores; None where undefined.
        undefined: metric -> why it is None.
        published: protocol of a paper -> its number; None where its code gives none.
        counts: images, pixels and regions that entered, and images that were left out.
        detail: metric -> one value for each region ("region_aupro_30") or each image ("aupimo",
            "pixel_auroc"); None where the image has none.
        warnings: what a reader of the values should know.
    """

    values: dict[str, float | None]
    undefined: dict[str, str]
    published: dict[str, float | None]
    counts: dict[str, int]
    detail: Mapping[str, list[float | None]] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


def aupro_key(limit: float) -> str:
    """Name of the AUPRO up to a false-positive rate: `aupro_30` for 0.3, `aupro_0.5` for 0.005."""
    percent = f"{limit * 100:g}"
    return f"aupro_{percent:0>2}"
