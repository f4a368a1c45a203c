"""`bench list`, `bench init`, `bench test-plugin`."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from tabulate import tabulate

from bench.commands.options import AuxiliaryRoot, pairs, with_auxiliary
from bench.errors import ConfigError, DataError, counted
from bench.files.picture_folder import list_pictures
from bench.plan import discovery
from bench.plan.auxiliary import picture_fields, picture_folder
from bench.settings.config import FILE, Settings, load_settings


def list_plugins(
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable.")] = False,
) -> None:
    """Methods, data sets, protocols and presets, with one line on each."""
    settings = load_settings()
    found = {kind: discovery.describe_all(kind) for kind in discovery.KINDS}
    if as_json:
        names: dict[str, dict[str, Any]] = {
            kind: {p.name: p.summary for p in plugins} for kind, (plugins, _) in found.items()
        }
        names["protocols"] = {name: p.identity() for name, p in settings.protocols.items()}
        names["presets"] = {n: str(t.get("summary", "")) for n, t in settings.presets.items()}
        typer.echo(json.dumps(names, indent=1))
        return
    for kind, (plugins, errors) in found.items():
        typer.echo(f"{kind}:")
        typer.echo(tabulate([[f"  {p.name}", p.summary] for p in plugins], tablefmt="plain"))
        for error in errors:
            typer.echo(f"  broken: {error}")
        for plugin in plugins:
            for line in _pictures(settings, plugin):
                typer.echo(f"  {line}")
        typer.echo("")
    typer.echo("protocols: " + ", ".join(settings.protocols))
    typer.echo("presets:")
    lines = [[f"  {name}", table.get("summary", "")] for name, table in settings.presets.items()]
    typer.echo(tabulate(lines, tablefmt="plain"))


def _pictures(settings: Settings, plugin: discovery.Plugin) -> list[str]:
    """Which auxiliary pictures a method would read as the settings are, or why it could not."""
    table = settings.methods.get(plugin.name, {}) if plugin.kind == "methods" else {}
    lines = []
    for name in picture_fields(plugin):
        value = table.get(name, plugin.fields[name].default)
        what = f"{plugin.name}.{name}"
        if not value:
            lines.append(f"{what}: no folder of pictures is named; the method's fall-back")
            continue
        folder = picture_folder(settings, str(value))
        try:
            lines.append(
                f"{what}: {counted(len(list_pictures(folder, what)), 'picture')} in {folder}"
            )
        except DataError as error:
            lines.append(f"missing: {error}")
    return lines


_TOML = """# Settings of this project; see the shipped bench.toml for every key and its default.

[paths]
data = "data"         # one folder for each data set: data/mvtec, data/btad
results = "results"

[run]
protocol = "standard"
seeds = [0]
"""

_METHOD = '''"""Distance to the mean image: the smallest honest baseline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.api import Images, Method, Prediction, Run

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor


@dataclass
class MeanImage(Method):
    """Per-pixel distance to the average normal image."""

    batch: int = 16

    def fit(self, train: Images, run: Run) -> Iterator[Mapping[str, float]]:
        total = sum(images.sum(0) for images in train.batches(self.batch))
        self.mean = total / len(train)
        yield {}

    def predict(self, images: Tensor) -> Prediction:
        return Prediction(maps=(images - self.mean).abs().mean(1))
'''


def init(
    folder: Annotated[
        Path,
        typer.Argument(help="A folder, new or with files of yours: these are left as they are."),
    ],
) -> None:
    """Make a project of your own: bench.toml, methods/ with an example, datasets/."""
    if (folder / FILE).exists():
        raise ConfigError(f"{folder / FILE} exists already; choose another folder")
    if (folder / "methods" / "mean_image.py").exists():
        raise ConfigError(f"{folder}/methods/mean_image.py exists already; choose another folder")
    try:
        for kind in ("methods", "datasets"):
            (folder / kind).mkdir(parents=True, exist_ok=True)
        (folder / FILE).write_text(_TOML, encoding="utf-8")
        (folder / "methods" / "mean_image.py").write_text(_METHOD, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{folder} cannot be made a project: {error.strerror}") from error
    typer.echo(f"made {folder}: {FILE}, methods/mean_image.py, datasets/")
    typer.echo(
        f"try: cd {shlex.quote(str(folder))} && bench run --method mean_image --preset quick"
    )


def test_plugin(
    name: Annotated[str, typer.Argument(help="A method.")],
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="key=value for the method. Several values: layers=[1,2]."),
    ] = None,  # noqa: PT028
    preset: Annotated[str, typer.Option(help="Preset whose settings the method has.")] = "quick",  # noqa: PT028
    seconds: Annotated[
        float,
        typer.Option(min=0, help="Each of two trainings ends with the epoch that passes this."),
    ] = 60.0,  # noqa: PT028
    auxiliary_root: AuxiliaryRoot = None,  # noqa: PT028
) -> None:
    """Run a method on a small synthetic category and check what it returns."""
    from bench.run.plugin_test import check_method

    settings = with_auxiliary(load_settings(preset=preset), auxiliary_root)
    settings = replace(settings, run=replace(settings.run, weights="random", device="cpu"))
    problems = check_method(settings, name, typer.echo, pairs(set_), seconds)
    for problem in problems:
        typer.echo(f"FAILED {problem}")
    raise typer.Exit(1 if problems else 0)
