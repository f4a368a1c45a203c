"""What an identity leaves out, and what guards the defaults that it leaves out."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import pytest

import bench.plan.defaults
from bench.errors import ConfigError
from bench.plan import discovery
from bench.plan.cells import Category, Cell, plan, split_overrides
from bench.plan.defaults import (
    PROTOCOL,
    known_defaults,
    present,
    problems,
    protocol_defaults,
    read_record,
    write_record,
)
from bench.plan.identity import NAMES, differing, settings_key
from bench.run.driver import refuse_changed_defaults
from bench.settings.config import Settings
from bench.settings.protocol import Protocol
from tests.row_maker import make_row

if TYPE_CHECKING:
    from pathlib import Path

METHOD = '''"""A method."""
from bench.api import Method


class Still(Method):
    version = 1
    width: int = 3
    rate: float = 4
    sides: tuple[int, ...] = (1, 2)
'''
DATASET = '''"""A data set."""
from bench.api import Dataset


class Squares(Dataset):
    version = 1
    size: int = 64
'''


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for path, text in (("methods/still.py", METHOD), ("datasets/squares.py", DATASET)):
        (tmp_path / path).parent.mkdir()
        (tmp_path / path).write_text(text)
    monkeypatch.setenv("BENCH_PROJECT", str(tmp_path))
    return tmp_path


STANDARD = Protocol("standard")


def plan_one(protocol: Protocol = STANDARD, **overrides: Any) -> Cell:
    """The cell that a run of the project's method on its data set plans, read from its files."""
    method, dataset = (
        discovery.describe("methods", "still"),
        discovery.describe("datasets", "squares"),
    )
    category = Category(dataset, dataset.defaults(), "all", "feed")
    (cell,) = plan(
        [method],
        [category],
        [0],
        [protocol],
        "random",
        Settings(project=method.path.parent),
        split_overrides(overrides, [method, dataset]),
    )
    return cell


def test_a_field_that_is_added_to_a_method_or_data_set_renames_no_cell(project: Path) -> None:
    plain, set_ = plan_one(), plan_one(width=5)
    for path in ("methods/still.py", "datasets/squares.py"):
        with (project / path).open("a") as stream:
            stream.write("    precision: str = 'float32'\n")
    assert "precision" in plan_one().params
    assert "precision" in plan_one().dataset_params
    assert (plan_one().id, plan_one(width=5).id) == (plain.id, set_.id)
    assert plan_one(precision="bfloat16").id != plain.id


def test_a_field_that_is_added_to_the_protocol_renames_no_cell(project: Path) -> None:
    @dataclass(frozen=True)
    class Wider(Protocol):
        tiles: int = 1

    settings: list[dict[str, Any]] = [{}, {"crop": 224}]
    for changes in settings:
        before = plan_one(Protocol("standard", **changes))
        assert plan_one(Wider("standard", **changes)).id == before.id
        assert plan_one(Wider("standard", **changes, tiles=4)).id != before.id


def test_a_setting_that_is_added_to_cells_renames_no_cell(project: Path) -> None:
    @dataclass(frozen=True)
    class Wider(Cell):
        compiled: str = "never"

    before = plan_one()
    values = {field.name: getattr(before, field.name) for field in fields(before)}
    assert Wider(**values).id == before.id
    assert Wider(**values, compiled="always").id != before.id
    again = Wider.from_json(Wider(**values, compiled="always").to_json())
    assert again == Wider(**values, compiled="always")


def test_every_field_of_a_cell_counts_by_itself_or_by_what_differs() -> None:
    apart = {"params", "defaults", "dataset_params", "protocol", "precision"}
    assert {field.name for field in fields(Cell)} == {*NAMES, *apart}


def test_a_default_that_is_given_is_no_other_cell(project: Path) -> None:
    assert plan_one(width=3, rate=4.0, sides=[1, 2]).id == plan_one().id
    assert plan_one(rate=4).id == plan_one().id
    for other in ({"width": 4}, {"rate": 4.5}, {"sides": [2, 1]}):
        assert plan_one(**other).id != plan_one().id


def test_a_new_version_is_another_cell(project: Path) -> None:
    before = plan_one().id
    file = project / "methods/still.py"
    file.write_text(METHOD.replace("version = 1", "version = 2"))
    assert plan_one().id != before


def test_a_worker_knows_the_cell_by_the_same_id(project: Path) -> None:
    cell = plan_one(width=5)
    assert Cell.from_json(cell.to_json()).id == cell.id


@pytest.mark.parametrize(
    ("value", "default", "is_same"),
    [
        (4, 4.0, True),
        ((1, 2), [1, 2], True),
        (None, None, True),
        (True, 1, False),
        (0, False, False),
        ("1", 1, False),
        (None, "none", False),
    ],
)
def test_what_counts_as_the_default(value: Any, default: Any, is_same: bool) -> None:
    assert (differing({"x": value}, {"x": default}) == {}) is is_same


def test_settings_are_the_same_where_one_states_a_default_and_the_other_nothing() -> None:
    defaults = {"a": 1, "b": 2.0}
    assert settings_key({"a": 1, "b": 2}, defaults) == settings_key({}, defaults)
    assert settings_key({"a": 3}, defaults) != settings_key({}, defaults)
    assert settings_key({"c": 1}, defaults) != settings_key({}, defaults)


