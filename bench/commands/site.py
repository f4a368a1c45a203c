"""`bench site`: the leaderboard as static pages."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from bench.errors import counted
from bench.settings.config import load_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


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
    with _shown("reading rows") as report:
        data = load_site_data(results or [settings.paths.results], settings.without_scores())
        built = build_site(data, out, galleries, report)
    typer.echo(
        f"{counted(built.pages, 'page')} from {counted(built.rows, 'row')}; open {built.index}"
    )
    for text in built.damaged:
        typer.echo(f"error: {text}", err=True)
    if built.damaged:
        raise typer.Exit(1)


@contextmanager
def _shown(first: str) -> Iterator[Callable[[str], None]]:
    """What is made at the moment, in a line that goes away; nothing but on a terminal."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda _: None
        return
    with console.status(escape(first)) as status:
        yield lambda text: status.update(escape(text))
