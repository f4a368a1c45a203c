"""Options that several commands share, and how their values are read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from bench.disk import tidy
from bench.errors import ConfigError, StoreError, nearest
from bench.report.formats import checked_format, formats
from bench.rows.text import some
from bench.settings.config import Settings, parse_value
from bench.settings.precision import PRECISIONS, Precision

if TYPE_CHECKING:
    from bench.rows.row import Row


AuxiliaryRoot = Annotated[
    Path | None,
    typer.Option("--auxiliary-root", help="Folder of the auxiliary pictures that fields name."),
]


TableFormat = Annotated[
    str,
    typer.Option(
        "--format", help=f"How to write it: {', '.join(formats())}.", callback=checked_format
    ),
]


def with_auxiliary(settings: Settings, root: Path | None) -> Settings:
    """The settings with another folder of auxiliary pictures, if one is given."""
    if root is None:
        return settings
    return replace(settings, paths=replace(settings.paths, auxiliary=tidy(root)))


def split(values: list[str] | None) -> list[str]:
    """`--method a,b --method c` as a list."""
    return [name.strip() for value in values or [] for name in value.split(",") if name.strip()]


def pairs(values: list[str] | None, option: str = "--set") -> dict[str, Any]:
    """`--set key=value`, or another option of that form, as a mapping."""
    found: dict[str, Any] = {}
    for value in values or []:
        key, equals, text = value.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"{option} {value}: write key=value, as in {option} levels=3")
        found[key.strip()] = parse_value(text.strip())
    return found


def integers(text: str) -> tuple[int, ...]:
    """`0,1,2` as integers."""
    try:
        return tuple(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError as error:
        raise ConfigError(f"--seeds {text}: write whole numbers, as in --seeds 0,1,2") from error


def checked_precision(name: str | None) -> Precision | None:
    """`--precision`, if it was given."""
    known = {str(precision): precision for precision in PRECISIONS}
    if name is not None and name not in known:
        raise ConfigError(f"--precision {name}: no such precision; {nearest(name, known)}")
    return known[name] if name is not None else None


MapFormat = Literal["tiff", "npy"]
"""How maps are written."""


def find_row(rows: list[Row], cell: str, folder: Path) -> Row:
    """The row whose cell starts with the text, now or, as a paper may cite it, formerly."""
    found = [row for row in rows if row.cell.startswith(cell)]
    if not found:
        found = [r for r in rows if any(old.startswith(cell) for old in r.formerly.split())]
        for row in found if len(found) == 1 else ():
            typer.echo(f"note: cell {cell} is called {row.cell} now", err=True)
    if not found:
        if not rows:
            raise StoreError(f"{folder} holds no row yet; try `bench run --method padim`")
        text = f"no cell {cell!r} among the {len(rows)} in {folder}"
        raise StoreError(f"{text}; list them by `bench status --cells`")
    if len(found) > 1:
        raise StoreError(f"{cell!r} fits {len(found)} cells: {some([r.cell for r in found], 12)}")
    return found[0]