def test_a_row_is_not_taken_for_that_of_a_cell_with_another_default(project: Path) -> None:
    before = plan_one()
    rows = {before.id: make_row(cell=before.id, params=dict(before.params))}
    refuse_changed_defaults([before], rows)
    (project / "methods/still.py").write_text(METHOD.replace("width: int = 3", "width: int = 5"))
    assert plan_one().id == before.id
    with pytest.raises(
        ConfigError, match=r"made with width = 3, and now the default is 5; .*version"
    ):
        refuse_changed_defaults([plan_one()], rows)


# The record of defaults


def test_no_default_changed_without_a_new_version() -> None:
    changed, _ = problems(read_record(), present())
    assert not changed, "\n".join(changed)


def test_every_version_and_default_is_on_record() -> None:
    _, absent = problems(read_record(), present())
    assert not absent, "\n".join(
        [*absent, "run `make defaults` and commit bench/plan/defaults.txt"]
    )


def test_a_changed_default_is_named_with_what_to_do() -> None:
    record, now = {("methods/a", 1): {"x": 1, "y": 2}}, {("methods/a", 1): {"x": 5, "y": 2}}
    changed, absent = problems(record, now)
    assert not absent
    (text,) = changed
    assert text.startswith("methods/a: the default of x is 5, but was 1 in version 1;")
    assert "give it `version = 2`, then run `make defaults`" in text
    assert problems(record, {("methods/a", 2): {"x": 5}})[0] == []
    protocol = {(PROTOCOL, 1): {**Protocol.defaults(), "crop": 224}}
    assert problems(protocol, present())[0]


def test_what_was_added_is_merely_not_on_record_yet() -> None:
    now = {("methods/a", 1): {"x": 1, "z": 0}, ("methods/b", 1): {}, ("methods/c", 2): {}}
    record = {("methods/a", 1): {"x": 1, "gone": 2}, ("methods/c", 1): {}}
    changed, absent = problems(record, now)
    assert not changed
    assert absent == [
        "the default of methods/a z is not on record",
        "methods/b version 1 is not on record",
        "methods/c version 2 is not on record",
    ]


def test_refreshing_the_record_adds_and_keeps_what_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "defaults.txt"
    file.write_text('methods/z 1 {"gone":1,"x":2}\nmethods/old 1 {}\n')
    now: dict[tuple[str, int], dict[str, Any]] = {("methods/z", 1): {"x": 2, "new": [1]}}
    monkeypatch.setattr(bench.plan.defaults, "present", lambda: now)
    write_record(file)
    assert file.read_text() == 'methods/old 1 {}\nmethods/z 1 {"gone":1,"new":[1],"x":2}\n'
    now["methods/z", 1]["x"] = 3
    before = file.read_bytes()
    with pytest.raises(ConfigError, match="methods/z: the default of x is 3, but was 2"):
        write_record(file)
    assert file.read_bytes() == before


def test_lines_of_two_branches_go_together(tmp_path: Path) -> None:
    file = tmp_path / "defaults.txt"
    file.write_text('methods/b 1 {"x":1}\nmethods/a 1 {}\nmethods/b 1 {"x":1,"y":2}\n')
    assert read_record(file) == {("methods/a", 1): {}, ("methods/b", 1): {"x": 1, "y": 2}}
    with file.open("a") as stream:
        stream.write('methods/b 1 {"y":3}\n')
    with pytest.raises(ConfigError, match=r"defaults.txt:4: methods/b stands there with another y"):
        read_record(file)


@pytest.mark.parametrize(
    "line", ["methods/a", "methods/a one {}", "methods/a 1 {x}", "<<<<<<< HEAD"]
)
def test_a_line_that_cannot_be_read_is_named(tmp_path: Path, line: str) -> None:
    file = tmp_path / "defaults.txt"
    file.write_text(f"{line}\n")
    with pytest.raises(ConfigError, match=r"defaults.txt:1: not `NAME VERSION \{defaults\}`"):
        read_record(file)


def test_defaults_of_a_version_that_is_gone_are_known_from_the_record(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = {("methods/still", 0): {"width": 2}, ("methods/still", 1): {"gone": 1}}
    monkeypatch.setattr(bench.plan.defaults, "read_record", lambda: record)
    assert known_defaults("methods", "still", 0) == {"width": 2}
    assert known_defaults("methods", "still", 1) == {
        "gone": 1,
        "width": 3,
        "rate": 4,
        "sides": [1, 2],
    }
    assert known_defaults("methods", "still", 2) is None
    assert known_defaults("methods", "elsewhere", 1) is None


def test_defaults_of_the_protocol_are_known_by_version(monkeypatch: pytest.MonkeyPatch) -> None:
    assert protocol_defaults() == Protocol.defaults()
    assert read_record()[PROTOCOL, 1] == protocol_defaults(1)
    monkeypatch.setattr(Protocol, "version", 2)
    assert protocol_defaults(1) == read_record()[PROTOCOL, 1]
    with pytest.raises(ConfigError, match="version 0 of the protocol is not on record"):
        protocol_defaults(0)
    assert replace(Protocol("x"), crop=8).version == 2
