"""Intervals from stored image scores and over seeds, and why there is none."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from bench.report.choice.groups import groups
from bench.report.compare.compare import Number, tabulate_metric
from bench.report.compare.intervals import IMAGE_METRICS, MAXIMA, image_score
from tests.report.shown import compared

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from bench.rows.row import Row

    MakeRow = Callable[..., Row]
    Store = Callable[..., Row]

LABELS = np.arange(60) % 2 == 1
NAMES = np.array([f"image_{i:02d}.png" for i in range(60)])


def image_scores(seed: int, shift: float = 1.0) -> NDArray[np.float64]:
    return np.asarray(np.random.default_rng(seed).standard_normal(60) + shift * LABELS)


@pytest.fixture
def store(tmp_path: Path, make_row: MakeRow) -> Store:
    """`store(scores, order, seed=1)`: a row with its image scores in the temporary folder."""

    def put(
        scores: NDArray[np.float64], order: NDArray[np.int_] | None = None, **changes: object
    ) -> Row:
        found = {name: image_score(name, scores, LABELS) for name in IMAGE_METRICS}
        row = make_row(**{"pixel_auroc": 0.9, **found, **changes})
        (tmp_path / row.cell).mkdir()
        chosen = np.arange(60) if order is None else order
        np.savez(
            tmp_path / row.cell / "scores.npz",
            scores=scores[chosen],
            labels=LABELS[chosen],
            names=NAMES[chosen],
        )
        return row

    return put


def of(rows: list[Row], metric: str, artifacts: Path | None) -> tuple[Number, Number, str]:
    """A cell, the mean and the text of a table."""
    table = tabulate_metric(groups(rows)[0], metric, artifacts)
    return table.cells["padim", "weave"], table.means["padim"], compared(table)


@pytest.mark.parametrize("metric", sorted({*IMAGE_METRICS} - {*MAXIMA}))
def test_stored_image_scores_give_intervals_of_image_metrics(
    metric: str, store: Store, tmp_path: Path
) -> None:
    cell, mean, text = of([store(image_scores(0))], metric, tmp_path)
    assert cell.interval is not None
    assert cell.interval[0] < cell.value < cell.interval[1]
    assert mean == cell
    assert "(%) [95 % interval over test images] on synthetic" in text.splitlines()[0]
    assert "95 % interval over test images: " in text


@pytest.mark.parametrize("metric", MAXIMA)
def test_a_maximum_over_thresholds_has_no_interval_and_says_why(
    metric: str, store: Store, tmp_path: Path
) -> None:
    rows = [store(image_scores(i), seed=i, pixel_f1max=0.4 + 0.1 * i) for i in range(3)]
    cell, mean, text = of(rows, metric, tmp_path)
    assert (cell.interval, mean.interval) == (None, None)
    assert "[" not in text
    assert "no interval: its threshold is the best on these test images" in text


def test_the_order_of_the_stored_images_does_not_matter(store: Store, tmp_path: Path) -> None:
    order = np.random.default_rng(1).permutation(60)
    rows = [store(image_scores(0)), store(image_scores(0), order, method="cflow")]
    cells = tabulate_metric(groups(rows)[0], "image_auroc", tmp_path).cells
    assert cells["padim", "weave"] == cells["cflow", "weave"]


def test_permuting_the_images_of_one_run_changes_the_interval_of_the_average(
    store: Store, tmp_path: Path
) -> None:
    scores = image_scores(0)
    moved = scores.copy()
    for mask in (LABELS, ~LABELS):
        moved[mask] = np.random.default_rng(2).permutation(scores[mask])
    widths = []
    for other in (scores, moved):
        cell, _, _ = of([store(scores), store(other, seed=1)], "image_ap", tmp_path)
        assert cell.interval is not None
        widths.append(cell.interval[1] - cell.interval[0])
    assert widths[1] < 0.9 * widths[0]


def test_an_interval_stands_around_the_number_beside_it(store: Store, tmp_path: Path) -> None:
    rows = [
        store(image_scores(0, 0.2), category="a"),
        store(image_scores(1, 0.2), category="b"),
        store(image_scores(2, 3.0), category="b", seed=1),
        store(image_scores(3, 3.0), category="b", seed=2),
    ]
    table = tabulate_metric(groups(rows)[0], "image_auroc", tmp_path)
    for number in (*table.cells.values(), *table.means.values()):
        assert number.interval is not None
        assert number.interval[0] < number.value < number.interval[1]
    assert table.cells["padim", "b"].value < 0.7


def test_a_file_of_another_run_gives_no_interval_and_the_reason(
    store: Store, make_row: MakeRow, tmp_path: Path
) -> None:
    row = store(image_scores(0))
    other = make_row(cell=row.cell, image_auroc=(row.image_auroc or 0) - 0.01)
    cell, _, text = of([other], "image_auroc", tmp_path)
    assert cell.interval is None
    assert "no interval over test images: the image AUROC of scores.npz is not the row's" in text


def _flipped(content: bytes) -> bytes:
    return bytes(255 - b if 60 < i < 90 else b for i, b in enumerate(content))


@pytest.mark.parametrize(
    "damage",
    [
        lambda _: b"",
        lambda _: b"PK no archive",
        lambda content: content[: len(content) // 2],
        _flipped,
        lambda _: b"\x93NUMPY\x01\x00" + b"v\x00" + b"{'descr': '<f8'}".ljust(118),
    ],
)
def test_absent_and_broken_files_are_told_by_method(
    damage: Callable[[bytes], bytes], store: Store, make_row: MakeRow, tmp_path: Path
) -> None:
    whole = store(image_scores(0))
    broken = make_row(method="cflow", image_auroc=0.9)
    (tmp_path / broken.cell).mkdir()
    content = (tmp_path / whole.cell / "scores.npz").read_bytes()
    (tmp_path / broken.cell / "scores.npz").write_bytes(damage(content))
    rows = [whole, broken, make_row(method="pyramidflow", image_auroc=0.8)]
    _, _, text = of(rows, "image_auroc", tmp_path)
    assert (
        "no interval over test images: cflow in 1 of 1 category: scores.npz cannot be read" in text
    )
    assert (
        "no interval over test images: pyramidflow in 1 of 1 category: scores.npz is not there"
        in text
    )


def test_perfect_image_scores_have_an_interval_that_is_not_empty(
    store: Store, tmp_path: Path
) -> None:
    rows = [store(image_scores(0, 20.0), category=c) for c in ("weave", "b")]
    cell, mean, _ = of(rows, "image_auroc", tmp_path)
    for number in (cell, mean):
        assert number.interval is not None
        assert number.interval[0] < 0.99 < number.interval[1] == 1.0
    cell, _, text = of(rows, "image_ap", tmp_path)
    assert cell.interval is None
    assert "no interval: padim in b, padim in weave: every bootstrap sample has the same" in text


def test_methods_are_compared_on_these_categories_with_other_images_and_seeds(
    store: Store, tmp_path: Path
) -> None:
    rows = [
        store(image_scores(10 * i + seed, shift), method=method, seed=seed, category=category)
        for method, shift in (("padim", 0.3), ("cflow", 2.5))
        for seed in range(3)
        for i, category in enumerate(("a", "b"))
    ]
    table = tabulate_metric(groups(rows)[0], "image_auroc", tmp_path)
    (found,) = table.differences
    assert found.over == ("images", "seeds")
    assert found.interval[0] > 0
    text = compared(table)
    assert "on these categories, with other images and seeds: cflow is better than padim" in text
    assert "on new categories: 2 categories measured for every method: too few" in text


def test_without_image_scores_the_mean_has_an_interval_over_seeds(
    make_row: MakeRow, tmp_path: Path
) -> None:
    rows = [make_row(pixel_auroc=value, seed=i) for i, value in enumerate((0.90, 0.92, 0.94))]
    cell, mean, text = of(rows, "pixel_auroc", tmp_path)
    assert cell.text("pixel_auroc") == "92.0 ± 2.0"
    assert mean.text("pixel_auroc") == "92.0 ± 2.0 [87.0, 97.0]"
    assert "[95 % interval over seeds] on" in text.splitlines()[0]
    assert "covers the seed, not the choice of test images" in text


def test_one_seed_and_equal_seeds_have_no_interval_and_say_why(
    make_row: MakeRow, tmp_path: Path
) -> None:
    _, mean, text = of([make_row(pixel_auroc=0.9)], "pixel_auroc", tmp_path)
    assert mean.interval is None
    assert "no interval over seeds: padim has 1 seed" in text
    assert "[" not in text.splitlines()[0]
    rows = [make_row(pixel_auroc=0.9, seed=i) for i in range(3)]
    _, mean, text = of(rows, "pixel_auroc", tmp_path)
    assert (mean.deviation, mean.interval) == (0, None)
    assert "no interval over seeds: the 3 seeds of padim gave one number" in text


def test_costs_have_no_interval_and_say_so(make_row: MakeRow, tmp_path: Path) -> None:
    rows = [make_row(gflops=4.0, seed=i) for i in range(2)]
    _, mean, text = of(rows, "gflops", tmp_path)
    assert mean.interval is None
    assert "median over categories and seeds, without interval" in text
