"""Results folders of schema 1: read as they are, carried over when they are first written."""

from __future__ import annotations

import csv
import os
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

import bench.rows.store
from bench.commands.options import find_row
from bench.errors import StoreError
from bench.plan import discovery
from bench.plan.cells import Cell, resolve_params
from bench.plan.identity import plain
from bench.rows.check import check
from bench.rows.csv_file import as_csv, read_schemas, write_csv
from bench.rows.row import SCHEMA, Row
from bench.rows.schema import former_id, upgraded
from bench.rows.store import ResultStore, merge
from bench.rows.tolerances import Tolerances
from bench.rows.upgrade import current
from bench.settings.config import Settings
from bench.settings.protocol import PROTOCOLS
from tests.row_maker import make_row, read_csv

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def planned(seed: int = 0, **overrides: Any) -> Cell:
    """A cell as a run plans it."""
    padim = discovery.describe("methods", "padim")
    return Cell(
        method="padim",
        method_version=padim.version,
        params=resolve_params(padim, Settings(project=padim.path.parent), overrides),
        dataset="mtd",
        dataset_version=1,
        dataset_params={},
        category="tile",
        seed=seed,
        protocol=PROTOCOLS["padim"],
        pretrained="pretrained",
        data="feed",
        defaults=plain(padim.defaults()),
    )


def old_row(of: Cell, /, **changes: Any) -> Row:
    """The row of a cell as schema 1 had it."""
    values: dict[str, Any] = {
        "schema": 1,
        "cell": former_id(of),
        "method_version": of.method_version,
        "seed": of.seed,
        "protocol": of.protocol.name,
        "protocol_fields": plain(of.protocol.identity()),
        "params": plain(of.params),
        "image_auroc": 0.75,
        "started": "2026-01-01T00:00:00+00:00",
    }
    return make_row(**{**values, **changes})


def unknown(**changes: Any) -> Row:
    """A row of schema 1 whose method is not here."""
    return make_row(schema=1, method="elsewhere", cell="e" * 12, params={"width": 3}, **changes)


def as_records(file: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(file.read_text(encoding="utf-8").splitlines()))


def old_folder(folder: Path, *rows: Row) -> ResultStore:
    """A folder of schema 1, without the columns that it did not have; artifacts beside the rows."""
    store = ResultStore(folder)
    for file in {store.file(row.dataset, row.method) for row in rows}:
        own = [row for row in rows if store.file(row.dataset, row.method) == file]
        write_csv(file, own)
        records = as_records(file)
        with file.open("w", newline="", encoding="utf-8") as stream:
            names = [name for name in records[0] if name != "formerly"]
            writer = csv.DictWriter(stream, names, extrasaction="ignore", lineterminator="\n")
            writer.writeheader()
            writer.writerows(records)
    for row in rows:
        artifacts = folder / "artifacts" / row.cell
        artifacts.mkdir(parents=True, exist_ok=True)
        (artifacts / "scores.npz").write_text(f"scores of {row.seed}")
    return store


def settle(store: ResultStore) -> None:
    """What every writer does first."""
    with store.lock():
        pass


def test_a_row_of_schema_1_gets_the_id_that_a_run_would_plan() -> None:
    for cell in (planned(), planned(sigma=2.0), planned(seed=3, layers=[1])):
        row = upgraded(old_row(cell))
        assert (row.schema, row.cell, row.formerly) == (SCHEMA, cell.id, former_id(cell))


def test_an_older_folder_is_read_in_the_present_schema_and_left_alone(tmp_path: Path) -> None:
    cells = [planned(seed) for seed in range(3)]
    store = old_folder(tmp_path, *map(old_row, cells))
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    rows = store.rows()
    assert [row.cell for row in rows] == [cell.id for cell in cells]
    texts = [(store.artifacts(row) / "scores.npz").read_text() for row in rows]
    assert texts == [f"scores of {seed}" for seed in range(3)]
    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == before


