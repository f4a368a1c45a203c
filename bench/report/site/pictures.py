"""Pictures of a cell from its artifacts: curves as SVG inside the page, the gallery as a file."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.errors import StoreError
from bench.report.choice.marks import marks
from bench.report.rerun import rerun
from bench.rows.row_values import MEASURED
from bench.rows.text import percent

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from bench.report.site.lines import BoardLine
    from bench.rows.row import Row

SIDE = 200
"""Width and height of a plot, in its own units; the page scales it."""

_CURVES = {
    "pixel_roc": ("Pixel ROC", "false-positive rate", "true-positive rate"),
    "pixel_pr": ("Pixel precision and recall", "recall", "precision"),
    "pro": ("Per-region overlap", "false-positive rate", "mean region overlap"),
    "image_roc": ("Image ROC", "false-positive rate", "true-positive rate"),
    "image_pr": ("Image precision and recall", "recall", "precision"),
}


@dataclass(frozen=True)
class Plot:
    """A line as an SVG path in a square of `SIDE`, the origin at the bottom left.

    Attributes:
        low, high: texts at the ends of the vertical axis.
        last: text at the end of the horizontal axis; `start` at its beginning.
    """

    title: str
    path: str
    across: str
    up: str
    low: str = "0"
    high: str = "1"
    start: str = "0"
    last: str = "1"


@dataclass(frozen=True)
class Gallery:
    """A picture file, its size, and its text."""

    file: str
    width: int
    height: int
    alt: str
    caption: str


@dataclass(frozen=True)
class Pictures:
    """What the artifacts of one cell show.

    Attributes:
        damaged: names of files that cannot be read.
        errors: the same in full, with their places on this machine.
    """

    row: Row
    plots: tuple[Plot, ...] = ()
    gallery: Gallery | None = None
    damaged: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """Category and seed."""
        return f"{self.row.category}, seed {self.row.seed}"


def draw(folder: Path, row: Row, target: Path | None, file: str) -> Pictures:
    """Curves and gallery from the artifacts of a cell.

    Args:
        target: where the picture of `panels.npz` goes; None: no gallery. `file` is how pages call
            it.
    """
    found: list[Plot] = []
    picture = None
    errors: dict[str, str] = {}
    for name, read in (("curves.npz", curves), ("history.json", loss)):
        try:
            found += read(folder / name) if (folder / name).is_file() else []
        except StoreError as error:
            errors[name] = str(error)
    if target is not None:
        try:
            picture = gallery(folder, row, target, file)
        except StoreError as error:
            errors["panels.npz"] = str(error)
    return Pictures(row, tuple(found), picture, tuple(errors), tuple(errors.values()))


def absent(
    line: BoardLine, found: Sequence[Pictures], galleries: bool, *, people: bool = False
) -> list[tuple[str, str]]:
    """What a line has no pictures of, each with the command that brings them back, or with none.

    Args:
        found: what its artifacts show.
        galleries: whether test images were to be drawn.
        people: whether they show people, and are never drawn.
    """
    if line.first.kind != MEASURED:
        return [] if found else [("Submitted maps come without curves and test images", "")]
    curves_of = {p.row.category for p in found if p.plots or p.damaged}
    images_of = {p.row.category for p in found if p.gallery or "panels.npz" in p.damaged}
    no_curves = [c for c in line.categories if c not in curves_of]
    no_images = (
        [c for c in line.categories if c not in images_of] if galleries and not people else []
    )
    if no_curves == no_images:
        sentences = _absent("curves or test images", no_curves, line)
    else:
        sentences = [
            *_absent("curves", no_curves, line),
            *_absent("test images", no_images, line),
        ]
    if people:
        sentences.append(("Test images show people: personal data, never shown here", ""))
    elif not galleries:
        sentences.append(("Test images are left out of this site (--no-galleries)", ""))
    return sentences


def _absent(what: str, categories: Sequence[str], line: BoardLine) -> list[tuple[str, str]]:
    """A sentence for each set of parameters, since each has a command of its own."""
    firsts = {row.category: row for row in reversed(line.rows) if row.category in categories}
    sentences = []
    for params in dict.fromkeys(firsts[c].key("params") for c in categories):
        alike = [c for c in categories if firsts[c].key("params") == params]
        where = "" if len(alike) == len(line.categories) else f" of {', '.join(alike)}"
        text = f"No {what}{where} lie among the results from which this site was made"
        sentences.append((text, rerun(firsts[alike[0]], categories=alike)))
    return sentences


def curves(file: Path) -> list[Plot]:
    """The curves of `curves.npz`.

    Raises:
        StoreError: a file that is damaged.
    """
    from bench.evaluate.curves import load_curves

    found = []
    for name, curve in sorted(load_curves(file).items()):
        title, across, up = _CURVES.get(name, (name.replace("_", " "), "x", "y"))
        points = list(zip(curve.x.tolist(), curve.y.tolist(), strict=True))
        found.append(Plot(title, _path(points), across, up))
    return found


def loss(file: Path) -> list[Plot]:
    """The loss of `history.json`; none where fewer than two epochs have one.

    Raises:
        StoreError: a file that is damaged.
    """
    try:
        history = json.loads(file.read_text(encoding="utf-8"))
        found = [epoch["loss"] for epoch in history if "loss" in epoch]
        losses = [math.nan if value is None else float(value) for value in found]
    except (OSError, ValueError, TypeError) as error:
        raise StoreError(f"{file}: not a history ({error}); run the cell again") from error
    finite = all(map(math.isfinite, losses))
    return [_loss_plot(losses)] if len(losses) > 1 and finite else []


def _loss_plot(losses: Sequence[float]) -> Plot:
    low, high = min(losses), max(losses)
    span = high - low or 1.0
    points = [(i / (len(losses) - 1), (v - low) / span) for i, v in enumerate(losses)]
    return Plot(
        "Training loss",
        _path(points),
        "epoch",
        "loss",
        f"{low:.3g}",
        f"{high:.3g}",
        "1",
        str(len(losses)),
    )


def _path(points: Sequence[tuple[float, float]]) -> str:
    """An SVG path; x and y from 0 to 1."""
    steps = [f"{SIDE * x:.1f} {SIDE * (1 - y):.1f}" for x, y in points]
    return "M" + "L".join(dict.fromkeys(steps))


def gallery(folder: Path, row: Row, target: Path, file: str) -> Gallery | None:
    """Draw the panels of a cell into a WebP file, unless it shows them already.

    Args:
        folder: of the cell's artifacts, with `panels.npz`.
        target: where the picture goes; `file` is how pages call it.

    Returns:
        None, and no file, where there are panels but no image among them.

    Raises:
        StoreError: panels that are damaged.
    """
    # Most sites are made without artifacts, and matplotlib takes a second to import.
    from bench.report.pictures.drawn_before import digest_of, drawn_before
    from bench.rows.panels import chosen, epoch_note, load_panels

    kept, threshold = load_panels(folder / "panels.npz")
    panels = chosen(kept)
    if not panels:
        return None
    place = f"{row.method} on {row.dataset}/{row.category}, seed {row.seed}"
    place += epoch_note(panels)
    caption = _caption(row)
    digest = digest_of(folder / "panels.npz", place, caption)
    if (size := drawn_before(target, digest)) is None:
        from bench.report.pictures.gallery import render

        size = render(panels, threshold, target, place, caption, digest)
    has_maps = any(panel.map is not None for panel in panels)
    parts = "image, truth, anomaly map and contour of the map on the image"
    alt = (
        f"{len(panels)} test images of {place}, failures first: "
        f"{parts if has_maps else 'image and truth'}"
    )
    return Gallery(file, *size, alt, f"{place}. {caption}")


def _caption(row: Row) -> str:
    scores: Mapping[str, float | None] = {
        "image AUROC": row.image_auroc,
        "pixel AUROC": row.pixel_auroc,
        "AUPRO 0.3": row.aupro_30,
    }
    texts = [f"{name} {percent(value) or 'n/a'}" for name, value in scores.items()]
    parts = [f"protocol {row.protocol}: {', '.join(texts)}; cell {row.cell}", *marks(row).values()]
    return ". ".join(parts)
