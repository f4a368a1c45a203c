"""Cells of the score axis, cut on the order-preserving integer image of the scores.

The bits of a float, with the sign bit flipped for positive and all bits flipped for negative
numbers, are an unsigned integer with the same order. Cutting that integer needs no range of the
scores to be known, so evaluators that have seen different images have the same cells.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bench.errors import ConfigError, DataError
from bench.evaluate.inputs import is_tensor

if TYPE_CHECKING:
    from collections.abc import Iterable

Array = npt.NDArray[Any]
Index = npt.NDArray[np.intp]

COARSE_BITS = 16
COARSE = 1 << COARSE_BITS

UNSEEN, MIXED = 0, 1
"""Keys that no score has (they belong to negative NaNs): a cell without scores, and with several
distinct ones."""

_KEPT = ("float16", "float32", "float64", "uint8", "int8", "uint16", "int16")
_EXACT_INTEGERS = 1 << 53


def score_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The type in which scores of a type are ranked: itself, or one that holds every value.

    Raises:
        DataError: for types that have no order or no exact image here.
    """
    if dtype.name in _KEPT:
        native: np.dtype[Any] = dtype.newbyteorder("=")
        return native
    if dtype.kind == "b":
        return np.dtype("uint8")
    if dtype.kind in "iu":
        return np.dtype("float64")
    raise DataError(f"scores of type {dtype} cannot be ranked; known: {', '.join(_KEPT)}, integers")


def exact_cast(scores: Array, dtype: np.dtype[Any]) -> Array:
    """Scores in `dtype`, contiguous; integers beyond 2^53 are refused, not rounded."""
    if scores.dtype.kind in "iu" and scores.dtype.itemsize == 8 and scores.size:
        low, high = int(scores.min()), int(scores.max())
        if low < -_EXACT_INTEGERS or high > _EXACT_INTEGERS:
            raise DataError(f"integer scores {low} to {high} pass 2^53; give them as float64")
    return np.ascontiguousarray(scores, dtype=dtype)


def ordered_keys(scores: Array) -> Array:
    """Unsigned integers in the order of the scores; -0.0 and +0.0 give the same one.

    Args:
        scores: any shape, contiguous, of a type that `score_dtype` returns.
    """
    size = scores.dtype.itemsize
    unsigned, signed = np.dtype(f"u{size}"), np.dtype(f"i{size}")
    if scores.dtype.kind == "u":
        return scores
    sign = signed.type(np.iinfo(signed).min)
    if scores.dtype.kind == "i":
        return np.asarray((scores ^ sign).view(unsigned))
    # Adding zero turns -0.0 into +0.0 and copies, so the bits may be changed in place.
    bits = (scores + scores.dtype.type(0)).view(signed)
    flip = bits >> signed.type(8 * size - 1)
    flip |= sign
    bits ^= flip
    return np.asarray(bits.view(unsigned))


def score_of_key(key: int, dtype: np.dtype[Any]) -> float:
    """The score whose key this is."""
    size = dtype.itemsize
    top = 1 << (8 * size - 1)
    if dtype.kind == "u":
        return float(key)
    if dtype.kind == "i":
        return float(key - top)
    bits = key ^ top if key & top else key ^ (2 * top - 1)
    return float(np.array(bits, dtype=f"u{size}").view(dtype))


