"""Where flags are set: `flatnonzero`, faster where few are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["positions_of"]

SPARSE = 0.06
"""Share of set flags up to which it is faster to look for words of eight flags first."""


def positions_of(flags: NDArray[np.bool_]) -> NDArray[np.int64]:
    """(k,) positions, ascending, of the set flags of a contiguous vector."""
    if np.count_nonzero(flags) > SPARSE * len(flags):
        return flags.nonzero()[0]
    whole = len(flags) & ~7
    words = flags[:whole].view(np.uint64)
    occupied = (words != 0).nonzero()[0]
    inside = words.take(occupied).view(bool).nonzero()[0]
    positions: NDArray[np.int64] = occupied.take(inside >> 3)
    positions <<= 3
    inside &= 7
    positions += inside
    rest = flags[whole:].nonzero()[0]
    return np.append(positions, rest + whole) if len(rest) else positions
