"""Scores of at most 32 bits as 31-bit integers in the same order: a bit is left for a label."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["Coding"]

_BITS = 31
_MAGNITUDE = np.uint32(0x7FFFFFFF)


@dataclass(frozen=True)
class Coding:
    """Increasing integers below 2^31 for the scores of one test set.

    The bits of a float without its sign grow with its magnitude, so non-negative floats are their
    own codes. Signed ones lose the bits between zero and the smallest magnitude that occurs, which
    is room enough unless the largest is 2^128 times the smallest. Adding nothing and taking the
    magnitude, -0.0 and +0.0 are the same.

    Attributes:
        dtype: of the scores.
        gap: float magnitudes, as bits, up to which no score but zero lies.
        shift: what is added so that the lowest code is at least 0.
        signed: whether float scores have a sign bit set.
    """

    dtype: np.dtype[Any]
    gap: int
    shift: int
    signed: bool

    @classmethod
    def of(cls, arrays: Sequence[NDArray[Any]]) -> Coding | None:
        """A coding for these scores; None where 31 bits do not hold them in order."""
        dtype = np.dtype(arrays[0].dtype)
        if dtype.itemsize > 4:
            return None
        if dtype.kind != "f":
            filled = [array for array in arrays if array.size]
            lowest = min(int(array.min()) for array in filled)
            highest = max(int(array.max()) for array in filled)
            return cls(dtype, 0, -lowest, False) if highest - lowest < 1 << _BITS else None
        if all(int(_bits(array).view(np.int32).min(initial=0)) >= 0 for array in arrays):
            return cls(dtype, 0, 0, False)
        gap, top = int(_MAGNITUDE), 0
        for array in arrays:
            magnitudes = _bits(array) & _MAGNITUDE
            top = max(top, int(magnitudes.max(initial=0)))
            # Zero minus one wraps around to the highest number: zeros do not count.
            magnitudes -= np.uint32(1)
            gap = min(gap, int(magnitudes.min(initial=_MAGNITUDE)))
        room = max(top - gap, 0)
        return cls(dtype, gap, room, True) if 2 * room < 1 << _BITS else None

    def encode(self, scores: NDArray[Any]) -> NDArray[np.uint32]:
        """Codes of scores, of the same shape; may share their memory."""
        if self.dtype.kind != "f":
            # Unsigned arithmetic wraps, so the sum is right whatever the sign of its parts.
            shifted: NDArray[np.uint32] = scores.astype(np.uint32)
            shifted += np.uint32(self.shift & 0xFFFFFFFF)
            return shifted
        bits = _bits(scores)
        if not self.signed:
            return bits
        signed = bits.view(np.int32)
        # -1 for a set sign bit, 0 otherwise: (m ^ s) - s is -m or m.
        sign = signed >> np.int32(31)
        codes: NDArray[np.int32] = signed & np.int32(_MAGNITUDE)
        np.maximum(codes, np.int32(self.gap), out=codes)
        codes -= np.int32(self.gap)
        codes ^= sign
        codes -= sign
        codes += np.int32(self.shift)
        return codes.view(np.uint32)

    def decode(self, code: int) -> float:
        """The score of a code."""
        level = code - self.shift
        if self.dtype.kind != "f":
            return float(level)
        bits = abs(level) + self.gap if level else 0
        magnitude = float(np.uint32(bits).view(np.float32))
        return -magnitude if level < 0 else magnitude


def _bits(scores: NDArray[Any]) -> NDArray[np.uint32]:
    """The bits of single-precision numbers; half precision is widened, which keeps its order."""
    return np.ascontiguousarray(scores, np.float32).view(np.uint32)
