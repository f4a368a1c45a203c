"""Cells: what is planned, run, resumed and cited. Their identity, and the grid of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from bench.errors import ConfigError, nearest
from bench.plan.identity import cell_id, differing, plain
from bench.settings.precision import FULL, Precision
from bench.settings.protocol import Protocol, make_protocol
from bench.settings.tables import as_typed, misfit

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from bench.plan.discovery import Plugin
    from bench.settings.config import Settings

BACKBONE_FIELDS = ("backbone", "stem")
"""Fields of a method that name a pretrained network; "none" and "" mean that it uses none."""


@dataclass(frozen=True)
class Cell:
    """One (method, parameters, data set, category, seed, protocol, weights)."""

    method: str
    method_version: int
    params: Mapping[str, Any]
    dataset: str
    dataset_version: int
    dataset_params: Mapping[str, Any]
    category: str
    seed: int
    protocol: Protocol
    pretrained: str  # "pretrained", "random", "none" (no backbone), or "file:<12 hex>"
    data: str  # fingerprint of the category's files
    defaults: Mapping[str, Any] = field(default_factory=dict)  # of the method's parameters
    precision: Precision = FULL

    @cached_property
    def id(self) -> str:
        """What the cell is known by: its names, and the settings that are not defaults.

        The protocol counts by its fields, not its name; the data set's options by what they make
        of the data, which the fingerprint covers; a folder of pictures by its digest. A field with
        a default, as one that is added later has, counts where it is another.
        """
        added = {f.name: f.default for f in fields(self) if f.default is not MISSING}
        return cell_id(
            self,
            self.protocol.version,
            params=differing(self.params, self.defaults),
            protocol=differing(self.protocol.identity(), self.protocol.defaults()),
            others=differing({name: getattr(self, name) for name in added}, added),
        )

    @cached_property
    def training(self) -> str:
        """What cells have in common that differ only in what is done after prediction.

        An oracle looks at the test images while it trains: its training is its own.
        """
        protocol = self.protocol
        return self.id if protocol.is_oracle else replace(self, protocol=protocol.for_training()).id

    @property
    def label(self) -> str:
        """How progress and messages call the cell."""
        return f"{self.method} {self.dataset}/{self.category} seed {self.seed}"

    def to_json(self) -> dict[str, Any]:
        """As JSON values, for a worker."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        protocol = {"name": self.protocol.name, **self.protocol.identity()}
        mappings = {k: dict(v) for k, v in values.items() if isinstance(v, Mapping)}
        return {**values, **mappings, "protocol": protocol}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Cell:
        """The inverse of `to_json`."""
        protocol = dict(values["protocol"])
        name = protocol.pop("name")
        return cls(**{**values, "protocol": make_protocol(name, protocol, "cell")})


@dataclass(frozen=True)
class Category:
    """One category of a data set, with the fingerprint of its files."""

    dataset: Plugin
    params: Mapping[str, Any]
    name: str
    data: str


def resolve_params(
    plugin: Plugin,
    settings: Settings,
    overrides: Mapping[str, Any],
    place: str | None = None,
) -> dict[str, Any]:
    """Parameters of one plugin: defaults < its table < its table for the category < overrides.

    Args:
        plugin: the method or data set.
        settings: holds `[methods.NAME]`, `[methods.NAME."dataset/category"]`, `[datasets.NAME]`.
        overrides: from the command line; already those of this plugin.
        place: "dataset/category", for a method.

    Raises:
        ConfigError: an unknown field or a value of the wrong type.
    """
    table = dict(getattr(settings, plugin.kind).get(plugin.name, {}))
    nested = {key: table.pop(key) for key in list(table) if isinstance(table[key], dict)}
    if plugin.kind == "datasets":
        table.pop("root", None)
    layers = [(table, f"[{plugin.kind}.{plugin.name}]")]
    if place in nested:
        layers.append((nested[place], f'[{plugin.kind}.{plugin.name}."{place}"]'))
    annotations = {f.name: f.annotation for f in plugin.fields.values()}
    given = {
        k: as_typed(v, annotations[k]) if k in annotations else v for k, v in overrides.items()
    }
    layers.append((given, "--set"))
    params = plugin.defaults()
    for layer, where in layers:
        for key, value in layer.items():
            params[key] = check_field(plugin, key, value, where)
    missing = [f.name for f in plugin.fields.values() if f.name not in params]
    if missing:
        raise ConfigError(f"{plugin.name} needs a value for {', '.join(missing)}; give --set")
    return {k: list(v) if isinstance(v, tuple) else v for k, v in sorted(params.items())}


