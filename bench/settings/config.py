"""Settings: shipped defaults < bench.toml < environment (BENCH_*) < command line."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.disk import read_text, tidy
from bench.errors import ConfigError, nearest
from bench.settings.precision import FULL, Precision
from bench.settings.protocol import PROTOCOLS, Protocol, make_protocol
from bench.settings.shipped import builtin_root
from bench.settings.tables import checked, types_of

if TYPE_CHECKING:
    from collections.abc import Mapping

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FILE = "bench.toml"
SECTIONS = (
    "paths",
    "run",
    "protocols",
    "speed",
    "methods",
    "datasets",
    "presets",
    "check",
    "reports",
)
NAMED = ("protocols", "speed", "methods", "datasets", "presets")
"""Sections that hold one table for each name."""


@dataclass(frozen=True)
class Paths:
    """Folders. Relative ones count from the project, the folder of bench.toml."""

    data: Path = Path("data")  # holds one folder for each data set
    results: Path = Path("results")
    cache: Path = Path(".cache")
    auxiliary: Path = Path("auxiliary")  # holds folders of pictures that fields of methods name
    weights: Path | None = None  # files <timm name>.safetensors or .pth, looked up first


@dataclass(frozen=True)
class RunSettings:
    """How cells run. `bench run` has an option for each but `loaders` and `batch`."""

    protocol: str = "standard"
    seeds: tuple[int, ...] = (0,)
    device: str = "auto"  # cuda if there is one, else cpu
    workers: int = 1  # cells at a time on a CPU; on GPUs one for each
    threads: int = 0  # for each cell; 0: OMP_NUM_THREADS, else cores over cells at a time
    loaders: int = 0  # threads that read and augment images ahead, for each cell
    timeout: float = 0.0  # seconds for each cell; 0: none
    batch: int = 8  # test images at a time; no method's scores depend on it
    map_budget_mb: float = 1000.0  # of a test set's maps; above, they are scored from a file
    feature_cache_mb: float = 0.0  # of frozen networks' features, kept for later cells; 0: none
    speed: str = "speed-1"
    weights: str = "pretrained"  # or "random"
    precision: Precision = FULL  # or "tf32"; or "bfloat16", of encoders in scoring
    executor: str = "local"  # what runs cells: a name in bench/run/executors.py
    address: str = ""  # of the cluster, for an executor that runs on one


@dataclass(frozen=True)
class ReportSettings:
    """What tables, figures and pages show."""

    skip_scores: tuple[str, ...] = ()  # protocols whose scores say nothing


@dataclass(frozen=True)
class Settings:
    """Everything that a command may need, in one frozen object."""

    project: Path
    file: Path | None = None
    paths: Paths = field(default_factory=Paths)
    run: RunSettings = field(default_factory=RunSettings)
    protocols: Mapping[str, Protocol] = field(default_factory=lambda: dict(PROTOCOLS))
    speed: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    methods: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    datasets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    presets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    check: Mapping[str, Any] = field(default_factory=dict)
    reports: ReportSettings = field(default_factory=ReportSettings)

    def without_scores(self) -> tuple[str, ...]:
        """Protocols whose scores say nothing.

        Raises:
            ConfigError: `[reports].skip_scores` names a protocol that there is not.
        """
        for name in self.reports.skip_scores:
            self.protocol(name)
        return self.reports.skip_scores

    def results_folder(self, given: Path | None) -> Path:
        """`--results` of a command that reads; else the configured one, which a first run makes.

        Raises:
            ConfigError: there is no such folder.
        """
        if given is not None and not given.is_dir():
            raise ConfigError(f"--results {given} is not a folder; `bench run --results` makes it")
        return given or self.paths.results

    def protocol(self, name: str | None = None) -> Protocol:
        """The protocol of that name, or the configured one."""
        found: Protocol = self.lookup("protocol", name or self.run.protocol, self.protocols)
        return found

    def lookup(self, what: str, name: str, known: Mapping[str, Any]) -> Any:
        """`known[name]`, or an error that names the nearest one."""
        if name not in known:
            raise ConfigError(f"unknown {what} {name!r}; {nearest(name, known)}")
        return known[name]


def find_project(start: Path | None = None) -> Path:
    """The nearest folder upwards that holds bench.toml; else the folder itself."""
    named = os.environ.get("BENCH_PROJECT")
    if named and start is None:
        if not Path(named).is_dir():
            raise ConfigError(f"BENCH_PROJECT names {named}, which is not a folder")
        return Path(named).resolve()
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        if (folder / FILE).is_file():
            return folder
    return here


def load_settings(project: Path | None = None, preset: str | None = None) -> Settings:
    """Shipped bench.toml, then the project's, then the environment, then the preset.

    Raises:
        ConfigError: an unknown key or a value of the wrong type, anywhere.
    """
    folder = project.resolve() if project else find_project()
    if not folder.is_dir():
        raise ConfigError(f"--project {folder} is not a folder")
    settings = Settings(project=folder)
    shipped = builtin_root() / FILE
    for file in dict.fromkeys((shipped, folder / FILE)):
        if file.is_file():
            settings = _apply(settings, _read(file), file)
    settings = _apply_environment(settings)
    if preset:
        settings = apply_preset(settings, preset)
    return _anchor(settings)


def apply_preset(settings: Settings, name: str) -> Settings:
    """`[presets.NAME]`: a named set of overrides of run, methods and data sets."""
    values = dict(settings.lookup("preset", name, settings.presets))
    values.pop("summary", None)
    where = settings.file or Path(FILE)
    known = ("run", "methods", "datasets")
    for key in values:
        if key not in known:
            raise ConfigError(f"{where}: unknown key [presets.{name}].{key}; {nearest(key, known)}")
    return _apply(settings, values, where)


def parse_value(text: str) -> Any:
    """A value from the command line: TOML where it parses (numbers, true, lists), else text."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _read(file: Path) -> dict[str, Any]:
    try:
        values: dict[str, Any] = tomllib.loads(read_text(file))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{file}: not valid TOML: {error}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} cannot be read: {error}") from error
    return values


