"""Rows that come faster than their files can be rewritten wait in the journal."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

import bench.rows.store
from bench.errors import StoreError
from bench.rows.journal import NAME, Journal
from bench.rows.store import ResultStore
from tests.row_maker import make_row, read_csv

if TYPE_CHECKING:
    from pathlib import Path

    from bench.rows.row import Row


def row(number: int, **changes: Any) -> Row:
    values: dict[str, Any] = {"cell": f"{number:012x}", "seed": number, "image_auroc": 0.5}
    return make_row(**{**values, **changes})


@pytest.fixture
def busy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ResultStore:
    """A store that may hardly rewrite a file once it has done so."""
    monkeypatch.setattr(bench.rows.store, "REWRITE_BYTES_PER_S", 1e-9)
    return ResultStore(tmp_path)


def test_a_row_that_waits_is_read_as_any_other_and_is_in_its_file_at_the_end(
    busy: ResultStore,
) -> None:
    rows = [row(0), row(1, image_auroc=1 / 3, command="a\nb,\"\udcff'"), row(2)]
    file = busy.file(rows[0].dataset, rows[0].method)
    with busy.lock():
        for one in rows:
            busy.put(one)
        assert len(read_csv(file)) == 1
        assert [r.cell for r in ResultStore(busy.folder).rows()] == [r.cell for r in rows]
        meanwhile = ResultStore(busy.folder).rows()
    assert len(read_csv(file)) == 3
    assert not (busy.folder / NAME).exists()
    at_once = ResultStore(busy.folder / "other")
    for one in rows:
        at_once.put(one)
    assert file.read_bytes() == at_once.file(rows[0].dataset, rows[0].method).read_bytes()
    for before, after in zip(meanwhile, busy.rows(), strict=True):
        assert (before.cell, before.image_auroc) == (after.cell, after.image_auroc)


def test_a_row_that_waits_replaces_that_of_its_cell(busy: ResultStore) -> None:
    busy.put(row(0, formerly="old"))
    with busy.lock():
        busy.put(row(1))
        busy.put(row(0, image_auroc=0.25))
        busy.put(row(0, image_auroc=0.75))
        (found, _) = busy.rows()
        assert (found.image_auroc, found.formerly) == (0.75, "old")
    assert busy.rows()[0] == found


def test_the_next_writer_takes_up_the_journal_of_a_killed_one(busy: ResultStore) -> None:
    busy.put(row(0))
    journal = Journal(busy.folder)
    journal.append(row(1))
    journal.append(row(2))
    cut = journal.file.read_bytes()[:-20]
    journal.file.write_bytes(cut)
    assert [r.seed for r in busy.rows()] == [0, 1]  # the third was not said to be stored
    with busy.lock():
        assert not journal.file.exists()
    assert [r.seed for r in busy.rows()] == [0, 1]


def test_a_damaged_journal_is_refused_in_one_line(busy: ResultStore) -> None:
    busy.put(row(0))
    (busy.folder / NAME).write_text("{\n{\n", encoding="ascii")
    with pytest.raises(StoreError, match=r"is damaged .* delete it"):
        busy.rows()


def test_a_full_disk_leaves_no_part_of_a_row(
    busy: ResultStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    journal = Journal(busy.folder)
    journal.append(row(0))
    before = journal.file.read_bytes()
    monkeypatch.setattr(os, "fsync", full)
    broken = Journal(busy.folder)
    with pytest.raises(StoreError, match=r"\(No space left on device\); what was there is kept"):
        broken.append(row(1))
    assert journal.file.read_bytes() == before
    assert broken.rows() == [row(0)]


def test_a_row_with_columns_of_another_version_keeps_them(busy: ResultStore) -> None:
    with busy.lock():
        busy.put(row(0))
        busy.put(row(1, extra={"added_later": "5"}))
    assert busy.rows()[1].extra == {"added_later": "5"}
