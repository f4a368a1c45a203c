"""Everything that the pages are made of: rows of several folders, papers, plugins, environments."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench import discovery
from bench.errors import PluginError, StoreError
from bench.report.published import Published, load_published
from bench.report.site.boards import Board, boards
from bench.store import ResultStore, newest, sort_rows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from bench.discovery import Kind, Plugin
    from bench.row import Row


@dataclass(frozen=True)
class SiteData:
    """What a site shows.

    Attributes:
        rows: of every folder; of one cell the newest.
        boards: by data set and protocol.
        published: what papers print.
        environments: `env/<key>.json` of every key that a row names and a folder holds.
        artifacts: folder of a cell's artifacts, for cells that have one.
    """

    rows: Sequence[Row]
    boards: Sequence[Board]
    published: Published
    environments: Mapping[str, Mapping[str, str]]
    artifacts: Mapping[str, Path]

    @property
    def datasets(self) -> list[str]:
        """Names of the data sets with a measured row."""
        return sorted({board.first.dataset for board in self.boards})

    @property
    def methods(self) -> list[str]:
        """Names of the methods with a measured row."""
        return sorted({row.method for row in self.rows})


def load_site_data(folders: Sequence[Path]) -> SiteData:
    """Read the results folders, and the published numbers.

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
    return SiteData(
        rows=rows,
        boards=boards(rows),
        published=load_published(),
        environments=_environments(folders, {row.env for row in rows}),
        artifacts=_artifacts(folders, cells),
    )


def describe(kind: Kind, name: str) -> Plugin | None:
    """What the source of a plugin says; None where this checkout has no such plugin."""
    try:
        return discovery.describe(kind, name)
    except PluginError:
        return None


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
            found |= {e.name: e for e in sorted(place.iterdir()) if e.name in cells and e.is_dir()}
    return found
