"""Distributions of the scores of normal and anomalous images or pixels (CFLOW-AD, Figure 4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from bench.errors import StoreError
from bench.report.choice.coverage import choose
from bench.report.choice.groups import marked, meanings
from bench.report.choice.settings_text import settings_of
from bench.report.grid import Document
from bench.report.pictures.figures import COLOURS, new_figure, wrapped
from bench.rows.image_scores import load_image_scores
from bench.rows.panels import chosen, load_panels
from bench.rows.text import counted, percent
from bench.rows.upgrade import artifacts_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path
    from typing import Any

    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from bench.report.choice.groups import Group
    from bench.rows.panels import Panel
    from bench.rows.row import Row

Of = Literal["images", "pixels"]
"""What has a score."""

METRIC: dict[Of, str] = {"images": "image_auroc", "pixels": "pixel_auroc"}
"""The score beside a distribution: how well it is separated."""

COLUMNS = (
    *("place", "method", "settings", "category", "seed", "cell"),
    *("of", "low", "high", "normal", "anomalous"),
)
BINS = 25
WIDE = 8  # at most so many categories stand beside each other
FOLD = 5  # columns of what is folded into several lines
FAR = 4.0  # interquartile ranges of a kind beyond its middle half where the axis ends

_WIDTH, _HEIGHT = 1.6, 1.35  # inches of one distribution
_NOTE = 0.13  # of a line of small print


@dataclass(frozen=True, eq=False)
class Distribution:
    """Scores of one cell in bins of equal width.

    Attributes:
        variant: name in its group.
        row: whose scores they are.
        edges: (BINS + 1,); what lies beyond is counted in the outermost bins.
        normal: (BINS,) images or pixels.
        anomalous: (BINS,).
        beyond: how many scores lie beyond the edges.
    """

    variant: str
    row: Row
    edges: NDArray[np.float64]
    normal: NDArray[np.int64]
    anomalous: NDArray[np.int64]
    beyond: int


def distributions(
    group: Group, artifacts: Path, of: Of
) -> tuple[list[Distribution], dict[str, Row]]:
    """One for each variant and category, of the lowest seed that counts.

    Returns:
        what was found, and by reason a row whose scores are not there.
    """
    found, missing = [], {}
    for variant, rows in group.variants.items():
        for row in _first_seed(rows):
            try:
                normal, anomalous = _scores(artifacts_of(artifacts, row), of)
            except StoreError as error:
                missing[f"{variant}, {row.category}, cell {row.cell}: {error}"] = row
                continue
            found.append(_binned(variant, row, normal, anomalous))
    return found, missing


def _first_seed(rows: Sequence[Row]) -> list[Row]:
    return [of_category[0] for of_category in choose(rows).rows.values()]


def _scores(folder: Path, of: Of) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Scores of normal and of anomalous images or pixels.

    Raises:
        StoreError: they are not there, or not finite, or of one kind only.
    """
    scores, labels = load_image_scores(folder) if of == "images" else _pixels(folder)
    if not np.isfinite(scores).all():
        raise StoreError("scores that are not finite")
    if labels.all() or not labels.any():
        raise StoreError(f"{of} of one kind only")
    return scores[~labels], scores[labels]


def _pixels(folder: Path) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Scores and labels of the pixels of the images that are kept as panels."""
    if not (folder / "panels.npz").is_file():
        raise StoreError("panels.npz is not there")
    panels, _ = load_panels(folder / "panels.npz")
    parts = [pixels for panel in chosen(panels) if (pixels := _of_panel(panel))]
    if not parts:
        raise StoreError("no anomaly maps in panels.npz")
    scores, labels = zip(*parts, strict=True)
    return np.concatenate(scores).astype(np.float64), np.concatenate(labels)


def _of_panel(panel: Panel) -> tuple[NDArray[Any], NDArray[np.bool_]] | None:
    """Each pixel of the map with the mask's at its place; None without either."""
    if panel.map is None or (panel.mask is None and panel.label):
        return None
    if panel.mask is None:
        return panel.map.ravel(), np.zeros(panel.map.size, bool)
    rows, columns = (
        np.arange(side) * size // side
        for side, size in zip(panel.map.shape, panel.mask.shape, strict=True)
    )
    return panel.map.ravel(), (panel.mask[np.ix_(rows, columns)] != 0).ravel()


def _binned(
    variant: str, row: Row, normal: NDArray[np.float64], anomalous: NDArray[np.float64]
) -> Distribution:
    every = np.concatenate([normal, anomalous])
    low, high = _limits(normal, anomalous)
    edges = np.linspace(low, high, BINS + 1)
    good, bad = (np.histogram(np.clip(one, low, high), edges)[0] for one in (normal, anomalous))
    beyond = int(((every < low) | (every > high)).sum())
    return Distribution(variant, row, edges, good, bad, beyond)


