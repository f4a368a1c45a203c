"""The same ranking under the evaluators that papers used, as a table.

The maps are Gaussian random fields with planted blobs. Each column stretches the same scores by
another increasing function, so an evaluator that depends on the ranking only gives one number in
all columns. The table shows which do, and how far apart two protocols put one method.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.evaluate.exact import evaluate
from bench.evaluate.published import PUBLISHED, published_values

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

__all__ = ["STRETCHES", "ExplainRow", "explain_protocols", "planted_maps", "protocol_rows"]

STRETCHES: dict[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    "gauss": lambda x: x,
    "skew": lambda x: np.exp(0.5 * x),
    "heavy": lambda x: np.exp(1.1 * x),
    "sat": lambda x: 1 / (1 + np.exp(7 - 3 * x)),
    "bounded": lambda x: 1 - np.exp(-np.exp(0.5 * (x - 3))),
}
"""Increasing functions of one score. In 64 bits none of them merges scores of `planted_maps`."""

CAPTION = """\
Planted maps under every evaluator, in percent. The maps are Gaussian random fields with blobs.
Each column holds the same scores stretched by another increasing function, so the ranking is one:
gauss as they are, skew and heavy exponential, sat and bounded with an upper limit. An evaluator
with equal numbers in a line depends on the ranking only; another one also on how scores spread."""

EXACT = {
    "exact, AUPRO up to 0.3": "aupro_30",
    "exact, AUPRO up to 0.05": "aupro_05",
    "exact, AUPRO up to 0.01": "aupro_01",
    "exact, AUPRO up to 1": "aupro_100",
    "exact, pixel AUROC": "pixel_auroc",
    "exact, pixel AP": "pixel_ap",
    "exact, pixel F1-max": "pixel_f1max",
}


@dataclass(frozen=True)
class ExplainRow:
    """One protocol.

    Attributes:
        name: of the value in a row of results.
        rule: what the protocol does.
        values: stretch -> value; None where the code gives none.
    """

    name: str
    rule: str
    values: dict[str, float | None]


def planted_maps(
    seed: int = 0, *, images: int = 40, anomalous: int = 30, size: int = 128
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Score maps of one method, (n, size, size), and masks of one to five blobs each."""
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:size, :size]
    maps = np.empty((images, size, size))
    masks = np.zeros((images, size, size), bool)
    for index in range(images):
        field = gaussian_filter(rng.standard_normal((size, size)), 2)
        field *= 1 / field.std()
        for _ in range(int(rng.integers(1, 6)) if index < anomalous else 0):
            y, x = rng.uniform(0, size, 2)
            radius = size * rng.uniform(0.02, 0.07)
            distance = np.hypot(rows - y, columns - x) / radius
            masks[index] |= distance <= 1
            field += rng.uniform(1.5, 5.5) * np.exp(-0.5 * distance**2)
        maps[index] = field
    return maps, masks


def protocol_rows(seed: int = 0) -> list[ExplainRow]:
    """Every protocol on every stretch of the same maps."""
    maps, masks = planted_maps(seed)
    exact: dict[str, dict[str, float | None]] = {}
    published: dict[str, dict[str, float | None]] = {}
    only: dict[str, float | None] = {}
    for stretch, function in STRETCHES.items():
        scores = function(maps)
        exact[stretch] = _exact(scores, masks)
        only[stretch] = _exact(scores[masks.any((1, 2))], masks[masks.any((1, 2))])["aupro_30"]
        found: list[Any] = [mask if mask.any() else None for mask in masks]
        published[stretch] = published_values(list(scores), found, list(PUBLISHED))
    rows = [
        ExplainRow(key, rule, {stretch: exact[stretch][key] for stretch in STRETCHES})
        for rule, key in EXACT.items()
    ]
    rows.insert(
        4,
        ExplainRow(
            "aupro_30, anomalous only", "exact, AUPRO up to 0.3, without the good images", only
        ),
    )
    return rows + [
        ExplainRow(name, protocol.rule, {s: published[s][name] for s in STRETCHES})
        for name, protocol in PUBLISHED.items()
    ]


def _exact(scores: NDArray[np.float64], masks: NDArray[np.bool_]) -> dict[str, float | None]:
    labels = masks.any((1, 2)).astype(int)
    return evaluate(scores, masks, labels, limits=(0.01, 0.05, 0.3, 1.0)).values


def explain_protocols(seed: int = 0) -> str:
    """What the table shows, and the table in percent as Markdown."""
    head = ["value", "rule", *STRETCHES]
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    for row in protocol_rows(seed):
        shown = ["none" if v is None else f"{100 * v:.1f}" for v in row.values.values()]
        lines.append("| " + " | ".join([row.name, row.rule, *shown]) + " |")
    return "\n".join([CAPTION, "", *lines])


if __name__ == "__main__":
    print(explain_protocols())
