"""`bench weights`: which source would serve each backbone; `bench weights fetch` stores one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.errors import ConfigError, MethodError
from bench.plan import discovery
from bench.plan.cells import BACKBONE_FIELDS
from bench.settings.config import load_settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Any

    from bench.settings.config import Settings

app = typer.Typer(rich_markup_mode=None, help="Weights of backbones: where they would come from.")


@app.callback(invoke_without_command=True)
def weights(context: typer.Context) -> None:
    """List, for the backbones of every method and preset, the source that would serve each.

    Sources are tried in this order: --weights FILE of a run, the folder [paths].weights, installed
    packages, the hub. Nothing is downloaded, and no hub is asked.
    """
    if context.invoked_subcommand is not None:
        return
    from tabulate import tabulate

    from bench.weights.sources import Offer, offer

    settings = load_settings()
    lines = []
    for network, users in sorted(wanted(settings).items()):
        try:
            found = offer(network, settings.paths.weights)
        except MethodError as error:
            found = Offer(network, f"refused: {error}", None, "")
        size = "" if found.size_mb is None else f"{found.size_mb:.0f}"
        source = found.source or "none: nobody publishes weights of this name"
        lines.append([found.network, ", ".join(users), source, size, found.licence])
    headers = ["network", "used by", "source", "MB", "licence"]
    typer.echo(tabulate(lines, headers, disable_numparse=True))


@app.command("fetch")
def fetch(
    name: Annotated[str, typer.Argument(help="A network, as in tf_efficientnet_lite0.in1k.")],
    to: Annotated[Path | None, typer.Option(help="Folder; [paths].weights if not given.")] = None,
) -> None:
    """Store a network's weights in a folder, for machines without a network.

    The folder may then be copied, and named there by [paths].weights or BENCH_WEIGHTS.
    """
    from bench.weights.sources import store

    folder = to or load_settings().paths.weights
    if folder is None:
        raise ConfigError("no folder: pass --to DIR, or set [paths].weights in bench.toml")
    file, source = store(name, folder)
    typer.echo(f"{file} ({file.stat().st_size / 1e6:.1f} MB) from {source}")


def wanted(settings: Settings) -> dict[str, list[str]]:
    """Networks that methods name by default or in a preset, each with those who name it."""
    plugins, _ = discovery.describe_all("methods")
    found: dict[str, list[str]] = {}
    for plugin in plugins:
        for network in _networks(plugin.defaults()):
            found.setdefault(network, []).append(plugin.name)
    for preset, table in settings.presets.items():
        for method, fields in table.get("methods", {}).items():
            nested = [value for value in fields.values() if isinstance(value, dict)]
            for network in (n for layer in (fields, *nested) for n in _networks(layer)):
                user = f"{method} ({preset})"
                users = found.setdefault(network, [])
                if method not in users and user not in users:
                    users.append(user)
    return found


def _networks(fields: Mapping[str, Any]) -> Iterator[str]:
    values: Iterable[Any] = (fields.get(name) for name in BACKBONE_FIELDS)
    return (str(value) for value in values if value not in (None, "", "none"))