def _limits(*kinds: NDArray[np.float64]) -> tuple[float, float]:
    """From the lowest to the highest score, without what is far from the middle half of its kind.

    One score among thousands would leave all others in one bar.
    """
    ends = []
    for scores in kinds:
        quarter, three = np.quantile(scores, [0.25, 0.75])
        reach = FAR * (three - quarter) or np.inf
        ends += [max(scores.min(), quarter - reach), min(scores.max(), three + reach)]
    low, high = float(min(ends)), float(max(ends))
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def notes(group: Group, found: Sequence[Distribution], of: Of) -> list[str]:
    """Settings, seeds, marks, and what is drawn otherwise than it is."""
    lines = list(group.legend)
    by_seeds: dict[tuple[int, ...], list[str]] = {}
    for variant, rows in group.variants.items():
        by_seeds.setdefault(choose(rows).seeds, []).append(variant)
    for seeds, variants in by_seeds.items():
        if len(seeds) > 1:
            every = ", ".join(map(str, seeds))
            lines.append(f"{', '.join(variants)}: seed {seeds[0]} of {every}")
    if of == "pixels":
        lines.append(
            "pixels of the images that `bench show` draws, failures first: no random sample of the "
            "test images; the AUROC is that of all"
        )
    if beyond := sum(each.beyond for each in found):
        lines.append(f"{counted(beyond, 'score')} beyond an axis: counted in its outermost bar")
    return [*lines, *meanings(group, METRIC[of])]


def figure(group: Group, found: Sequence[Distribution], of: Of) -> Figure:
    """Two histograms for each cell: shares of normal and of anomalous images or pixels."""
    columns = len(group.categories)
    if not 1 < columns <= WIDE:
        columns = min(FOLD, len(found))
    by_variant = 1 < len(group.categories) <= WIDE
    places = _places(group, found) if by_variant else list(enumerate(found))
    lines = max(place for place, _ in places) // columns + 1
    width = max(4.8, _WIDTH * columns)
    small = wrapped(notes(group, found, of), width, 7)
    head = wrapped([f"scores of {of}; {group.place}"], width)
    extra = _NOTE * (small.count("\n") + 1) + 0.2 * (head.count("\n") + 2)
    drawn, axes = new_figure(lines, columns, width, _HEIGHT * lines + extra)
    for axis in axes:
        axis.set_axis_off()
    for place, each in places:
        _draw(axes[place], each, marked(group, each.variant, METRIC[of]), of)
    handles, _ = axes[places[0][0]].get_legend_handles_labels()
    names = [f"normal {of}", f"anomalous {of}"]
    drawn.legend(
        handles,
        names,
        title=head,
        loc="outside upper center",
        ncols=2,
        fontsize=8,
        title_fontsize=9,
        frameon=False,
    )
    drawn.supxlabel(small, fontsize=7)
    drawn.supylabel(f"share of the {of} of each kind", fontsize=7)
    return drawn


def _places(group: Group, found: Sequence[Distribution]) -> list[tuple[int, Distribution]]:
    """A line for each variant that has any, a column for each category."""
    variants = list(dict.fromkeys(each.variant for each in found))
    return [
        (
            variants.index(each.variant) * len(group.categories)
            + group.categories.index(each.row.category),
            each,
        )
        for each in found
    ]


def _draw(axis: Any, each: Distribution, name: str, of: Of) -> None:
    from matplotlib.ticker import MaxNLocator

    axis.set_axis_on()
    axis.spines["left"].set_visible(False)
    for counts, colour, alpha in (
        (each.normal, COLOURS[0], 0.45),
        (each.anomalous, COLOURS[1], 0.25),
    ):
        shares = counts / counts.sum()
        # Filled and outlined apart, so that what lies behind is seen, in grey print too.
        axis.stairs(shares, each.edges, fill=True, color=colour, alpha=alpha)
        axis.stairs(shares, each.edges, color=colour, linewidth=1.0, label="_")
    handles = axis.patches[1::2]
    for handle, label in zip(handles, ("normal", "anomalous"), strict=True):
        handle.set_label(label)
    value = getattr(each.row, METRIC[of])
    score = f"AUROC {percent(value)}" if value is not None else "AUROC n/a"
    axis.set_title(f"{name}\n{each.row.category}: {score}", fontsize=7)
    axis.set_yticks([])
    axis.set_ylim(bottom=0)
    axis.xaxis.set_major_locator(MaxNLocator(3))
    axis.tick_params(labelsize=6)


def bars(group: Group, found: Sequence[Distribution], of: Of) -> Document:
    """For programs, of each bar its limits, and how many images or pixels of both kinds it has."""
    records = [
        dict(zip(COLUMNS, map(str, line), strict=True))
        for each in found
        for line in _lines(group, each, of)
    ]
    return Document("distributions", group.place, (), COLUMNS, records=tuple(records))


def _lines(group: Group, each: Distribution, of: Of) -> Iterator[tuple[object, ...]]:
    row = each.row
    settings = settings_of(group.variants, group.settings, each.variant)
    place = (group.place, each.variant, settings, row.category, row.seed, row.cell, of)
    limits = [f"{edge:.9g}" for edge in each.edges]
    for index in range(BINS):
        bar = (limits[index], limits[index + 1], each.normal[index], each.anomalous[index])
        yield (*place, *bar)
