"""Everything that the pages are made of: rows of several folders, papers, plugins, environments."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from bench.errors import StoreError
from bench.report.paper.published import PublishedNumbers, load_published
from bench.report.site.boards import Board, boards
from bench.report.site.plugins import Plugins, load_plugins
from bench.report.site.printed import PrintedLine, Printer
from bench.report.site.printed_marks import load_marks
from bench.rows.csv_file import sort_rows
from bench.rows.row import newest
from bench.rows.store import ResultStore
from bench.rows.upgrade import artifacts_of
from bench.settings.config import find_project

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from bench.rows.row import Row


@dataclass(frozen=True)
class SiteData:
    """What a site shows.

    Attributes:
        rows: of every folder; of one cell the newest.
        skipped: protocols whose scores say nothing: their rows are in the downloads alone.
        boards: by data set and protocol.
        plugins: methods and data sets, where they are installed.
        printer: makes lines and tables of what papers print.
        environments: `env/<key>.json` of every key that a row names and a folder holds.
        artifacts: the folder that holds a cell's, for cells that have some.
    """

    rows: Sequence[Row]
    skipped: Sequence[str]
    boards: Sequence[Board]
    plugins: Plugins
    printer: Printer
    environments: Mapping[str, Mapping[str, str]]
    artifacts: Mapping[str, Path]

    @property
    def published(self) -> PublishedNumbers:
        """What papers print."""
        return self.printer.published

    @property
    def datasets(self) -> list[str]:
        """Names of the data sets with a row whose scores are shown."""
        return sorted({board.first.dataset for board in self.boards})

    @cached_property
    def printed_only(self) -> dict[str, list[PrintedLine]]:
        """What papers print for each other installed data set, if anything."""
        names = [name for name in self.plugins.datasets if name not in self.datasets]
        found = {
            name: self.printer.means(name, len(self.plugins.categories(name))) for name in names
        }
        return {name: lines for name, lines in found.items() if lines}

    @property
    def downloads(self) -> list[str]:
        """Names of the data sets with any row."""
        return sorted({row.dataset for row in self.rows})

    @property
    def methods(self) -> list[str]:
        """Names of the methods with a row whose scores are shown."""
        return sorted({row.method for row in self.rows if row.protocol not in self.skipped})


def load_site_data(folders: Sequence[Path], skipped: Sequence[str] = ()) -> SiteData:
    """Read the results folders, and the published numbers.

    Args:
        folders: of results.
        skipped: protocols that no page shows.

    Raises:
        StoreError: a folder that is missing, a file that cannot be read, no row at all.
    """
    cells: dict[str, Row] = {}
    for folder in folders:
        if not folder.is_dir():
            raise StoreError(f"{folder} is not a folder; try `bench run --method padim` first")
        for row in ResultStore(folder).rows():
            cells[row.cell] = newest(cells[row.cell], row) if row.cell in cells else row
    if not cells:
        names = ", ".join(map(str, folders))
        raise StoreError(f"{names}: no row yet; try `bench run --method padim`")
    rows = sort_rows(cells.values())
    shown = [row for row in rows if row.protocol not in skipped]
    if not shown:
        raise StoreError(f"every row is of protocol {', '.join(skipped)}, whose scores say nothing")
    published = load_published()
    plugins = load_plugins(rows, published)
    return SiteData(
        rows=rows,
        skipped=[name for name in skipped if any(row.protocol == name for row in rows)],
        boards=boards(shown, plugins),
        plugins=plugins,
        printer=Printer(published, load_marks(find_project())),
        environments=_environments(folders, {row.env for row in rows}),
        artifacts=_artifacts(folders, cells),
    )


def _environments(folders: Sequence[Path], keys: set[str]) -> dict[str, Mapping[str, str]]:
    found = {}
    for folder in folders:
        for file in sorted((folder / "env").glob("*.json")):
            if file.stem in keys:
                found[file.stem] = _environment(file)
    return found


def _environment(file: Path) -> Mapping[str, str]:
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StoreError(f"{file} cannot be read: {error}; restore or delete it") from error
    if not isinstance(values, dict):
        raise StoreError(f"{file} holds no table of names and versions; restore or delete it")
    return {str(name): str(value) for name, value in sorted(values.items())}


def _artifacts(folders: Sequence[Path], cells: Mapping[str, Row]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for folder in folders:
        place = folder / "artifacts"
        if place.is_dir():
            found |= {c: place for c, row in cells.items() if artifacts_of(place, row).is_dir()}
    return found
