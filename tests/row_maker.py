"""A row made by hand, for tests of what is done with rows."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any

from bench.rows.csv_file import as_csv, read_lines
from bench.rows.row import Row

if TYPE_CHECKING:
    from pathlib import Path


def make_row(**changes: Any) -> Row:
    """`make_row(method="cflow", image_auroc=0.9)`: of PaDiM on mtd, and what is given."""
    values: dict[str, Any] = {
        "cell": "0123456789ab",
        "method": "padim",
        "method_version": 1,
        "dataset": "mtd",
        "dataset_version": 1,
        "category": "tile",
        "seed": 0,
        "protocol": "standard",
        "pretrained": "pretrained",
        "data": "feed",
        "code": "beef",
    }
    return Row(**{**values, **changes})


def read_csv(file: Path) -> list[Row]:
    """The rows of a file."""
    return [line.row for line in read_lines(file)]


def write_text(file: Path, row: Row, column: str, text: str) -> None:
    """A file of one row in which a column holds this text, right or wrong."""
    (line,) = csv.DictReader(io.StringIO(as_csv([row]).decode(), newline=""))
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, [*line], lineterminator="\n")
        writer.writeheader()
        writer.writerow({**line, column: text})
