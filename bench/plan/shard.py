"""A part of a plan for one of several machines, by the identity of cells: `--shard 3/16`.

Which part a cell is in depends on the cell alone, so that a plan may grow: what was there stays
where it was. Cells that share a training are in the same part.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.errors import ConfigError

if TYPE_CHECKING:
    from bench.plan.cells import Cell


@dataclass(frozen=True)
class Shard:
    """The part `index` of `count`, counted from 1."""

    index: int
    count: int

    @classmethod
    def of(cls, text: str) -> Shard:
        """From "3/16".

        Raises:
            ConfigError: another form, or no part of so many.
        """
        match = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text)
        if match is None:
            raise ConfigError(f"--shard {text}: write the part and how many, as in --shard 3/16")
        shard = cls(int(match[1]), int(match[2]))
        if not 1 <= shard.index <= shard.count:
            raise ConfigError(f"--shard {text}: there is no such part; 1/N to N/N are N parts")
        return shard

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    def has(self, cell: Cell) -> bool:
        """Whether a cell is in this part: the hash of its training, modulo the number of parts."""
        return int(cell.training, 16) % self.count == self.index - 1
