"""What was asked for: checked, and planned as cells of data sets."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.disk import tidy
from bench.errors import ConfigError, nearest
from bench.files.manifest import SPLITS, file_digest, fingerprint
from bench.plan import discovery
from bench.plan.auxiliary import Auxiliary
from bench.plan.cells import BACKBONE_FIELDS, Category, plan, resolve_params, split_overrides
from bench.plan.identity import canonical
from bench.settings.speed import speed_protocol
from bench.weights.choice import Weights
from bench.weights.packages import is_known_file

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bench.api import Dataset, Split
    from bench.plan.cells import Cell
    from bench.plan.discovery import Plugin
    from bench.plan.shard import Shard
    from bench.settings.config import Settings
    from bench.settings.protocol import Protocol


_WEIGHTS = ("pretrained", "random")
"""Choices of `[run].weights`; a file is named on the command line."""


@dataclass(frozen=True)
class Request:
    """What the user asked for, beyond the settings.

    Attributes:
        protocols: names; none: that of `[run].protocol`.
        splits: that are read; those of training alone where a model is fitted.
        shard: the part of the plan that is this machine's; None: all of it.
    """

    methods: Sequence[str]
    datasets: Sequence[str]
    categories: Sequence[str] = ()
    overrides: Mapping[str, Any] = field(default_factory=dict)
    protocols: Sequence[str] = ()
    data_root: Path | None = None
    weights_file: Path | None = None
    force: bool = False
    stale: bool = False
    """Run cells again whose rows other code made."""
    save_maps: bool = False
    keep_maps: bool = False
    allow_leaks: bool = False
    splits: Sequence[Split] = SPLITS
    shard: Shard | None = None
    command: str = ""


@dataclass(frozen=True)
class Planned:
    """A data set's plugin, its object, and the cells planned on it.

    Attributes:
        folders: by cell and field, the folders of auxiliary pictures that its method names.
    """

    plugin: Plugin
    dataset: Dataset
    cells: list[Cell]
    folders: Mapping[str, Mapping[str, Path]] = field(default_factory=dict)


def dataset_root(settings: Settings, plugin: Plugin, data_root: Path | None = None) -> Path:
    """Where a data set lies: --data-root, `[datasets.NAME].root`, or `[paths].data`/NAME."""
    if plugin.constants.get("generated"):
        return settings.paths.cache / plugin.name
    if data_root is not None:
        return tidy(data_root)
    configured = settings.datasets.get(plugin.name, {}).get("root")
    if configured:
        return tidy(settings.project / Path(str(configured)).expanduser())
    return settings.paths.data / plugin.name


def open_dataset(
    settings: Settings,
    plugin: Plugin,
    overrides: Mapping[str, Any],
    data_root: Path | None = None,
) -> tuple[Dataset, dict[str, Any]]:
    """The data set's object and its options."""
    params = resolve_params(plugin, settings, overrides)
    root = dataset_root(settings, plugin, data_root)
    return discovery.make(plugin, params, root=root), params


def plan_request(settings: Settings, request: Request) -> list[Planned]:
    """Every cell that was asked for, by data set.

    Raises:
        BenchError: an unknown name or option, missing data.
    """
    _check_settings(settings)
    methods = [discovery.describe("methods", name) for name in dict.fromkeys(request.methods)]
    datasets = [discovery.describe("datasets", name) for name in dict.fromkeys(request.datasets)]
    if request.data_root is not None and len(datasets) != 1:
        raise ConfigError("--data-root names the folder of one data set; select one --dataset")
    overrides = split_overrides(request.overrides, [*methods, *datasets])
    auxiliary = Auxiliary(settings)
    protocols = _protocols(settings, request.protocols)
    planned = []
    for plugin in datasets:
        dataset, params = open_dataset(settings, plugin, overrides[plugin.name], request.data_root)
        for method in methods:
            _check_places(settings, method, plugin, dataset)
        names = _choose(plugin.name, list(dataset.categories()), request.categories)
        categories = [
            Category(
                plugin,
                params,
                name,
                fingerprint(dataset, name, settings.paths.cache, request.splits),
            )
            for name in names
        ]
        cells = plan(
            methods,
            categories,
            settings.run.seeds,
            protocols,
            _weights_kind(settings, request),
            settings,
            overrides,
        )
        planned.append(_with_folders(Planned(plugin, dataset, cells), methods, auxiliary))
    _refuse_unknown(request.categories, planned)
    cells = [cell for part in planned for cell in part.cells]
    if request.weights_file is not None and all(cell.pretrained == "none" for cell in cells):
        raise ConfigError(
            f"--weights {request.weights_file}: no selected method uses a pretrained network as "
            f"it is set; its field is {' or '.join(BACKBONE_FIELDS)}"
        )
    return planned if request.shard is None else _of_shard(planned, request.shard)


def _protocols(settings: Settings, names: Sequence[str]) -> list[Protocol]:
    """The protocols of these names; none: the configured one.

    Raises:
        ConfigError: an unknown name, or two of the same choices, whose cells would be one.
    """
    found: dict[str, Protocol] = {}
    for name in names or [settings.run.protocol]:
        protocol = settings.protocol(name)
        twin = found.setdefault(canonical(protocol.identity()), protocol)
        if twin.name != name:
            raise ConfigError(f"--protocol: {twin.name} and {name} make the same choices; name one")
    return list(found.values())