def test_a_writer_carries_rows_artifacts_and_logs_over(tmp_path: Path) -> None:
    cells = [planned(seed) for seed in range(3)]
    store = old_folder(tmp_path, *map(old_row, cells))
    log = tmp_path / "failures" / f"{former_id(cells[1])}.txt"
    log.parent.mkdir()
    log.write_text("failed again")
    expected = store.rows()
    settle(store)
    assert store.rows() == expected
    assert read_schemas(store.file("mtd", "padim")) == {str(SCHEMA)}
    found = {
        path.name: (path / "scores.npz").read_text() for path in (tmp_path / "artifacts").iterdir()
    }
    assert found == {cell.id: f"scores of {cell.seed}" for cell in cells}
    assert [path.name for path in log.parent.iterdir()] == [f"{cells[1].id}.txt"]
    assert not list(tmp_path.glob(".upgrade*"))


def test_everything_but_schema_and_ids_stays_as_it_is_written(tmp_path: Path) -> None:
    numbers: dict[str, Any] = {"fps": 31.5152, "pixel_ap": 0.132662, "gflops": 3.69305e-7}
    row = old_row(planned(), **numbers, pixel_f1max_threshold=7.96689272)
    store = old_folder(tmp_path, replace(row, extra={"energy_j": "3.50"}))
    (before,) = as_records(store.file("mtd", "padim"))
    settle(store)
    (after,) = as_records(store.file("mtd", "padim"))
    assert {k: v for k, v in after.items() if before.get(k) != v} == {
        "schema": str(SCHEMA),
        "cell": planned().id,
        "formerly": row.cell,
    }
    assert after["energy_j"] == "3.50"


def test_rows_of_a_method_that_is_not_here_keep_their_id_until_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = old_folder(tmp_path / "results", unknown(), old_row(planned()))
    settle(store)
    assert {row.method: (row.schema, row.cell) for row in store.rows()} == {
        "elsewhere": (1, "e" * 12),
        "padim": (SCHEMA, planned().id),
    }
    settle(store)  # nothing is left to do
    plugin = tmp_path / "methods" / "elsewhere.py"
    plugin.parent.mkdir()
    plugin.write_text(METHOD)
    monkeypatch.setenv("BENCH_PROJECT", str(tmp_path))
    settle(store)
    (row,) = read_csv(store.file("mtd", "elsewhere"))
    assert (row.schema, row.formerly) == (SCHEMA, "e" * 12)
    assert (tmp_path / "results" / "artifacts" / row.cell).is_dir()


METHOD = '''"""A method."""
from bench.api import Method


class Elsewhere(Method):
    width: int = 3
'''


def test_maps_made_elsewhere_count_by_all_that_is_known_of_them() -> None:
    row = unknown(kind="submitted", pretrained="unknown")
    assert upgraded(row).schema == SCHEMA
    assert upgraded(row).cell != upgraded(replace(row, params={"maps": "other"})).cell


def test_rows_that_differ_by_an_unstated_default_are_one_cell_and_the_newer_one_stays(
    tmp_path: Path,
) -> None:
    cell = planned()
    short = {name: value for name, value in cell.params.items() if name != "sigma"}
    older = old_row(cell, cell="a" * 12, params=short)
    newer = old_row(cell, cell="b" * 12, seed=0, started="2026-02-01T00:00:00+00:00")
    store = old_folder(tmp_path, older, newer)
    settle(store)
    (row,) = store.rows()
    assert (row.cell, row.started) == (cell.id, newer.started)
    assert row.formerly == "b" * 12 + " " + "a" * 12


def test_a_folder_that_holds_both_schemas_is_read_and_carried_over(tmp_path: Path) -> None:
    store = old_folder(tmp_path, old_row(planned(0)), old_row(planned(1)))
    file = store.file("mtd", "padim")
    write_csv(file, [upgraded(old_row(planned(0))), old_row(planned(1))])
    assert [row.cell for row in store.rows()] == [planned(0).id, planned(1).id]
    settle(store)
    assert [row.schema for row in read_csv(file)] == [SCHEMA, SCHEMA]


