from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bench.errors import ConfigError
from bench.settings.config import find_project, load_settings, parse_value
from bench.settings.tables import fits

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("BENCH_PROJECT", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(project: Path, text: str) -> None:
    (project / "bench.toml").write_text(text, encoding="utf-8")


def test_the_file_of_the_project_overrides_the_shipped_defaults(project: Path) -> None:
    write(project, "[run]\nprotocol = 'native'\nseeds = [3, 4]\n")
    settings = load_settings()
    assert settings.run.protocol == "native"
    assert settings.run.seeds == (3, 4)
    assert settings.run.speed == "speed-1"


def test_relative_folders_count_from_the_file(project: Path) -> None:
    write(project, "[paths]\nresults = 'out'\n")
    (project / "deep").mkdir()
    assert load_settings(project).paths.results == project / "out"


def test_the_environment_overrides_the_file(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(project, "[paths]\nresults = 'out'\n[run]\ndevice = 'cpu'\n")
    monkeypatch.setenv("BENCH_RESULTS", "elsewhere")
    monkeypatch.setenv("BENCH_DEVICE", "cuda")
    settings = load_settings()
    assert settings.paths.results == project / "elsewhere"
    assert settings.run.device == "cuda"


def test_a_preset_overrides_run_methods_and_datasets(project: Path) -> None:
    write(
        project,
        "[methods.padim]\ndimensions = 50\n"
        "[presets.small.run]\nprotocol = 'native'\n"
        "[presets.small.methods.padim]\ndimensions = 10\n",
    )
    assert load_settings().methods["padim"]["dimensions"] == 50
    settings = load_settings(preset="small")
    assert settings.methods["padim"]["dimensions"] == 10
    assert settings.run.protocol == "native"


def test_the_project_is_the_nearest_folder_upwards_with_a_file(project: Path) -> None:
    write(project, "")
    deep = project / "a" / "b"
    deep.mkdir(parents=True)
    assert find_project(deep) == project


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[run]\nsedes = [1]\n", "did you mean 'seeds'"),
        ("[runs]\n", "did you mean 'run'"),
        ("[run]\nseeds = 3\n", r"\[run\].seeds = 3 is not"),
        ("[run]\nworkers = true\n", "is not a whole number"),
        ("[protocols.mine]\nresise = 3\n", "did you mean 'resize'"),
        ("[protocols.mine]\nepoch = 'best'\n", "known: last, oracle"),
        (
            "[protocols.mine]\nresize = 0\n",
            "resize = 0 is not a whole number from 1 or a list of 2 whole numbers from 1",
        ),
        ("[run\n", "not valid TOML"),
        ("run = 3\n", "must be a table"),
    ],
)
def test_a_wrong_key_or_value_is_an_error_that_names_it(
    project: Path, text: str, message: str
) -> None:
    write(project, text)
    with pytest.raises(ConfigError, match=message):
        load_settings()


def test_an_unknown_preset_names_the_nearest_one(project: Path) -> None:
    write(project, "")
    with pytest.raises(ConfigError, match="did you mean 'quick'"):
        load_settings(preset="quik")


@pytest.mark.parametrize(
    ("text", "value"),
    [("3", 3), ("0.5", 0.5), ("true", True), ("[1, 2]", [1, 2]), ("svn", "svn"), ("'a b'", "a b")],
)
def test_a_value_of_the_command_line_is_read_as_toml_or_text(text: str, value: object) -> None:
    assert parse_value(text) == value


@pytest.mark.parametrize(
    ("value", "annotation", "expected"),
    [
        (1, "float", True),
        (True, "int", False),
        ("a", 'Literal["a", "b"]', True),
        ("c", 'Literal["a", "b"]', False),
        ("a", 'Literal["ab", ">=1"]', False),
        (None, "int | None", True),
        (float("nan"), "float", False),
        ([1], "tuple[int, ...]", True),
        ("3", "int", False),
        (["a"], "tuple[int, ...]", False),
        ([1, 2], "int | tuple[int, int]", True),
        ([1, 2, 3], "int | tuple[int, int]", False),
        (0, "Positive", False),
        (-0.5, "Amount | None", False),
    ],
)
def test_values_are_checked_against_annotations(
    value: object, annotation: str, expected: bool
) -> None:
    assert fits(value, annotation) is expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[methods]\npadim = 3", r"\[methods.padim\] must be a table"),
        ("[presets]\nx = 3", r"\[presets.x\] must be a table"),
        ("[paths]\nresults = 3", r"\[paths\].results = 3 is not the name of a folder"),
    ],
)
def test_a_value_where_a_table_or_folder_belongs_is_refused(
    project: Path, text: str, message: str
) -> None:
    write(project, text)
    with pytest.raises(ConfigError, match=message):
        load_settings(project)
