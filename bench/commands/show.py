"""`bench show CELL`: a PNG of test images, truth, anomaly map and contour."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.commands.options import find_row
from bench.errors import StoreError
from bench.report.choice.groups import options_of
from bench.report.choice.marks import marks
from bench.report.choice.selection import results_option
from bench.report.rerun import rerun
from bench.rows.row_values import MEASURED
from bench.rows.store import ResultStore
from bench.rows.text import percent, plain
from bench.settings.config import Settings, load_settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.rows.row import Row


def show(
    cell: Annotated[
        list[str],
        typer.Argument(
            help="A cell, or the start of one; `bench status --cells` lists them. Several of one "
            "category: their maps of the same images, side by side."
        ),
    ],
    out: Annotated[Path | None, typer.Option(help="The PNG to write.")] = None,
    results: Annotated[Path | None, typer.Option(help="Folder of the results.")] = None,
) -> None:
    """Draw test images of a cell: image, truth, anomaly map, contour; failures first.

    Of several cells, image and truth, and one column of maps for each.
    """
    settings = load_settings()
    folder = settings.results_folder(results)
    store = ResultStore(folder)
    every = store.rows()
    rows = list({row.cell: row for name in cell if (row := find_row(every, name, folder))}.values())
    require_same_images(rows)
    for row in rows:
        artifacts = store.artifacts(row)
        if not (artifacts / "panels.npz").is_file():
            raise StoreError(
                f"{row.cell} has a row but no images in {artifacts}"
                f"{_absence(row, folder, settings)}"
            )
    names = "-".join(["panels", *(row.cell for row in rows[1:])])
    target = out or store.artifacts(rows[0]) / f"{names}.png"
    try:
        if len(rows) == 1:
            _one(rows[0], store, target)
        else:
            _several(rows, store, target, results_option(folder, settings))
    except OSError as error:
        raise StoreError(f"{target} cannot be written: {error}; choose another --out") from error
    typer.echo(f"{target}")


def _one(row: Row, store: ResultStore, target: Path) -> None:
    from bench.report.pictures.gallery import render
    from bench.rows.panels import chosen, epoch_note, load_panels

    panels, threshold = load_panels(store.artifacts(row) / "panels.npz")
    render(chosen(panels), threshold, target, title(row) + epoch_note(panels), caption(row))


def _several(rows: Sequence[Row], store: ResultStore, target: Path, results: str) -> None:
    from bench.report.pictures.side_by_side import MapColumn, common, render_side_by_side
    from bench.rows.panels import load_panels

    methods = [row.method for row in rows]
    columns = [
        MapColumn(
            row.method if methods.count(row.method) == 1 else f"{row.method} {row.cell}",
            load_panels(store.artifacts(row) / "panels.npz")[0],
        )
        for row in rows
    ]
    if not common(columns):
        again = [command for row in rows if (command := rerun(row, results))]
        raise StoreError(
            f"{', '.join(row.cell for row in rows)}: no image is kept of all of them, as of cells "
            f"from before a few are always kept; run them again: {' && '.join(again)}"
        )
    first = rows[0]
    place = f"{', '.join(dict.fromkeys(methods))} on {first.dataset}/{first.category}"
    text = "each method's maps have a colour scale of their own"
    render_side_by_side(columns, target, place, ". ".join([*map(_line, rows), text]))


def require_same_images(rows: Sequence[Row]) -> None:
    """Refuse cells whose maps cannot stand beside each other.

    Raises:
        StoreError: other data sets, categories, files or sizes; names the first cell that differs.
    """
    first = rows[0]
    sizes = [{key: each.get(key) for key in ("resize", "crop")} for each in options_of(list(rows))]
    for row, size in zip(rows, sizes, strict=True):
        differs = [
            f"{what} {old} and {new}"
            for what, old, new in (
                ("data set", first.dataset, row.dataset),
                ("category", first.category, row.category),
                ("data", first.data[:8], row.data[:8]),
                *((f"protocol's {key}", plain(sizes[0][key]), plain(size[key])) for key in size),
            )
            if old != new
        ]
        if differs:
            raise StoreError(
                f"{first.cell} and {row.cell} are not of the same images: {', '.join(differs)}; "
                "choose cells of one category and size by `bench status --cells`"
            )


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


def _line(row: Row) -> str:
    """Scores of one of several cells."""
    return f"{row.method}, seed {row.seed}, {caption(row)}"