def test_a_row_that_is_made_again_is_still_known_by_its_former_id(tmp_path: Path) -> None:
    cell = planned()
    store = old_folder(tmp_path, old_row(cell))
    settle(store)
    store.put(make_row(cell=cell.id, image_auroc=0.5))
    (row,) = store.rows()
    assert (row.image_auroc, row.formerly) == (0.5, former_id(cell))


def test_a_cell_is_found_by_the_id_that_a_paper_cites(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cell = planned()
    rows = old_folder(tmp_path, old_row(cell)).rows()
    assert find_row(rows, former_id(cell)[:10], tmp_path).cell == cell.id
    assert capsys.readouterr().err == (
        f"note: cell {former_id(cell)[:10]} is called {cell.id} now\n"
    )
    assert find_row(rows, cell.id, tmp_path).cell == cell.id
    assert not capsys.readouterr().err


def test_an_older_folder_is_merged_under_new_ids_with_its_artifacts(tmp_path: Path) -> None:
    theirs = old_folder(tmp_path / "theirs", old_row(planned(0)), old_row(planned(1)), unknown())
    ours = ResultStore(tmp_path / "ours")
    ours.put(make_row(cell=planned(0).id, image_auroc=0.5, started="2025-01-01T00:00:00+00:00"))
    conflicts = merge(ours, [theirs])
    assert [(kept.image_auroc, dropped.image_auroc) for kept, dropped in conflicts] == [(0.75, 0.5)]
    assert ours.rows() == theirs.rows()
    names = {path.name for path in (tmp_path / "ours" / "artifacts").iterdir()}
    assert names == {planned(0).id, planned(1).id, "e" * 12}
    before = {file: file.read_bytes() for file in ours.folder.rglob("*.csv")}
    assert merge(ours, [theirs]) == []
    assert {file: file.read_bytes() for file in ours.folder.rglob("*.csv")} == before


def test_merging_tells_an_unknown_method_by_the_former_id_of_another_folder(tmp_path: Path) -> None:
    ours, theirs = ResultStore(tmp_path / "ours"), old_folder(tmp_path / "theirs", unknown())
    ours.put(make_row(method="elsewhere", cell="f" * 12, formerly="e" * 12))
    merge(ours, [theirs])
    assert [row.cell for row in ours.rows()] == ["f" * 12]


def test_a_baseline_of_schema_1_gates_new_rows(tmp_path: Path) -> None:
    baseline = old_folder(tmp_path / "baseline", old_row(planned(0)), unknown())
    results = ResultStore(tmp_path / "results")
    results.put(replace(upgraded(old_row(planned(0))), formerly=""))
    results.put(unknown())
    outcome = check(baseline.folder, results.folder, Tolerances())
    assert len(outcome.cells) == 2
    assert (outcome.missing, outcome.new, outcome.changed) == ([], [], [])


@pytest.mark.parametrize("where", ["folder", "artifacts", "cell"])
def test_folders_behind_links_are_carried_over(tmp_path: Path, where: str) -> None:
    cell = planned()
    store = old_folder(tmp_path / "results", old_row(cell))
    place = {
        "folder": store.folder,
        "artifacts": store.folder / "artifacts",
        "cell": store.folder / "artifacts" / former_id(cell),
    }[where]
    place.rename(tmp_path / "elsewhere")
    place.symlink_to(tmp_path / "elsewhere")
    settle(store)
    (row,) = store.rows()
    assert (store.folder / "artifacts" / row.cell / "scores.npz").read_text() == "scores of 0"
    assert not (store.folder / "artifacts" / former_id(cell)).is_symlink()
    assert (tmp_path / "elsewhere").is_dir()


def test_artifacts_are_copied_where_files_cannot_have_two_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_arguments: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "link", refused)
    store = old_folder(tmp_path, old_row(planned()))
    settle(store)
    assert (tmp_path / "artifacts" / planned().id / "scores.npz").read_text() == "scores of 0"
    assert not (tmp_path / "artifacts" / former_id(planned())).exists()


