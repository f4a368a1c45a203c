"""Every committed results file: what a reader may rely on."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from bench.plan import discovery
from bench.report.choice.quantities import SCORES
from bench.report.compare.intervals import image_score
from bench.rows.csv_file import sort_rows
from bench.rows.row import Row, columns
from bench.rows.store import ResultStore
from bench.settings.config import load_settings
from tests.row_maker import make_row, read_csv

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "results"

FOLDERS = [RESULTS, *sorted(p for p in RESULTS.iterdir() if (p / "env").is_dir())]
"""The results folder, and folders of results inside it (other machines, other weights)."""

FILES = sorted({file for folder in FOLDERS for file in ResultStore(folder).files()})


def problems(row: Row, file: Path) -> list[str]:
    """What is wrong with a committed row, in words."""
    found = []
    for name in SCORES:
        value = getattr(row, name)
        if value is not None and not 0 <= value <= 1:
            found.append(f"{name} = {value} is outside 0 to 1")
    for name in columns("condition", "cost"):
        value = getattr(row, name)
        if isinstance(value, float) and value < 0:
            found.append(f"{name} = {value} is negative")
    if (row.dataset, row.method) != (file.parent.name, file.stem):
        found.append(f"{row.dataset}/{row.method} does not belong in this file")
    if not row.commit or row.commit.endswith("-dirty"):
        found.append(f"commit {row.commit!r}: made by code that is not committed")
    if not row.started or not row.device or not row.command:
        found.append("no start, device or command")
    if row.kind not in ("measured", "submitted"):
        found.append(f"kind {row.kind!r}")
    if (row.pretrained == "random") != ("[random" in row.weights):
        found.append(f"weights {row.weights!r} of a row that is {row.pretrained!r}")
    return found


def test_every_committed_row_is_sound() -> None:
    found = [
        f"{file.relative_to(ROOT)}: cell {row.cell}: {text}"
        for file in FILES
        for row in read_csv(file)
        for text in problems(row, file)
    ]
    assert found == []


def test_methods_data_sets_and_protocols_are_known() -> None:
    methods, datasets = discovery.sources("methods"), discovery.sources("datasets")
    protocols = load_settings(ROOT).protocols
    for file in FILES:
        for row in read_csv(file):
            assert row.method in methods, file
            assert row.dataset in datasets, file
            assert row.protocol in protocols, file


def test_no_cell_stands_twice_in_a_folder() -> None:
    for folder in FOLDERS:
        cells = [row.cell for row in ResultStore(folder).rows()]
        assert len(cells) == len(set(cells)), folder


def test_files_are_sorted_as_the_store_writes_them() -> None:
    for file in FILES:
        rows = read_csv(file)
        assert [r.cell for r in rows] == [r.cell for r in sort_rows(rows)], file


def test_the_environment_of_every_row_is_there() -> None:
    for folder in FOLDERS:
        for row in ResultStore(folder).rows():
            assert (folder / "env" / f"{row.env}.json").is_file(), (folder, row.cell)


def test_stored_image_scores_give_the_score_of_their_row() -> None:
    for folder in FOLDERS:
        for row in ResultStore(folder).rows():
            file = ResultStore(folder).artifacts(row) / "scores.npz"
            if file.is_file():
                with np.load(file) as stored:
                    scores, labels = stored["scores"], stored["labels"].astype(bool)
                assert len(labels) == row.n_test, file
                found = image_score("image_auroc", scores, labels)
                assert found == pytest.approx(row.image_auroc, abs=1e-6), file


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"image_auroc": 97.1}, "outside 0 to 1"),
        ({"fit_s": -1.0}, "negative"),
        ({"commit": "abc-dirty"}, "not committed"),
        ({"commit": ""}, "not committed"),
        ({"method": "cflow"}, "does not belong"),
        ({"pretrained": "random"}, "weights 'x@1' of a row that is 'random'"),
        ({"kind": "guessed"}, "kind 'guessed'"),
    ],
)
def test_a_row_that_is_not_sound_is_found(changes: dict[str, object], problem: str) -> None:
    sound = partial(
        make_row,
        weights="x@1",
        commit="abc",
        device="CPU",
        command="bench run",
        started="2026-01-01T00:00:00+00:00",
        image_auroc=0.9,
    )
    file = Path("results/mtd/padim.csv")
    assert problems(sound(), file) == []
    assert any(problem in text for text in problems(sound(**changes), file))