def split_overrides(pairs: Mapping[str, Any], plugins: Sequence[Plugin]) -> dict[str, Any]:
    """`--set` pairs by plugin name: "padim.d" goes to padim, "levels" to each method that has it.

    Raises:
        ConfigError: a key that no selected plugin has.
    """
    by_plugin: dict[str, dict[str, Any]] = {p.name: {} for p in plugins}
    for key, value in pairs.items():
        owner, _, rest = key.rpartition(".")
        targets = (
            [p for p in plugins if p.name == owner]
            if owner
            else [p for p in plugins if p.kind == "methods" and key in p.fields]
        )
        if owner and not targets:
            raise ConfigError(
                f"--set {key}: {owner!r} is not selected; {nearest(owner, by_plugin)}"
            )
        if not targets:
            fields = {f for p in plugins if p.kind == "methods" for f in p.fields}
            raise ConfigError(f"--set {key}: no selected method has it; {nearest(key, fields)}")
        for plugin in targets:
            by_plugin[plugin.name][rest or key] = value
    return by_plugin


def uses_backbone(params: Mapping[str, Any]) -> bool:
    """Whether the parameters name a pretrained network."""
    return any(params.get(key) not in (None, "", "none") for key in BACKBONE_FIELDS)


def plan(
    methods: Sequence[Plugin],
    categories: Sequence[Category],
    seeds: Sequence[int],
    protocols: Sequence[Protocol],
    weights: str,
    settings: Settings,
    overrides: Mapping[str, Mapping[str, Any]],
) -> list[Cell]:
    """The grid, in the order category, method, seed, protocol."""
    cells = []
    for category in categories:
        place = f"{category.dataset.name}/{category.name}"
        for method in methods:
            params = resolve_params(method, settings, overrides.get(method.name, {}), place)
            defaults = plain(method.defaults())
            cells += [
                Cell(
                    method=method.name,
                    method_version=method.version,
                    params=params,
                    dataset=category.dataset.name,
                    dataset_version=category.dataset.version,
                    dataset_params=category.params,
                    category=category.name,
                    seed=seed,
                    protocol=protocol,
                    pretrained=weights if uses_backbone(params) else "none",
                    data=category.data,
                    defaults=defaults,
                    precision=settings.run.precision,
                )
                for seed in seeds
                for protocol in protocols
            ]
    return cells


def trainings(cells: Iterable[Cell]) -> list[tuple[Cell, ...]]:
    """The cells by the training that they share, in the order of the first of each."""
    found: dict[str, list[Cell]] = {}
    for cell in cells:
        found.setdefault(cell.training, []).append(cell)
    return [tuple(group) for group in found.values()]


def check_field(plugin: Plugin, key: str, value: Any, where: object) -> Any:
    """The value, as a field of the plugin holds it.

    Raises:
        ConfigError: no such field, or a value of another type.
    """
    if key not in plugin.fields:
        raise ConfigError(
            f"{where}: {plugin.name} has no field {key!r}; {nearest(key, plugin.fields)}"
        )
    annotation = plugin.fields[key].annotation
    if wrong := misfit(value, annotation):
        raise ConfigError(f"{where}: {plugin.name}.{key} = {value!r}{wrong}")
    return float(value) if annotation == "float" else value
