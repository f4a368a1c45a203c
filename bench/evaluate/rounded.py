"""Maps rounded to 65,536 levels, and how far a metric of them can be from that of the maps.

A level stands for all scores between two edges, so the order of the pixels is lost only within a
level. Every exact metric rises, or stays, where anomalous pixels get higher scores and normal ones
lower. So with the highest score of each level for anomalous pixels and the lowest for normal ones
it is at least the exact value, and with the two exchanged at most.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.evaluate.lazy import Lazy

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from bench.evaluate.result import Evaluation

    Evaluate = Callable[[Sequence[NDArray[Any]]], Evaluation]

__all__ = ["Levels", "bounds", "choose_edges"]

LEVELS = 1 << 16
SAMPLE = 1 << 22
"""Scores at most from which the edges are chosen; others make wider levels, never wrong ones."""


def choose_edges(maps: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Where to cut the scores, ascending: at most 65,535 of them.

    Half of the cuts take equal shares of the pixels, which AUROC and AUPRO want, and half equal
    steps of the logarithm of the rank, which AP and AUPIMO want: they rest on the highest scores.

    Args:
        maps: (h, w) each, of one type; read once.
    """
    pixels = sum(one.size for one in maps)
    step = -(-pixels // SAMPLE)
    scores = np.sort(np.concatenate([one.ravel()[i % step :: step] for i, one in enumerate(maps)]))
    count = len(scores)
    shares = np.linspace(0, count - 1, LEVELS // 2)
    tops = count - np.geomspace(1, count, LEVELS // 2 - 1)
    at = np.unique(np.concatenate([shares, tops]).astype(np.intp))
    edges: NDArray[Any] = np.unique(scores[at])
    return edges


@dataclass(frozen=True, eq=False)
class Levels:
    """What the levels stand for.

    Attributes:
        edges: (L - 1,) ascending; level k holds the scores from edge k - 1 up to below edge k.
        lowest, highest: (L,) scores that occurred there.
    """

    edges: NDArray[Any]
    lowest: NDArray[Any]
    highest: NDArray[Any]

    @classmethod
    def empty(cls, edges: NDArray[Any]) -> Levels:
        """Levels in which nothing has occurred."""
        count, ends = len(edges) + 1, np.array([np.inf, -np.inf], np.float64)
        if edges.dtype.kind != "f":
            limits = np.iinfo(edges.dtype)
            ends = np.array([limits.max, limits.min])
        low, high = ends.astype(edges.dtype)
        return cls(edges, np.full(count, low), np.full(count, high))

    def encode(self, one: NDArray[Any]) -> NDArray[np.uint16]:
        """(h, w) levels of a map, whose scores are noted."""
        levels = np.searchsorted(self.edges, one.ravel(), side="right").astype(np.uint16)
        np.minimum.at(self.lowest, levels, one.ravel())
        np.maximum.at(self.highest, levels, one.ravel())
        return levels.reshape(one.shape)

    def decode(self, levels: NDArray[np.uint16]) -> NDArray[Any]:
        """(h, w) the lowest score of each level."""
        return self.lowest[levels]

    def extreme(
        self, levels: NDArray[np.uint16], mask: NDArray[Any] | None, *, best: bool
    ) -> NDArray[Any]:
        """(h, w) anomalous pixels as high, normal ones as low as their levels let; or reverse."""
        flags = np.zeros(levels.shape, bool) if mask is None else mask != 0
        return np.where(flags == best, self.highest[levels], self.lowest[levels])


def bounds(
    evaluation: Evaluation,
    levels: Levels,
    coded: Sequence[NDArray[np.uint16]],
    masks: Sequence[NDArray[Any] | None],
    evaluate: Evaluate,
) -> dict[str, float]:
    """Metric of pixels -> largest possible |exact - value|, of those that are defined.

    Args:
        evaluation: of the decoded maps.
        coded: levels of each map.
        evaluate: from maps to all metrics, with the same masks, labels and image scores.
    """

    def ordered(best: bool) -> Evaluation:
        def read(index: int) -> NDArray[Any]:
            return levels.extreme(coded[index], masks[index], best=best)

        return evaluate(Lazy(read, len(coded)))

    low, high = ordered(False).values, ordered(True).values
    found = {}
    for name, value in evaluation.values.items():
        least, most = low[name], high[name]
        if value is None or least is None or most is None or name.endswith("_threshold"):
            continue
        if not name.startswith("image_"):
            found[name] = max(most - value, value - least, 0.0)
    return found
