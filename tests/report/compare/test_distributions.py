"""`bench plot scores`: distributions of the scores of normal and anomalous images or pixels."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

import numpy as np
import pytest
from typer.testing import CliRunner

from bench.cli import app
from bench.errors import ConfigError, StoreError
from bench.report.choice.groups import groups
from bench.report.compare.distributions import BINS, distributions, figure
from bench.rows.csv_file import write_csv
from bench.rows.panels import Panel, save_panels
from bench.rows.store import ResultStore

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from bench.rows.row import Row

    Put = Callable[..., Row]

NORMAL = np.linspace(0.0, 1.0, 30)
ANOMALOUS = np.linspace(2.0, 3.0, 20)


@pytest.fixture(autouse=True)
def _project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BENCH_PROJECT", raising=False)


@pytest.fixture
def put(tmp_path: Path, make_row: Callable[..., Row]) -> Put:
    """`put(normal, anomalous, method="cflow")`: a stored row with its image scores."""

    def store(
        normal: NDArray[np.float64] = NORMAL,
        anomalous: NDArray[np.float64] = ANOMALOUS,
        **changes: object,
    ) -> Row:
        row = make_row(image_auroc=1.0, command="bench run -m padim", **changes)
        file = ResultStore(tmp_path).file(row.dataset, row.method)
        file.parent.mkdir(parents=True, exist_ok=True)
        others = [each for each in ResultStore(tmp_path).rows() if each.method == row.method]
        write_csv(file, [*others, row])
        folder = tmp_path / "artifacts" / row.cell
        folder.mkdir(parents=True)
        scores = np.concatenate([normal, anomalous])
        labels = np.arange(len(scores)) >= len(normal)
        names = [f"{index:03}.png" for index in range(len(scores))]
        np.savez(folder / "scores.npz", scores=scores, labels=labels, names=names)
        return row

    return store


def bench(*arguments: str) -> str:
    done = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def plots(results: Path) -> Path:
    """Beside the results: a folder among them would be taken for a data set."""
    return results.with_name(f"{results.name}-plots")


def plot(results: Path, *arguments: str) -> tuple[str, list[dict[str, str]]]:
    """What the command prints, and the lines of its table."""
    out = plots(results)
    text = bench("plot", "scores", "--results", str(results), "--out", str(out), *arguments)
    (table,) = out.glob("*.csv")
    with table.open() as file:
        return text, list(csv.DictReader(file))


def test_each_image_is_counted_once_in_the_bar_that_holds_its_score(
    put: Put, tmp_path: Path
) -> None:
    row = put()
    _, lines = plot(tmp_path)
    assert len(lines) == BINS
    assert {(line["cell"], line["category"], line["of"]) for line in lines} == {
        (row.cell, "weave", "images")
    }
    assert sum(int(line["normal"]) for line in lines) == 30
    assert sum(int(line["anomalous"]) for line in lines) == 20
    assert all(float(line["high"]) <= 1.0801 for line in lines if int(line["normal"]))
    assert all(float(line["low"]) >= 1.919 for line in lines if int(line["anomalous"]))


def test_a_figure_for_each_data_set_and_protocol_has_a_place_for_each_cell(
    put: Put, tmp_path: Path
) -> None:
    for method in ("padim", "cflow"):
        for category in ("bolt", "weave"):
            put(method=method, category=category)
    put(protocol="native")
    text, lines = plot(tmp_path, "--format", "svg")
    assert sorted(file.name for file in plots(tmp_path).iterdir()) == [
        "image_scores-synthetic-native.svg",
        "image_scores-synthetic-standard.svg",
        "image_scores.csv",
    ]
    assert "image_scores-synthetic-native.svg" in text
    assert len({line["cell"] for line in lines}) == 5


def test_figures_of_rows_that_are_not_asked_for_again_go(put: Put, tmp_path: Path) -> None:
    put()
    put(protocol="native")
    plot(tmp_path)
    plot(tmp_path, "--protocol", "native")
    assert [f.name for f in plots(tmp_path).glob("*.png")] == ["image_scores-synthetic-native.png"]


def test_the_lowest_of_several_seeds_is_drawn_and_named(put: Put, tmp_path: Path) -> None:
    rows = [put(seed=seed) for seed in (1, 2)]
    _, lines = plot(tmp_path)
    assert {line["cell"] for line in lines} == {rows[0].cell}
    (group,) = groups(rows)
    found, _ = distributions(group, tmp_path / "artifacts", "images")
    assert "padim: seed 1 of 1, 2" in _small_print(figure(group, found, "images"))


def _small_print(drawn: Figure) -> str:
    return drawn.get_supxlabel()


def test_one_far_score_does_not_squeeze_the_others_into_one_bar(put: Put, tmp_path: Path) -> None:
    row = put(anomalous=np.append(ANOMALOUS, 1e6))
    (group,) = groups([row])
    (found,), _ = distributions(group, tmp_path / "artifacts", "images")
    assert found.beyond == 1
    assert found.normal.sum() == 30
    assert found.anomalous.sum() == 21
    assert (found.normal > 0).sum() > 3
    assert "1 score beyond an axis" in _small_print(figure(group, [found], "images"))


def test_equal_scores_have_a_distribution_too(put: Put, tmp_path: Path) -> None:
    row = put(np.full(4, 0.5), np.full(3, 0.5))
    (group,) = groups([row])
    (found,), _ = distributions(group, tmp_path / "artifacts", "images")
    assert found.normal.max() == 4
    assert found.anomalous.max() == 3


@pytest.mark.parametrize(
    ("normal", "anomalous", "why"),
    [
        (np.array([0.1, np.inf]), ANOMALOUS, "scores that are not finite"),
        (NORMAL, ANOMALOUS[:0], "images of one kind only"),
    ],
)
def test_scores_that_say_nothing_are_named(
    put: Put, tmp_path: Path, normal: NDArray[np.float64], anomalous: NDArray[np.float64], why: str
) -> None:
    put()
    bad = put(normal, anomalous, category="bolt")
    text, _ = plot(tmp_path)
    assert f"left out: padim, bolt, cell {bad.cell}: {why}; run again: bench run" in text


def test_without_any_scores_nothing_is_written(put: Put, tmp_path: Path) -> None:
    row = put()
    (tmp_path / "artifacts" / row.cell / "scores.npz").unlink()
    with pytest.raises(StoreError, match="holds no scores of images to plot"):
        plot(tmp_path)
    assert not plots(tmp_path).exists()


def test_scores_of_protocols_that_say_nothing_are_plotted_only_by_name(
    put: Put, tmp_path: Path
) -> None:
    put(protocol="costs")
    with pytest.raises(ConfigError, match="costs, whose scores say nothing; --protocol shows them"):
        plot(tmp_path)
    assert plot(tmp_path, "--protocol", "costs")[1]


def test_pixels_are_those_of_the_panels_by_their_masks(put: Put, tmp_path: Path) -> None:
    row = put()
    image = np.zeros((8, 8, 3), np.uint8)
    mask = np.zeros((8, 8))
    mask[:4, :4] = 1  # of the map's 4 x 4 pixels four
    bad = Panel("bad.png", image, mask, mask[::2, ::2], 1.0, 1, "dent")
    good = Panel("good.png", image, None, np.zeros((4, 4)), 0.0, 0, "good")
    unknown = Panel("unknown.png", image, None, np.ones((4, 4)), 1.0, 1, "dent")
    folder = tmp_path / "artifacts" / row.cell
    with pytest.raises(StoreError, match="no scores of pixels"):
        plot(tmp_path, "--of", "pixels")
    save_panels(folder / "panels.npz", [bad, good, unknown], None)
    text, lines = plot(tmp_path, "--of", "pixels")
    assert "pixel_scores-synthetic-standard.png" in text
    assert int(lines[0]["normal"]) == 28
    assert int(lines[-1]["anomalous"]) == 4
    assert sum(int(line["normal"]) + int(line["anomalous"]) for line in lines) == 32


def test_many_categories_are_folded_into_lines(put: Put, tmp_path: Path) -> None:
    rows = [put(category=f"c{index:02}") for index in range(11)]
    (group,) = groups(rows)
    found, _ = distributions(group, tmp_path / "artifacts", "images")
    drawn = figure(group, found, "images")
    used = [axis for axis in drawn.axes if axis.axison]
    assert len(used) == 11
    assert [axis.get_title() for axis in used][-1] == "padim\nc10: AUROC 100.0"
    assert len({round(axis.get_position().x0, 3) for axis in drawn.axes}) == 5