def test_readers_find_every_row_and_artifact_at_each_step_of_an_upgrade(tmp_path: Path) -> None:
    store = old_folder(tmp_path, *(old_row(planned(seed)) for seed in range(2)))
    expected = store.rows()
    states = []

    def look() -> None:
        assert store.rows() == expected
        assert [(store.artifacts(row) / "scores.npz").is_file() for row in expected] == [True, True]
        states.append({s for file in store.files() for s in read_schemas(current(file))})

    at_each_step(tmp_path, lambda: settle(store), look)
    assert len(states) > 20
    assert [state for i, state in enumerate(states) if not i or states[i - 1] != state] == [
        {"1"},
        {str(SCHEMA)},
    ]


def at_each_step(folder: Path, action: Callable[[], None], look: Callable[[], None]) -> None:
    """Do something, and look at the folder before each thing that it does to the disk."""
    is_on, is_looking = True, False

    def hook(event: str, values: tuple[Any, ...]) -> None:
        nonlocal is_looking
        steps = ("os.rename", "os.link", "os.remove", "os.rmdir", "os.mkdir")
        if is_on and not is_looking and event in steps and str(values[0]).startswith(str(folder)):
            is_looking = True
            try:
                look()
            finally:
                is_looking = False

    sys.addaudithook(hook)  # for good: Python has no way to take it off
    try:
        action()
    finally:
        is_on = False


def test_a_reader_whose_file_moves_into_place_meanwhile_reads_it_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ResultStore(tmp_path)
    store.put(make_row())
    monkeypatch.setattr(bench.rows.store, "current", lambda _file: tmp_path / "gone.csv")
    assert store.rows() == [make_row()]


def test_a_folder_that_cannot_be_written_is_read_with_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = old_folder(tmp_path, old_row(planned()))
    store.rows()
    assert not capsys.readouterr().err
    real = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK and real(path, mode))
    assert [row.cell for row in store.rows()] == [planned().id]
    assert capsys.readouterr().err == (
        f"note: {tmp_path} holds rows of an older schema and cannot be written; they are read "
        "under their new ids\n"
    )
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    with pytest.raises(StoreError, match="holds rows of an older schema; nothing was changed"):
        settle(store)
    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == before


def test_a_disk_that_fails_halfway_leaves_what_the_next_writer_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = old_folder(tmp_path, old_row(planned()))
    expected = store.rows()

    def full(*_arguments: object, **_named: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copytree", full)
    with pytest.raises(StoreError, match=r"No space left on device.*the next run goes on with it"):
        settle(store)
    monkeypatch.undo()
    assert store.rows() == expected
    assert (store.artifacts(expected[0]) / "scores.npz").is_file()
    settle(store)
    assert (tmp_path / "artifacts" / planned().id / "scores.npz").is_file()
    assert store.rows() == expected


def test_a_row_that_is_put_while_an_upgrade_is_half_done_is_not_hidden_by_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = old_folder(tmp_path, old_row(planned(0)))
    monkeypatch.setattr("bench.rows.upgrade.finish", lambda _folder: None)
    settle(store)
    monkeypatch.undo()
    assert (tmp_path / ".upgrade").is_dir()
    store.put(make_row(cell=planned(1).id, seed=1))
    assert [row.cell for row in store.rows()] == [planned(0).id, planned(1).id]
    assert not (tmp_path / ".upgrade").exists()


def test_the_former_ids_of_a_file_name_no_place_outside_the_folder(tmp_path: Path) -> None:
    file = tmp_path / "padim.csv"
    file.write_bytes(as_csv([make_row(formerly="feedfeed")]).replace(b"feedfeed", b"../out"))
    with pytest.raises(StoreError, match=r"column 'formerly' holds '\.\./out', which cannot name"):
        read_csv(file)
