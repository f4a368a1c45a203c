from __future__ import annotations

import csv
import json
import os
import socket
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, get_args

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.errors import StoreError
from bench.rows.column import Part
from bench.rows.csv_file import write_csv
from bench.rows.row import columns
from bench.rows.store import ResultStore, merge
from tests.row_maker import make_row, read_csv, write_text

if TYPE_CHECKING:
    from pathlib import Path


row = partial(
    make_row,
    pretrained="random",
    image_auroc=0.75,
    noisy=True,
    fps=12.5,
    started="2026-01-01T00:00:00+00:00",
)


def test_a_row_survives_writing_and_reading(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    store.put(row())
    assert store.rows() == [row()]


def test_putting_a_cell_again_replaces_its_row(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    store.put(row())
    store.put(row(image_auroc=0.5))
    assert [r.image_auroc for r in store.rows()] == [0.5]


def test_rows_are_sorted_whatever_the_order_of_writing(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    for seed in (2, 0, 1):
        store.put(row(cell=f"{seed:012x}", seed=seed))
    assert [r.seed for r in store.rows()] == [0, 1, 2]


def test_an_unknown_column_survives_a_rewrite(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    store.put(replace(row(), extra={"energy_j": "3.5"}))
    store.put(row(cell="ffffffffffff"))
    assert [r.extra["energy_j"] for r in store.rows()] == ["3.5", ""]


def test_a_missing_value_is_an_empty_cell(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    store.put(row(image_auroc=None))
    assert store.rows()[0].image_auroc is None


@given(
    value=st.floats(0, 1), text=st.text(st.characters(codec="utf-8", exclude_characters="\r\x00"))
)
@settings(max_examples=50)
def test_any_score_and_any_text_survive(
    tmp_path_factory: pytest.TempPathFactory, value: float, text: str
) -> None:
    file = tmp_path_factory.mktemp("store") / "a.csv"
    write_csv(file, [row(pixel_ap=value, command=text)])
    (again,) = read_csv(file)
    assert again.command == text
    assert again.pixel_ap == pytest.approx(value, abs=5e-7)


def test_a_file_from_before_a_column_was_added_is_read_with_its_default(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    store.put(row(n_leaked=None))
    file = store.file("mtd", "padim")
    with file.open(newline="", encoding="utf-8") as stream:
        records = list(csv.DictReader(stream))
    with file.open("w", newline="", encoding="utf-8") as stream:
        names = [name for name in records[0] if name != "n_leaked"]
        writer = csv.DictWriter(stream, names, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(records)
    assert store.rows() == [row()]


def damage(file: Path, old: str, new: str) -> None:
    file.write_text(file.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("0.750000", "high", ":2: column 'image_auroc' holds 'high'"),
        ("0.750000", "nan", ":2: column 'image_auroc' holds 'nan'"),
        ("image_auroc", "image_aurok", ":1: column 'image_auroc' is missing"),
        ("0123456789ab", "0123,456789ab", ":2: .* values for .* columns"),
        ("\n2,", "\n9,", "schema 9 is newer"),
        ("\n2,", "\n0,", ":2: column 'schema' holds '0', not 1 to 2; restore the file"),
        ("true", "yes", "column 'noisy' holds 'yes'"),
        ("0.750000", "1.7", "column 'image_auroc' holds '1.7', not a fraction .*; restore the"),
        ("12.5", "-3", "column 'fps' holds '-3', not a number from 0; restore the file"),
        ("measured", "guess", "column 'kind' holds 'guess', not measured or submitted; restore"),
        (",random,", ",xx,", "column 'pretrained' holds 'xx', not pretrained, random, none"),
        (",tile,0,", ",tile,-1,", "column 'seed' holds '-1', not a whole number from 0; restore"),
        ("2026-01-01T", "2026-13-01T", "column 'started' holds '2026-13-.*', not a time as in"),
        (",mtd,", ",btad,", ":2: column 'dataset' holds 'btad', not 'mtd' as the file is called"),
        (",padim,", ",cflow,", ":2: column 'method' holds 'cflow', not 'padim' as the file is"),
    ],
)
def test_a_damaged_file_is_refused_with_line_and_column_and_left_alone(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    store = ResultStore(tmp_path)
    store.put(row())
    file = store.file("mtd", "padim")
    damage(file, old, new)
    before = file.read_bytes()
    with pytest.raises(StoreError, match=message):
        store.put(row(cell="ffffffffffff"))
    assert file.read_bytes() == before


@pytest.mark.parametrize("text", ["{bad", "[]", "", "3", '{"a": NaN}', "[" * 100_000])
@pytest.mark.parametrize(
    "column",
    ["params", "dataset_params", "protocol_fields", "undefined", "published", "last_epoch"],
)
def test_a_column_that_is_no_json_object_is_refused_with_line_and_column(
    tmp_path: Path, column: str, text: str
) -> None:
    file = tmp_path / "padim.csv"
    write_text(file, row(), column, text)
    with pytest.raises(StoreError, match=rf"padim.csv:2: column '{column}' holds .*JSON.*; restor"):
        read_csv(file)


@pytest.mark.parametrize(
    ("column", "text"),
    [
        ("flops_uncounted", "{}"),
        ("flops_uncounted", "[1]"),
        ("undefined", '{"aupimo": 1}'),
        ("published", '{"aupro_cflow": "high"}'),
        ("published", '{"aupro_cflow": 1e999}'),
    ],
)
def test_a_json_column_holds_what_the_reports_read(tmp_path: Path, column: str, text: str) -> None:
    file = tmp_path / "padim.csv"
    write_text(file, row(), column, text)
    with pytest.raises(StoreError, match=rf":2: column '{column}' holds .*, not a JSON"):
        read_csv(file)


@pytest.mark.parametrize("name", ["extra", "self", "SORT"])
def test_an_unknown_column_called_like_a_field_of_ours_survives_too(
    tmp_path: Path, name: str
) -> None:
    store = ResultStore(tmp_path)
    store.put(replace(row(), extra={name: "3.5"}))
    store.put(row(cell="ffffffffffff"))
    assert [r.extra[name] for r in store.rows()] == ["3.5", ""]


def test_values_at_the_ends_of_their_range_are_read(tmp_path: Path) -> None:
    least: dict[str, Any] = {"image_auroc": 0.0, "fps": 0.0, "started": "", "kind": "submitted"}
    odd: dict[str, Any] = {"pixel_f1max_threshold": -3.5, "fit_left_mb": -0.5, "image_auroc": 1.0}
    rows = [
        row(**least, pretrained="unknown"),
        row(cell="f" * 12, pretrained="file:0123456789ab", **odd),
    ]
    write_csv(tmp_path / "padim.csv", rows)
    assert read_csv(tmp_path / "padim.csv") == rows


def test_a_file_that_was_cut_off_is_refused(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    store.put(row())
    file = store.file("mtd", "padim")
    file.write_bytes(file.read_bytes()[:-5])
    with pytest.raises(StoreError, match="cut off"):
        store.rows()


def test_two_rows_of_one_cell_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "mtd" / "padim.csv"
    write_csv(file, [row(), row(seed=1)])
    with pytest.raises(StoreError, match=r":3: cell 0123456789ab is there already, in line 2"):
        read_csv(file)


def test_a_second_writer_is_refused_while_the_first_one_lives(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    with store.lock(), pytest.raises(StoreError, match="in use by process"), store.lock():
        pass
    with store.lock():
        assert (tmp_path / ".lock").exists()
    assert not (tmp_path / ".lock").exists()


@pytest.mark.parametrize(
    "owner",
    [
        json.dumps({"pid": 2**22 - 3, "host": socket.gethostname(), "started": 1.0}),
        json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "started": 1.0}),
        '{"pid": 1',
    ],
    ids=["gone", "number used again", "cut off"],
)
def test_a_lock_of_a_dead_process_is_taken(tmp_path: Path, owner: str) -> None:
    (tmp_path / ".lock").write_text(owner, encoding="utf-8")
    with ResultStore(tmp_path).lock():
        held = json.loads((tmp_path / ".lock").read_text(encoding="utf-8"))
    assert held["pid"] == os.getpid()
    assert held["started"] == psutil.Process().create_time()


def test_a_lock_of_another_machine_is_respected(tmp_path: Path) -> None:
    (tmp_path / ".lock").write_text(json.dumps({"pid": 1, "host": "elsewhere", "started": 1.0}))
    with pytest.raises(StoreError, match="run on elsewhere"), ResultStore(tmp_path).lock():
        pass


def test_merging_keeps_the_newest_row_and_reports_differences(tmp_path: Path) -> None:
    ours, theirs = ResultStore(tmp_path / "a"), ResultStore(tmp_path / "b")
    ours.put(row())
    theirs.put(row(image_auroc=0.9, started="2026-02-01T00:00:00+00:00"))
    theirs.put(row(cell="ffffffffffff", seed=1))
    conflicts = merge(ours, [theirs])
    assert [(k.image_auroc, d.image_auroc) for k, d in conflicts] == [(0.9, 0.75)]
    assert [r.image_auroc for r in ours.rows()] == [0.9, 0.75]


def test_merging_brings_the_environments_and_artifacts_of_the_rows(tmp_path: Path) -> None:
    ours, theirs = ResultStore(tmp_path / "a"), ResultStore(tmp_path / "b")
    ours.put(row(env="aa"))
    theirs.put(row(env="bb", started="2026-02-01T00:00:00+00:00"))
    theirs.put(row(env="bb", cell="ffffffffffff", seed=1))
    for store, text in ((ours, "old"), (theirs, "new")):
        scores = store.folder / "artifacts" / row().cell / "scores.npz"
        scores.parent.mkdir(parents=True)
        scores.write_text(text)
    (scores.parents[2] / "env").mkdir()
    (scores.parents[2] / "env" / "bb.json").write_text("{}")
    merge(ours, [theirs])
    assert (ours.folder / "env" / "bb.json").read_text() == "{}"
    kept = sorted(path for path in (ours.folder / "artifacts").rglob("*") if path.is_file())
    assert [(path.parent.name, path.read_text()) for path in kept] == [(row().cell, "new")]


@pytest.mark.parametrize("cell", ["", ".", "..", "../x", "a/b", "/etc"])
@pytest.mark.parametrize("column", ["cell", "env"])
def test_names_that_lead_out_of_the_folder_are_refused(
    tmp_path: Path, column: str, cell: str
) -> None:
    theirs = ResultStore(tmp_path / "b")
    theirs.put(row(**{column: "feedfeed"}))
    file = theirs.file("mtd", "padim")
    file.write_text(file.read_text().replace("feedfeed", cell))
    kept = tmp_path / "a" / "artifacts" / "keep" / "scores.npz"
    kept.parent.mkdir(parents=True)
    kept.write_text("precious")
    if column == "env" and not cell:  # a row may lack its environment
        assert merge(ResultStore(tmp_path / "a"), [theirs]) == []
    else:
        with pytest.raises(StoreError, match=f"padim.csv:2: column '{column}' holds"):
            merge(ResultStore(tmp_path / "a"), [theirs])
    assert kept.read_text() == "precious"


@pytest.mark.parametrize("changes", [{"dataset": "../out"}, {"method": "a/b"}, {"dataset": "env"}])
def test_merging_writes_inside_the_results_folder_alone(
    tmp_path: Path, changes: dict[str, str]
) -> None:
    file = tmp_path / "b" / "mtd" / "padim.csv"
    file.parent.mkdir(parents=True)
    write_csv(file, [row(**changes)])
    with pytest.raises(
        StoreError, match=r"padim.csv:2: column .* holds .*, not .* as the file is called"
    ):
        merge(ResultStore(tmp_path / "a"), [ResultStore(tmp_path / "b")])
    assert not (tmp_path / "a").exists()
    assert not (tmp_path / "out").exists()


def test_merging_an_older_row_leaves_our_artifacts(tmp_path: Path) -> None:
    ours, theirs = ResultStore(tmp_path / "a"), ResultStore(tmp_path / "b")
    ours.put(row(started="2026-02-01T00:00:00+00:00"))
    theirs.put(row())
    for store, text in ((ours, "ours"), (theirs, "theirs")):
        scores = store.folder / "artifacts" / row().cell / "scores.npz"
        scores.parent.mkdir(parents=True)
        scores.write_text(text)
    merge(ours, [theirs])
    assert (ours.folder / "artifacts" / row().cell / "scores.npz").read_text() == "ours"


def test_merging_a_folder_twice_changes_nothing(tmp_path: Path) -> None:
    ours, theirs = ResultStore(tmp_path / "a"), ResultStore(tmp_path / "b")
    theirs.put(row())
    assert merge(ours, [theirs]) == []
    before = ours.file("mtd", "padim").read_bytes()
    assert merge(ours, [theirs]) == []
    assert ours.file("mtd", "padim").read_bytes() == before


def test_a_failed_write_keeps_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ResultStore(tmp_path)
    store.put(row())

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match="No space left on device"):
        store.put(row(cell="ffffffffffff"))
    monkeypatch.undo()
    assert store.rows() == [row()]
    assert [f.name for f in (tmp_path / "mtd").iterdir()] == ["padim.csv"]


def test_the_columns_of_a_part_keep_the_order_of_the_file() -> None:
    of_parts = [name for part in get_args(Part) for name in columns(part)]
    assert sorted(of_parts) == sorted(columns())
    assert columns(*get_args(Part)) == columns()
