"""Masks that are kept compressed: those of ten thousand large images fit in some megabytes."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, overload

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    Mask = NDArray[np.uint8]

LEVEL = 1
"""Of zlib: masks are mostly constant, so a higher one gains nothing."""


class PackedMasks(Sequence["Mask | None"]):
    """Masks of 0 and 1; each is a new array whenever it is asked for.

    Attributes:
        shapes: (height, width) of each; None: there is no mask.
    """

    def __init__(self, masks: Iterable[Mask | None]) -> None:
        """
        Args:
            masks: (h, w) of 0 and 1 each; read one at a time.
        """
        self.shapes: list[tuple[int, int] | None] = []
        self._bits: list[bytes] = []
        for mask in masks:
            self.shapes.append(None if mask is None else (mask.shape[0], mask.shape[1]))
            self._bits.append(b"" if mask is None or not mask.any() else _compressed(mask))

    def to_arrays(self) -> dict[str, Any]:
        """As arrays that an .npz can hold."""
        return {
            "mask_shapes": np.array([shape or (0, 0) for shape in self.shapes], np.int64),
            "mask_bytes": np.array([len(bits) for bits in self._bits], np.int64),
            "mask_bits": np.frombuffer(b"".join(self._bits), np.uint8),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> PackedMasks:
        """The inverse of `to_arrays`."""
        found = cls([])
        found.shapes = [(h, w) if h else None for h, w in arrays["mask_shapes"].tolist()]
        stops = np.cumsum(arrays["mask_bytes"]).tolist()
        bits = arrays["mask_bits"].tobytes()
        found._bits = [bits[a:b] for a, b in zip([0, *stops], stops, strict=False)]
        return found

    def __len__(self) -> int:
        return len(self.shapes)

    @overload
    def __getitem__(self, index: int) -> Mask | None: ...

    @overload
    def __getitem__(self, index: slice) -> list[Mask | None]: ...

    def __getitem__(self, index: int | slice) -> Mask | list[Mask | None] | None:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        shape = self.shapes[index]
        if shape is None:
            return None
        if not self._bits[index]:
            return np.zeros(shape, np.uint8)
        packed = np.frombuffer(zlib.decompress(self._bits[index]), np.uint8)
        return np.unpackbits(packed, count=shape[0] * shape[1]).reshape(shape)


def _compressed(mask: Mask) -> bytes:
    return zlib.compress(np.packbits(mask).tobytes(), LEVEL)
