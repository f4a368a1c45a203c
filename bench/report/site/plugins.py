"""What the installed plugins say: methods to run, their defaults, data sets, their categories."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.errors import BenchError, PluginError
from bench.plan import discovery

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from bench.plan.discovery import Kind, Plugin
    from bench.report.paper.published import PublishedNumbers
    from bench.rows.row import Row


@dataclass(frozen=True)
class Plugins:
    """Plugins of this checkout, by name; rows may name others, of which nothing is known.

    Attributes:
        printed: for each data set the categories for which papers print numbers.
        runnable: every installed method, also those without a row.
    """

    methods: Mapping[str, Plugin] = field(default_factory=dict)
    datasets: Mapping[str, Plugin] = field(default_factory=dict)
    printed: Mapping[str, frozenset[str]] = field(default_factory=dict)
    runnable: tuple[str, ...] = ()

    def shows_people(self, dataset: str) -> bool:
        """Whether the images of a data set are personal data, which no page shows."""
        plugin = self.datasets.get(dataset)
        return plugin is not None and bool(plugin.constants.get("shows_people"))

    def categories(self, dataset: str, options: Mapping[str, Any] | None = None) -> frozenset[str]:
        """Every category of a data set, with its options; empty where nobody says."""
        plugin = self.datasets.get(dataset)
        counted = _counted(plugin, options or {}) if plugin else frozenset()
        return counted or self.printed.get(dataset, frozenset())


def load_plugins(rows: Iterable[Row], published: PublishedNumbers) -> Plugins:
    """The methods that the rows name, and the data sets that rows or papers name."""
    rows = list(rows)
    datasets = sorted({row.dataset for row in rows} | {n.dataset for n in published.numbers})
    return Plugins(
        methods=_describe("methods", sorted({row.method for row in rows})),
        datasets=_describe("datasets", datasets),
        printed={name: _printed(published, name) for name in datasets},
        runnable=tuple(plugin.name for plugin in discovery.describe_all("methods")[0]),
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


def _printed(published: PublishedNumbers, dataset: str) -> frozenset[str]:
    names = published.categories(dataset)
    return frozenset(n for n in names if n != "any" and n.split("_")[0] != "mean")


def _counted(plugin: Plugin, options: Mapping[str, Any]) -> frozenset[str]:
    """Categories for which the data set has published counts, under these options."""
    try:
        dataset = discovery.make(plugin, options, root=Path())
        return frozenset(dataset.expected())
    except (BenchError, TypeError):
        return frozenset()  # another version of the data set, with other options
