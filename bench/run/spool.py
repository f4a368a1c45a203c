"""Anomaly maps in a file of the run's own, for test sets whose maps do not fit in memory."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from bench.errors import MethodError
from bench.run.scratch import no_room

if TYPE_CHECKING:
    from numpy.typing import NDArray

WHAT = "a file for the maps of the test set"


class MapSpool(Sequence["NDArray[Any]"]):
    """Maps one behind another in a file; each is read, not mapped, whenever it is asked for.

    The file lies in the folder for temporary files (TMPDIR) and is gone with the process, however
    that ends.
    """

    def __init__(self, expected: int) -> None:
        """
        Args:
            expected: bytes of all maps together.

        Raises:
            MethodError: the disk has no room for them; the message gives both sizes.
        """
        self._folder = Path(tempfile.gettempdir())
        free = shutil.disk_usage(self._folder).free
        if expected > free:
            raise MethodError(no_room(WHAT, expected, free, self._folder))
        self._expected = expected
        self._file = tempfile.TemporaryFile(  # noqa: SIM115 - open as long as the maps are wanted
            prefix="bench-", suffix=".scratch", dir=self._folder
        )
        self.close = weakref.finalize(self, self._file.close)
        """Give the room on the disk back; no map can be read any more."""
        self._places: list[tuple[int, tuple[int, ...], np.dtype[Any]]] = []
        self._end = 0

    def __len__(self) -> int:
        return len(self._places)

    def append(self, one: NDArray[Any]) -> None:
        """Write a map behind the others.

        Raises:
            MethodError: the disk is full.
        """
        try:
            self._file.seek(self._end)
            self._file.write(np.ascontiguousarray(one).data)
            self._file.flush()
        except OSError as error:
            free = shutil.disk_usage(self._folder).free
            raise MethodError(no_room(WHAT, self._expected, free, self._folder)) from error
        self._places.append((self._end, one.shape, one.dtype))
        self._end += one.nbytes

    @overload
    def __getitem__(self, index: int) -> NDArray[Any]: ...

    @overload
    def __getitem__(self, index: slice) -> list[NDArray[Any]]: ...

    def __getitem__(self, index: int | slice) -> NDArray[Any] | list[NDArray[Any]]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        start, shape, dtype = self._places[index]
        one = np.empty(shape, dtype)
        self._file.seek(start)
        self._file.readinto(one.data)
        return one
