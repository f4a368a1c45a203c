"""Free tables: what is kept apart, what is averaged, what is concluded."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from bench.report.compare import groups, tabulate_metric, text_table
from bench.report.significance import auroc

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bench.row import Row

    MakeRow = Callable[..., Row]


def six(make_row: MakeRow, method: str, start: float, **changes: object) -> list[Row]:
    values = {"image_auroc": start, **changes}
    return [
        make_row(method=method, category=f"c{i}", **{**values, "image_auroc": start + 0.01 * i * i})
        for i in range(6)
    ]


def test_protocols_and_data_set_options_are_kept_apart_and_named(make_row: MakeRow) -> None:
    rows = [
        make_row(),
        make_row(protocol="native"),
        make_row(dataset_params='{"size": 128}'),
        make_row(dataset_params='{"size": 256}', dataset="mtd"),
    ]
    titles = [group.title for group in groups(rows)]
    assert len(titles) == 4
    assert "synthetic, protocol native" in titles
    assert any("size=128" in title for title in titles)


def test_devices_are_kept_apart_for_costs_only(make_row: MakeRow) -> None:
    rows = [make_row(device="CPU a"), make_row(device="GPU b", seed=1)]
    assert len(groups(rows)) == 1
    titles = [group.title for group in groups(rows, by_device=True)]
    assert ["CPU a" in titles[0], "GPU b" in titles[1]] == [True, True]


def test_settings_of_one_method_are_numbered_and_told_apart(make_row: MakeRow) -> None:
    rows = [
        make_row(params='{"dimensions": 100, "sigma": 4.0}', image_auroc=0.9),
        make_row(params='{"dimensions": 550, "sigma": 4.0}', image_auroc=0.8),
        make_row(params='{"dimensions": 550, "sigma": 4.0}', pretrained="random", image_auroc=0.1),
    ]
    (group,) = groups(rows)
    assert list(group.variants) == ["padim #1", "padim #2", "padim #3"]
    text = text_table(tabulate_metric(group, "image_auroc"))
    assert "padim #1: version 1, pretrained, measured, dimensions=100" in text
    assert "sigma" not in text
    assert "padim #3§" in text


def test_seeds_are_averaged_with_their_deviation(make_row: MakeRow) -> None:
    rows = [make_row(image_auroc=0.9), make_row(image_auroc=0.8, seed=1)]
    table = tabulate_metric(groups(rows)[0], "image_auroc")
    assert table.cells["padim", "weave"] == "85.0 ± 7.1"


def test_ranks_are_over_categories_that_every_method_has(make_row: MakeRow) -> None:
    rows = [*six(make_row, "padim", 0.5), *six(make_row, "cflow", 0.4)[:-1]]
    table = tabulate_metric(groups(rows)[0], "image_auroc")
    assert table.shared == ("c0", "c1", "c2", "c3", "c4")
    assert dict(zip(table.methods, table.ranks.mean(1), strict=True)) == {"padim": 1, "cflow": 2}
    text = text_table(table)
    assert "mean and ranks without c5: not measured for every method" in text
    assert table.means["padim"] == "56.0"


def test_too_few_categories_are_said(make_row: MakeRow) -> None:
    rows = [*six(make_row, "padim", 0.5)[:3], *six(make_row, "cflow", 0.4)[:3]]
    text = text_table(tabulate_metric(groups(rows)[0], "image_auroc"))
    assert "3 categories measured for every method: too few to conclude" in text


def test_one_method_is_not_compared(make_row: MakeRow) -> None:
    text = text_table(tabulate_metric(groups(six(make_row, "padim", 0.5))[0], "image_auroc"))
    assert "nothing to compare" in text


def test_what_no_number_of_wins_could_show_is_said(make_row: MakeRow) -> None:
    methods = ("padim", "cflow", "pyramidflow")
    rows = [row for i, m in enumerate(methods) for row in six(make_row, m, 0.1 * i)]
    table = tabulate_metric(groups(rows)[0], "image_auroc")
    assert "no pair can reach p < 0.05, even if one method wins everywhere" in text_table(table)


@pytest.fixture
def stored(tmp_path: Path, make_row: MakeRow) -> tuple[Row, Path]:
    """A row with its image scores."""
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 2
    scores = rng.standard_normal(60) + labels
    row = make_row(image_auroc=auroc(scores, labels.astype(bool)), pixel_auroc=0.9)
    folder = tmp_path / row.cell
    folder.mkdir()
    np.savez(folder / "scores.npz", scores=scores, labels=labels)
    return row, tmp_path


def test_stored_image_scores_give_an_interval_of_image_auroc_only(
    stored: tuple[Row, Path],
) -> None:
    row, artifacts = stored
    (group,) = groups([row])
    table = tabulate_metric(group, "image_auroc", artifacts)
    cell = table.cells["padim", "weave"]
    low, high = (float(x) for x in cell.partition("[")[2].rstrip("]").split(","))
    assert low < 100 * (row.image_auroc or 0) < high
    assert table.means["padim"] == cell
    assert "95 % interval" in text_table(table)
    assert "[" not in tabulate_metric(group, "pixel_auroc", artifacts).cells["padim", "weave"]


def test_scores_of_another_run_give_no_interval(
    stored: tuple[Row, Path], make_row: MakeRow
) -> None:
    row, artifacts = stored
    other = make_row(cell=row.cell, image_auroc=(row.image_auroc or 0) - 0.01)
    table = tabulate_metric(groups([other])[0], "image_auroc", artifacts)
    assert "[" not in table.cells["padim", "weave"]
    assert "[" not in tabulate_metric(groups([row])[0], "image_auroc").cells["padim", "weave"]
