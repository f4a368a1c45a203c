"""Marks of published numbers: the project's tables say how a paper chose its epoch and scored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.errors import ConfigError
from bench.report.choice.marks import MEANINGS, NAMED
from bench.report.paper.published import Selector, matches
from bench.report.paper.table_files import parsed, table_files

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from bench.report.paper.published import PublishedNumber


@dataclass(frozen=True)
class PrintedMarks:
    """Which numbers have which marks.

    Attributes:
        selectors: for (paper, table) selectors of numbers, each with its marks.
    """

    selectors: Mapping[tuple[str, str], tuple[tuple[Selector, tuple[str, ...]], ...]]

    def of(self, number: PublishedNumber) -> dict[str, str]:
        """Marks of a number, with their meaning."""
        return {
            NAMED[name]: MEANINGS[NAMED[name]]
            for selector, names in self.selectors.get((number.paper, number.table), ())
            if matches(number, selector)
            for name in names
        }


def load_marks(project: Path) -> PrintedMarks:
    """The marks of the tables that are shipped and of the project's.

    Reads no more than it needs: the whole check of every table, as `bench table` does, takes as
    long as all pages.

    Raises:
        ConfigError: a table that cannot be read.
    """
    found: dict[tuple[str, str], list[tuple[Selector, tuple[str, ...]]]] = {}
    for file in table_files(project).values():
        values = parsed(file)
        try:
            for row in values.get("row", ()):
                if row.get("marks") and row.get("published"):
                    selector = {"dataset": values["dataset"], **row["published"]}
                    names = tuple(name for name in row["marks"] if name in NAMED)
                    found.setdefault((values["paper"], values["table"]), []).append(
                        (selector, names)
                    )
        except KeyError as error:
            raise ConfigError(
                f"{file}: {error}; `bench table {file.parent.name}/{file.stem}` says more"
            ) from error
    return PrintedMarks({key: tuple(rows) for key, rows in found.items()})
