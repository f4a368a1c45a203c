"""`bench show CELL`: a PNG of test images, truth, anomaly map and contour."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.commands.options import find_row
from bench.errors import StoreError
from bench.report.choice.marks import marks
from bench.report.choice.selection import results_option
from bench.report.rerun import rerun
from bench.rows.row import Row
from bench.rows.row_values import MEASURED
from bench.rows.store import ResultStore
from bench.rows.text import percent
from bench.settings.config import Settings, load_settings


def show(
    cell: Annotated[
        str, typer.Argument(help="A cell, or the start of one; `bench status --cells` lists them.")
    ],
    out: Annotated[Path | None, typer.Option(help="The PNG to write.")] = None,
    results: Annotated[Path | None, typer.Option(help="Folder of the results.")] = None,
) -> None:
    """Draw test images of a cell: image, truth, anomaly map, contour; failures first."""
    settings = load_settings()
    folder = settings.results_folder(results)
    store = ResultStore(folder)
    row = find_row(store.rows(), cell, folder)
    artifacts = store.artifacts(row)
    if not (artifacts / "panels.npz").is_file():
        raise StoreError(
            f"{row.cell} has a row but no images in {artifacts}{_absence(row, folder, settings)}"
        )
    from bench.report.pictures.gallery import render
    from bench.rows.panels import epoch_note, load_panels

    target = out or artifacts / "panels.png"
    panels, threshold = load_panels(artifacts / "panels.npz")
    try:
        render(panels, threshold, target, title(row) + epoch_note(panels), caption(row))
    except OSError as error:
        raise StoreError(f"{target} cannot be written: {error}; choose another --out") from error
    typer.echo(f"{target}")


def _absence(row: Row, folder: Path, settings: Settings) -> str:
    """Why a row has no images, and the command that makes them."""
    if row.kind != MEASURED:
        return ": its maps were made elsewhere"
    command = rerun(row, results_option(folder, settings))
    return f": they are not kept in version control; run it again: {command}"


def title(row: Row) -> str:
    """Method, category and seed."""
    return f"{row.method} on {row.dataset}/{row.category}, seed {row.seed}"


def caption(row: Row) -> str:
    """Scores with their protocol."""
    text = (
        f"protocol {row.protocol}: image AUROC {percent(row.image_auroc) or 'n/a'}, "
        f"pixel AUROC {percent(row.pixel_auroc) or 'n/a'}, "
        f"AUPRO 0.3 {percent(row.aupro_30) or 'n/a'}; weights {row.weights}; cell {row.cell}"
    )
    return ". ".join([text, *marks(row).values()])