def _apply(settings: Settings, values: Mapping[str, Any], file: Path) -> Settings:
    for section, content in values.items():
        if section not in SECTIONS:
            raise ConfigError(f"{file}: unknown section [{section}]; {nearest(section, SECTIONS)}")
        if not isinstance(content, dict):
            raise ConfigError(f"{file}: [{section}] must be a table")
        if section in NAMED:
            for name, table in content.items():
                if not isinstance(table, dict):
                    raise ConfigError(f"{file}: [{section}.{name}] must be a table")
    changes: dict[str, Any] = {"file": file}
    if "paths" in values:
        changes["paths"] = _fill(settings.paths, values["paths"], "paths", file)
    if "run" in values:
        changes["run"] = _fill(settings.run, values["run"], "run", file)
    if "reports" in values:
        changes["reports"] = _fill(settings.reports, values["reports"], "reports", file)
    if "protocols" in values:
        made = {n: make_protocol(n, v, str(file)) for n, v in values["protocols"].items()}
        changes["protocols"] = {**settings.protocols, **made}
    for section in ("methods", "datasets", "presets", "speed"):
        if section in values:
            changes[section] = _merge(getattr(settings, section), values[section])
    if "check" in values:
        changes["check"] = _merge(settings.check, values["check"])
    return replace(settings, **changes)


def _merge(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Tables merge key by key; anything else is replaced."""
    merged = dict(old)
    for key, value in new.items():
        both = isinstance(merged.get(key), dict) and isinstance(value, dict)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def _fill(old: Any, values: Mapping[str, Any], section: str, file: Path) -> Any:
    types = types_of(type(old))
    clean = checked(values, types, file, f"[{section}]")
    folders = {k for k in clean if types[k].startswith("Path")}
    return replace(
        old,
        **{
            k: (Path(v).expanduser() if v else None) if k in folders else v
            for k, v in clean.items()
        },
    )


def _apply_environment(settings: Settings) -> Settings:
    """BENCH_DATA, _RESULTS, _CACHE, _AUXILIARY and _WEIGHTS name folders, BENCH_DEVICE a device."""
    named = {
        key: os.environ[f"BENCH_{key.upper()}"]
        for key in ("data", "results", "cache", "auxiliary", "weights", "device")
        if os.environ.get(f"BENCH_{key.upper()}")
    }
    if "device" in named:
        settings = replace(settings, run=replace(settings.run, device=named.pop("device")))
    folders: dict[str, Any] = {key: Path.cwd() / value for key, value in named.items()}
    return replace(settings, paths=replace(settings.paths, **folders))


def _anchor(settings: Settings) -> Settings:
    """Make the relative folders absolute, from the project."""
    paths = settings.paths
    anchored: dict[str, Any] = {
        key: (tidy(settings.project / value) if value is not None else None)
        for key, value in vars(paths).items()
    }
    return replace(settings, paths=replace(paths, **anchored))
