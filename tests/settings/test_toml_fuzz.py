"""Damaged settings and tables: each is read or refused with a ConfigError, never with another."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.errors import ConfigError
from bench.report.paper.table_files import read_table
from bench.settings.config import load_settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.report.paper.published import PublishedNumbers
    from bench.settings.config import Settings

ROOT = Path(__file__).parents[2]
TABLE = ROOT / "results" / "tables" / "pyramidflow" / "table4.toml"
NUMBERS = ("3", "-1", "0.5", "nan", "inf", "1e400", "9999999999999999999", "1979-05-27")
OTHERS = ("true", '""', '"x"', '"\\u0000"', "[]", "[1]", "[[1]]", '["a"]', "{}", "{a = 1}")
VALUES = st.sampled_from((*NUMBERS, *OTHERS))
QUIET = settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def shipped() -> Settings:
    return load_settings(ROOT)


@st.composite
def damaged(draw: st.DrawFn, text: str) -> str:
    """The text with a few lines gone, doubled, misspelt or of another value."""
    lines = text.splitlines()
    for _ in range(draw(st.integers(1, 4))):
        index = draw(st.integers(0, len(lines) - 1))
        kind = draw(st.sampled_from(["drop", "double", "value", "key", "cut", "insert"]))
        line = lines[index]
        if kind == "drop":
            lines[index] = ""
        elif kind == "double":
            lines.insert(index, line)
        elif kind == "value" and "=" in line:
            lines[index] = f"{line.partition('=')[0]}= {draw(VALUES)}"
        elif kind == "key":
            lines[index] = draw(st.text(max_size=3)) + line
        elif kind == "cut":
            lines[index] = line[: draw(st.integers(0, len(line)))]
        else:
            key = draw(st.sampled_from(["run", "seeds", "size", "paths", "protocol", "where"]))
            lines.insert(index, f"{key} = {draw(VALUES)}")
    return "\n".join(lines)


def accepted(read: Callable[[], object]) -> bool:
    try:
        read()
    except ConfigError:
        return False
    return True


@QUIET
@given(text=damaged((ROOT / "bench.toml").read_text(encoding="utf-8")))
def test_damaged_settings_are_read_or_refused_as_such(tmp_path: Path, text: str) -> None:
    (tmp_path / "bench.toml").write_text(text, encoding="utf-8", errors="surrogatepass")
    accepted(lambda: load_settings(tmp_path))


@QUIET
@given(text=damaged(TABLE.read_text(encoding="utf-8")))
def test_a_damaged_table_is_read_or_refused_as_such(
    tmp_path: Path, shipped: Settings, published: PublishedNumbers, text: str
) -> None:
    file = tmp_path / "table.toml"
    file.write_text(text, encoding="utf-8", errors="surrogatepass")
    accepted(lambda: read_table(file, shipped, published))


@pytest.mark.parametrize("file", [ROOT / "bench.toml", TABLE])
def test_the_undamaged_files_are_read(
    file: Path, shipped: Settings, published: PublishedNumbers
) -> None:
    if file == TABLE:
        assert accepted(lambda: read_table(file, shipped, published))
    else:
        assert accepted(lambda: load_settings(ROOT))
