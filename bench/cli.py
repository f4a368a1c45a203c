"""The command line: parses, calls, prints."""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path
from typing import Annotated

import typer

import bench
from bench.commands import (
    check,
    compare,
    data,
    model,
    plot,
    plugins,
    rescore,
    results,
    run,
    show,
    site,
    submission,
    table,
    weights,
)
from bench.errors import BenchError, ConfigError
from bench.settings.config import find_project

app = typer.Typer(
    name="bench",
    help="Benchmark harness for industrial visual anomaly detection.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_debug = False


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"flawbench {bench.__version__}")
        raise typer.Exit


@app.callback()
def options(
    project: Annotated[
        Path | None,
        typer.Option(help="Folder of bench.toml, methods/ and datasets/; else found upwards."),
    ] = None,
    debug: Annotated[bool, typer.Option(help="Print the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options of every command."""
    global _debug
    _debug = debug
    if project is not None and not project.is_dir():
        raise ConfigError(f"--project {project} is not a folder")
    # Child processes, and the import of plugins, must agree on the project.
    os.environ["BENCH_PROJECT"] = str(project.resolve() if project else find_project())


app.command("run")(run.run)
app.command("list")(plugins.list_plugins)
app.command("init")(plugins.init)
app.command("test-plugin")(plugins.test_plugin)
app.command("status")(results.status)
app.command("fit")(model.fit)
app.command("predict")(model.predict)
app.command("export")(submission.export)
app.command("score")(submission.score)
app.command("rescore")(rescore.rescore)
app.command("merge")(results.merge)
app.command("check")(check.check)
app.command("show")(show.show)
app.command("site")(site.site)
app.command("table")(table.table)
app.command("compare")(compare.compare)
app.command("explain-protocols")(results.explain_protocols)
app.add_typer(data.app, name="data")
app.add_typer(plot.app, name="plot")
app.add_typer(weights.app, name="weights")


def main() -> None:
    """Entry point of `bench`: one line for an error that a user can mend, exit code 2."""
    try:
        app()
    except BenchError as error:
        if _debug:
            traceback.print_exc()
        typer.echo(f"bench: {error}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
