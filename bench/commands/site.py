"""`bench site`: the leaderboard as static pages."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.settings.config import load_settings


def site(
    out: Annotated[Path, typer.Option(help="Folder of the pages; new, empty or a site.")] = Path(
        "site"
    ),
    results: Annotated[
        list[Path] | None, typer.Option(help="Folder of results; give it again for more.")
    ] = None,
    galleries: Annotated[
        bool, typer.Option(help="Draw test images of cells whose artifacts are here.")
    ] = True,
) -> None:
    """Write the leaderboard: static pages that open from disk and on any static host."""
    from bench.report.site import build_site, load_site_data

    settings = load_settings()
    data = load_site_data(results or [settings.paths.results], settings.without_scores())
    built = build_site(data, out, galleries)
    typer.echo(f"{built.pages} pages from {built.rows} rows; open {built.index}")
    for text in built.damaged:
        typer.echo(f"error: {text}", err=True)
    if built.damaged:
        raise typer.Exit(1)
