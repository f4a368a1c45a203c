"""Text that people write is read with its byte order mark, wherever it is read."""

from __future__ import annotations

import codecs
import re
from pathlib import Path
from typing import TYPE_CHECKING

from bench.disk import read_text, tidy
from bench.plan.discovery import describe
from bench.plugins.datasets.visa import VisA
from bench.rows.csv_file import write_csv
from bench.settings.config import load_settings
from tests.row_maker import make_row, read_csv

if TYPE_CHECKING:
    import pytest

ROOT = Path(__file__).parents[1]


def mark(file: Path) -> None:
    file.write_bytes(codecs.BOM_UTF8 + file.read_bytes())


def test_a_mark_is_no_part_of_the_text(tmp_path: Path) -> None:
    file = tmp_path / "x.txt"
    file.write_text("ä\n", encoding="utf-8")
    mark(file)
    assert read_text(file) == "ä\n"


def test_settings_with_a_mark_are_read(tmp_path: Path) -> None:
    (tmp_path / "bench.toml").write_text("[run]\nbatch = 3\n", encoding="utf-8")
    mark(tmp_path / "bench.toml")
    assert load_settings(tmp_path).run.batch == 3


def test_rows_with_a_mark_are_read(tmp_path: Path) -> None:
    write_csv(tmp_path / "padim.csv", [make_row()])
    mark(tmp_path / "padim.csv")
    assert read_csv(tmp_path / "padim.csv") == [make_row()]


def test_the_split_of_visa_is_read_with_a_mark(tmp_path: Path) -> None:
    images = tmp_path / "candle/Data/Images/Normal"
    images.mkdir(parents=True)
    (tmp_path / "split_csv").mkdir()
    lines = ["object,split,label,image,mask"]
    for name, split in (("0", "train"), ("1", "test")):
        (images / f"{name}.JPG").touch()
        lines.append(f"candle,{split},normal,candle/Data/Images/Normal/{name}.JPG,")
    file = tmp_path / "split_csv/1cls.csv"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    plain = VisA(tmp_path).samples("candle", "train")
    mark(file)
    assert VisA(tmp_path).samples("candle", "train") == plain != []


def test_a_plugin_with_a_mark_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bench.toml").touch()
    (tmp_path / "datasets").mkdir()
    file = tmp_path / "datasets/marked.py"
    file.write_bytes((ROOT / "datasets/mvtec.py").read_bytes())
    mark(file)
    monkeypatch.setenv("BENCH_PROJECT", str(tmp_path))
    assert describe("datasets", "marked").summary == describe("datasets", "mvtec").summary


def test_people_s_files_are_read_by_one_function() -> None:
    own = "json.loads|version.read_text|_STATUS|MARK|_NAMES|info.read_text|result.read_text"
    own += '|errors="replace"'
    found = [
        f"{file.relative_to(ROOT)}: {line.strip()}"
        for folder in ("bench", "datasets", "methods")
        for file in (ROOT / folder).rglob("*.py")
        for line in file.read_text(encoding="utf-8").splitlines()
        if ".read_text(" in line and not re.search(own, line) and file.name != "disk.py"
    ]
    assert found == []


def test_a_path_in_a_message_has_no_dots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "a" / "b")
    monkeypatch.chdir(tmp_path / "a")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert tidy(Path("../a/b")) == tmp_path / "a" / "b"
    assert tidy(Path("b")) == tmp_path / "a" / "b"
    assert tidy(Path("~/a")) == tmp_path / "a"
    assert tidy(tmp_path / "link") == tmp_path / "link", "no link is followed without need"
    assert tidy(tmp_path / "link" / "..") == tmp_path / "a", "as the file system goes"
