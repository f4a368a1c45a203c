"""What the installed plugins say of the rows: defaults of methods, categories of data sets."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import discovery
from bench.errors import BenchError, PluginError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from bench.discovery import Kind, Plugin
    from bench.report.published import Published
    from bench.row import Row


@dataclass(frozen=True)
class Plugins:
    """Plugins of this checkout, by name; rows may name others, of which nothing is known.

    Attributes:
        printed: for each data set the categories for which papers print numbers.
    """

    methods: Mapping[str, Plugin] = field(default_factory=dict)
    datasets: Mapping[str, Plugin] = field(default_factory=dict)
    printed: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def defaults(self, row: Row) -> dict[str, Any]:
        """Default of each parameter; empty where the version that made the row is not here."""
        plugin = self.methods.get(row.method)
        if plugin is None or plugin.version != row.method_version:
            return {}
        plain: dict[str, Any] = json.loads(json.dumps(plugin.defaults()))
        return plain

    def categories(self, row: Row) -> frozenset[str]:
        """Every category of the data set of a row; empty where nobody says."""
        plugin = self.datasets.get(row.dataset)
        counted = _counted(plugin, row) if plugin else frozenset()
        return counted or self.printed.get(row.dataset, frozenset())


def load_plugins(rows: Iterable[Row], published: Published) -> Plugins:
    """The plugins that the rows name."""
    rows = list(rows)
    datasets = sorted({row.dataset for row in rows})
    return Plugins(
        methods=_describe("methods", sorted({row.method for row in rows})),
        datasets=_describe("datasets", datasets),
        printed={name: _printed(published, name) for name in datasets},
    )


def _describe(kind: Kind, names: Iterable[str]) -> dict[str, Plugin]:
    known = discovery.sources(kind)
    found = {}
    for name in names:
        if name in known:
            try:
                found[name] = discovery.describe(kind, name)
            except PluginError:
                continue  # `bench list` says what is wrong with it
    return found


def _printed(published: Published, dataset: str) -> frozenset[str]:
    names = published.categories(dataset)
    return frozenset(n for n in names if n != "any" and n.split("_")[0] != "mean")


def _counted(plugin: Plugin, row: Row) -> frozenset[str]:
    """Categories for which the data set has published counts, under the row's options."""
    options = json.loads(row.dataset_params)
    try:
        dataset = discovery.load(plugin)(root=Path(), **options)
        return frozenset(dataset.expected())
    except (BenchError, TypeError):
        return frozenset()  # another version of the data set, with other options