@dataclass(frozen=True, eq=False)
class Cells:
    """A partition of the scores of one type.

    Attributes:
        dtype: type of the scores.
        bits: of uniform cells, the leading bits of the key that number them.
        split: of adaptive cells, (65536,) pieces into which each coarse cell is cut, 1 to 65536.
        base, shift: of adaptive cells of 64-bit scores: the key is brought to 32 bits by
            subtracting `base` and dropping `shift` bits; keys outside fall into the end cells.
    """

    dtype: np.dtype[Any]
    bits: int = COARSE_BITS
    split: npt.NDArray[np.uint32] | None = None
    base: int = 0
    shift: int = 0
    _first: npt.NDArray[np.uint32] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        ends = [0] if self.split is None else np.cumsum(self.split, dtype=np.int64)
        object.__setattr__(self, "_first", np.append([0], ends).astype(np.uint32))

    @property
    def count(self) -> int:
        """Number of cells."""
        return 1 << self._bits if self.split is None else int(self._first[-1])

    @property
    def single(self) -> bool:
        """Whether no cell can hold two distinct scores."""
        return self.split is None and self._bits == 8 * self.dtype.itemsize

    @property
    def _bits(self) -> int:
        # 8-bit and 16-bit scores have their own pattern, whatever was asked for.
        return 8 * self.dtype.itemsize if self.dtype.itemsize <= 2 else self.bits

    def same(self, other: Cells) -> bool:
        """Whether both cut the scores at the same places."""
        if self.dtype != other.dtype or (self.base, self.shift) != (other.base, other.shift):
            return False
        if self.split is None or other.split is None:
            return self.split is other.split and self._bits == other._bits
        return np.array_equal(self.split, other.split)

    def index(self, keys: Array) -> Index:
        """Cell numbers of keys, rising with the score."""
        if self.split is None:
            dropped = keys.dtype.type(8 * self.dtype.itemsize - self._bits)
            return np.asarray(keys >> dropped, dtype=np.intp)
        short = self._short(keys)
        coarse = (short >> np.uint32(COARSE_BITS)).astype(np.intp)
        short &= np.uint32(COARSE - 1)
        short *= self.split.take(coarse, mode="clip")
        short >>= np.uint32(COARSE_BITS)
        short += self._first.take(coarse, mode="clip")
        return short.astype(np.intp)

    def _short(self, keys: Array) -> npt.NDArray[np.uint32]:
        """Keys in 32 bits, as a new array."""
        if self.dtype.itemsize == 4:
            return keys.astype(np.uint32)
        end = min(self.base + (1 << (32 + self.shift)) - 1, (1 << 64) - 1)
        inside = np.clip(keys, np.uint64(self.base), np.uint64(end))
        inside -= np.uint64(self.base)
        inside >>= np.uint64(self.shift)
        return inside.astype(np.uint32)

    def lowest_key(self, cell: int) -> int:
        """Smallest key of a cell."""
        if self.split is None:
            return cell << (8 * self.dtype.itemsize - self._bits)
        coarse = int(np.searchsorted(self._first, cell, side="right")) - 1
        pieces = int(self.split[coarse])
        low = -(-((cell - int(self._first[coarse])) << COARSE_BITS) // pieces)
        short = (coarse << COARSE_BITS) | low
        return self.base + (short << self.shift) if short else 0


def adaptive_cells(pilot: Iterable[Any], count: int = 1 << 18) -> Cells:
    """Cells that are fine where the scores of a pilot lie; shared by all workers.

    Half of the cells go to the 65,536 coarse cells by their share of the pilot's pixels, which
    bounds AUROC and AUPRO, and half by the logarithm of the rank that they span, which makes the
    cells of the highest scores fine: AP divides by the number of pixels above.

    Args:
        pilot: maps, any shapes, of one type; a few normal and anomalous test images.
        count: cells in all at most, 2^17 to 2^22. More cells make tighter bounds, and take longer
            than their number tells, once they no longer fit in the processor's cache.

    Raises:
        ConfigError: if `count` is out of range.
        DataError: if the pilot is empty, not finite, or of several types.
    """
    if not 1 << 17 <= count <= 1 << 22:
        raise ConfigError(f"adaptive cells: count = {count} is not in 131072 to 4194304")
    maps = [np.asarray(x.detach().cpu() if is_tensor(x) else x) for x in pilot]
    dtypes = {score_dtype(x.dtype) for x in maps if x.size}
    if len(dtypes) != 1:
        raise DataError(
            f"adaptive cells: the pilot has {len(dtypes)} score types; give maps of one"
        )
    dtype = dtypes.pop()
    if dtype.itemsize <= 2:
        return Cells(dtype)
    pieces = [exact_cast(x, dtype).ravel() for x in maps if x.size]
    for number, piece in enumerate(pieces):
        if not np.isfinite(piece).all():
            raise DataError(f"adaptive cells: pilot map {number} has scores that are not finite")
    keys = [ordered_keys(x) for x in pieces]
    base, shift = (0, 0) if dtype.itemsize == 4 else _zoom(keys)
    whole = Cells(dtype, split=np.ones(COARSE, np.uint32), base=base, shift=shift)
    counts = sum(np.bincount(whole.index(k), minlength=COARSE) for k in keys)
    return Cells(dtype, split=_split(np.asarray(counts), count), base=base, shift=shift)


def _zoom(keys: list[Array]) -> tuple[int, int]:
    """Base and shift that bring 64-bit keys to 32 bits, with the pilot's range to spare around."""
    low = min(int(k.min()) for k in keys)
    high = max(int(k.max()) for k in keys)
    spare = high - low + 1
    base = max(low - spare, 0)
    return base, max((high + spare - base).bit_length() - 32, 0)


def _split(counts: npt.NDArray[np.int64], cells: int) -> npt.NDArray[np.uint32]:
    """Pieces per coarse cell, at least 1, at most 65536, summing to at most `cells`."""
    share = counts / counts.sum()
    above = np.cumsum(counts[::-1])[::-1]
    rank = np.log((above + 0.5) / (above - counts + 0.5))
    wanted = share / 2 + rank / rank.sum() / 2
    pieces = 1 + np.floor(wanted * (cells - COARSE))
    return np.asarray(np.minimum(pieces, COARSE), dtype=np.uint32)