def _of_shard(planned: Sequence[Planned], shard: Shard) -> list[Planned]:
    """The plan with one shard's cells."""
    return [replace(part, cells=[c for c in part.cells if shard.has(c)]) for part in planned]


def _with_folders(planned: Planned, methods: Sequence[Plugin], auxiliary: Auxiliary) -> Planned:
    """The plan with digests in place of the folders that fields name, and these beside it."""
    by_name = {method.name: method for method in methods}
    cells, folders = [], {}
    for cell in planned.cells:
        method = by_name[cell.method]
        named = replace(cell, params=auxiliary.named(method, cell.params))
        cells.append(named)
        if found := auxiliary.folders(method, cell.params):
            folders[named.id] = found
    return replace(planned, cells=cells, folders=folders)


def _check_settings(settings: Settings) -> None:
    """Refuse what no cell could run with, and tables that no plugin would read."""
    run = settings.run
    at_least_0 = ("threads", "loaders", "timeout", "map_budget_mb", "feature_cache_mb")
    least = {"workers": 1, "batch": 1, **dict.fromkeys(at_least_0, 0)}
    for name, value in least.items():
        if getattr(run, name) < value:
            raise ConfigError(f"[run].{name} = {getattr(run, name)}; at least {value} is needed")
    if any(seed < 0 for seed in run.seeds):
        raise ConfigError(
            f"[run].seeds = {list(run.seeds)}; 0 or more is needed, as in --seeds 0,1,2"
        )
    speed_protocol(run.speed, settings.speed)
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", run.device):
        raise ConfigError(f"device {run.device!r}: not a device; use auto, cpu, cuda or cuda:N")
    if run.weights not in _WEIGHTS:
        raise ConfigError(f"[run].weights = {run.weights!r}; {nearest(run.weights, _WEIGHTS)}")
    for kind in discovery.KINDS:
        known = discovery.sources(kind)
        for name in getattr(settings, kind):
            if name not in known:
                raise ConfigError(
                    f"{settings.file}: [{kind}.{name}] is of no {kind.removesuffix('s')}; "
                    f"{nearest(name, known)}"
                )


def _check_places(settings: Settings, method: Plugin, plugin: Plugin, dataset: Dataset) -> None:
    """Refuse `[methods.NAME."dataset/category"]` where there can be no such data set or category.

    Where the options or the root decide what there is, others may well have that category.
    """
    known = set(dataset.every_category)
    if dataset.expected() and not plugin.constants.get("generated"):
        known |= {*dataset.expected(), *dataset.categories()}
    sources = discovery.sources("datasets")
    for place, table in settings.methods.get(method.name, {}).items():
        if not isinstance(table, dict):
            continue
        name, _, category = place.partition("/")
        where = f'{settings.file}: [methods.{method.name}."{place}"]'
        if name not in sources:
            raise ConfigError(f"{where}: unknown data set {name!r}; {nearest(name, sources)}")
        if name == plugin.name and known and category not in known:
            raise ConfigError(f"{where}: unknown category; {nearest(category, known)}")


def asked_weights(settings: Settings, request: Request) -> Weights:
    """Where the weights of pretrained networks are to come from."""
    folder = settings.paths.weights
    if request.weights_file is not None:
        return Weights("file", request.weights_file.absolute(), folder)
    return Weights("random" if settings.run.weights == "random" else "pretrained", folder=folder)


def _weights_kind(settings: Settings, request: Request) -> str:
    """The `pretrained` part of a cell's identity."""
    if request.weights_file is None:
        return settings.run.weights
    if not request.weights_file.is_file():
        raise ConfigError(f"--weights {request.weights_file} is not a file")
    digest = file_digest(request.weights_file)
    # The same weights are the same cell, wherever they lie.
    return "pretrained" if is_known_file(digest) else f"file:{digest[:12]}"


def _choose(dataset: str, known: list[str], wanted: Sequence[str]) -> list[str]:
    if not wanted:
        return known
    chosen = [w.removeprefix(f"{dataset}/") for w in wanted]
    return [name for name in known if name in chosen]


def _refuse_unknown(wanted: Sequence[str], planned: Sequence[Planned]) -> None:
    found = {
        name for p in planned for c in p.cells for name in (c.category, f"{c.dataset}/{c.category}")
    }
    for name in wanted:
        if name not in found:
            known = [str(c) for p in planned for c in p.dataset.categories()]
            for part in planned:
                _refuse_own_category(name, part)
            raise ConfigError(f"unknown category {name!r}; {nearest(name, known)}")


def _refuse_own_category(name: str, planned: Planned) -> None:
    """A folder beside the published categories that is none of them: say how to run it.

    Raises:
        ConfigError: the folder is there, and the data set knows which categories it has.
    """
    dataset = planned.dataset
    bare = name.removeprefix(f"{planned.plugin.name}/")
    folder = dataset.root.expanduser() / bare
    if dataset.expected() and "/" not in bare and folder.is_dir():
        raise ConfigError(
            f"{folder} is no category of {planned.plugin.name}; run your own images by "
            f"--dataset folder --data-root {folder}"
        )
