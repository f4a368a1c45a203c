"""`bench show CELL`: a PNG of test images, truth, anomaly map and contour."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.config import load_settings
from bench.errors import StoreError, nearest
from bench.report.marks import marks
from bench.report.words import percent
from bench.row import Row
from bench.store import ResultStore


def show(
    cell: Annotated[str, typer.Argument(help="A cell, or the start of one; see `bench status`.")],
    out: Annotated[Path | None, typer.Option(help="The PNG to write.")] = None,
    results: Annotated[Path | None, typer.Option(help="Folder of the results.")] = None,
) -> None:
    """Draw test images of a cell: image, truth, anomaly map, contour; failures first."""
    folder = results or load_settings().paths.results
    row = find_row(ResultStore(folder).rows(), cell, folder)
    artifacts = folder / "artifacts" / row.cell
    if not (artifacts / "panels.npz").is_file():
        raise StoreError(
            f"{row.cell} has a row but no images in {artifacts}: they are not kept in version "
            f"control; run it again with --force: {row.command}"
        )
    from bench.report.gallery import render
    from bench.report.panels import load_panels

    target = out or artifacts / "panels.png"
    panels, threshold = load_panels(artifacts / "panels.npz")
    try:
        render(panels, threshold, target, title(row), caption(row))
    except OSError as error:
        raise StoreError(f"{target} cannot be written: {error}; choose another --out") from error
    typer.echo(f"{target}")


def find_row(rows: list[Row], cell: str, folder: Path) -> Row:
    """The row whose cell starts with the text."""
    found = [row for row in rows if row.cell.startswith(cell)]
    if not found:
        if not rows:
            raise StoreError(f"{folder} holds no row yet; try `bench run --method padim`")
        raise StoreError(f"no cell {cell!r} in {folder}; {nearest(cell, [r.cell for r in rows])}")
    if len(found) > 1:
        raise StoreError(f"{cell!r} fits {len(found)} cells: {', '.join(r.cell for r in found)}")
    return found[0]


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
