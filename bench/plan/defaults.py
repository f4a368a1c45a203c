"""Defaults by version: of plugins and of the protocol, as they are and as they are on record.

    python -m bench.plan.defaults     # brings the record up to date; `make defaults`

Identities leave defaults out, so a default may only change with a new version. The record is what
a test compares the sources with, and says the defaults of versions that are no longer here. It has
one line for each version, `methods/padim 1 {"batch":32,...}`, sorted; lines of two branches go
together in any order.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.disk import read_text, replace_file
from bench.errors import BenchError, ConfigError, PluginError
from bench.plan import discovery
from bench.plan.identity import canonical, differing, plain
from bench.settings.protocol import Protocol
from bench.settings.shipped import builtin_root

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bench.plan.discovery import Kind

    Versions = Mapping[tuple[str, int], Mapping[str, Any]]

RECORD = Path(__file__).with_name("defaults.txt")
PROTOCOL = "protocol"
REFRESH = "run `make defaults`"


def known_defaults(kind: Kind, name: str, version: int) -> dict[str, Any] | None:
    """Defaults of one version of a plugin, as JSON brings them back; None where nobody knows them.

    A field that this version no longer has is there too, if it is on record.
    """
    recorded = read_record().get((f"{kind}/{name}", version))
    try:
        plugin = discovery.describe(kind, name)
    except PluginError:
        plugin = None
    if plugin is None or plugin.version != version:
        return None if recorded is None else dict(recorded)
    return {**(recorded or {}), **plain(plugin.defaults())}


def protocol_defaults(version: int = Protocol.version) -> dict[str, Any]:
    """Defaults of one version of the protocol's fields.

    Raises:
        ConfigError: a version that is not on record.
    """
    if version == Protocol.version:
        return Protocol.defaults()
    recorded = read_record().get((PROTOCOL, version))
    if recorded is None:
        raise ConfigError(f"{RECORD}: version {version} of the protocol is not on record")
    return dict(recorded)


def read_record(file: Path = RECORD) -> dict[tuple[str, int], dict[str, Any]]:
    """Defaults on record, by plugin (or `protocol`) and version.

    Raises:
        ConfigError: a line that cannot be read, or two that differ of one version.
    """
    found: dict[tuple[str, int], dict[str, Any]] = {}
    lines = read_text(file).splitlines() if file.exists() else []
    for number, line in enumerate(lines, 1):
        match = re.fullmatch(r"(\S+) (\d{1,9}) (\{.*\})", line)
        try:
            values = json.loads(match[3]) if match else None
        except ValueError:
            values = None
        if match is None or values is None:
            raise ConfigError(f"{file}:{number}: not `NAME VERSION {{defaults}}`: {line[:60]!r}")
        key = (match[1], int(match[2]))
        # Both branches of a merge may have refreshed it: the fields of both are defaults.
        if changed := _changed(found.get(key, {}), values):
            raise ConfigError(f"{file}:{number}: {key[0]} stands there with another {changed}")
        found[key] = {**found.get(key, {}), **values}
    return found


def present() -> dict[tuple[str, int], dict[str, Any]]:
    """Defaults of the protocol and of the plugins that ship with the package, as they are now.

    Raises:
        PluginError: a plugin that cannot be read.
    """
    found = {(PROTOCOL, Protocol.version): Protocol.defaults()}
    for kind in discovery.KINDS:
        home = (builtin_root() / kind).resolve()
        for name, source in discovery.sources(kind).items():
            if home in source.path.resolve().parents:
                plugin = discovery.describe(kind, name)
                found[f"{kind}/{name}", plugin.version] = plain(plugin.defaults())
    return found


def problems(record: Versions, now: Versions) -> tuple[list[str], list[str]]:
    """Where the sources and the record disagree.

    Returns:
        defaults that changed under the same version, each with what to do; and what the record
        merely lacks.
    """
    changed, absent = [], []
    for (name, version), values in sorted(now.items()):
        recorded = record.get((name, version))
        if recorded is None:
            absent.append(f"{name} version {version} is not on record")
            continue
        for field in sorted(set(values) - set(recorded)):
            absent.append(f"the default of {name} {field} is not on record")
        for field in _changed(recorded, values).split():
            changed.append(
                f"{name}: the default of {field} is {canonical(values[field])}, but was "
                f"{canonical(recorded[field])} in version {version}; results under the old one "
                f"would pass for new ones: give it `version = {version + 1}`, then {REFRESH}"
            )
    return changed, absent


def write_record(file: Path = RECORD) -> None:
    """Add what the record lacks; what is there stays.

    Raises:
        BenchError: a default changed under the same version.
    """
    record, now = read_record(file), present()
    changed, _ = problems(record, now)
    if changed:
        raise ConfigError("\n".join(changed))
    merged = {key: {**record.get(key, {}), **now.get(key, {})} for key in {*record, *now}}
    lines = [f"{name} {version} {canonical(merged[name, version])}\n" for name, version in merged]
    replace_file(file, "".join(sorted(lines)).encode())


def _changed(recorded: Mapping[str, Any], values: Mapping[str, Any]) -> str:
    """Names of the fields that both have with different values, separated by spaces."""
    both = {name: value for name, value in values.items() if name in recorded}
    return " ".join(sorted(differing(both, recorded)))


if __name__ == "__main__":
    try:
        write_record()
    except BenchError as error:
        sys.exit(str(error))
