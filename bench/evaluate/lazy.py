"""A sequence whose items are made, or read from a disk, whenever they are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Generic, TypeVar, overload

if TYPE_CHECKING:
    from collections.abc import Callable

Item = TypeVar("Item")


class Lazy(Sequence[Item], Generic[Item]):
    """Items that nobody holds: one is in memory as long as its reader keeps it."""

    def __init__(self, read: Callable[[int], Item], count: int) -> None:
        """
        Args:
            read: the item of a number from 0 to `count - 1`; the same at every call.
        """
        self._read = read
        self._count = count

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> Item: ...

    @overload
    def __getitem__(self, index: slice) -> list[Item]: ...

    def __getitem__(self, index: int | slice) -> Item | list[Item]:
        if isinstance(index, slice):
            return [self._read(i) for i in range(*index.indices(self._count))]
        if not -self._count <= index < self._count:
            raise IndexError(f"item {index} of {self._count}")
        return self._read(index % self._count)
