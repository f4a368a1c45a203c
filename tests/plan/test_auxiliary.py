"""Folders of auxiliary pictures: found, digested into the cell, and refused in one line."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from bench.errors import ConfigError, DataError
from bench.files.picture_folder import list_pictures, pictures_digest
from bench.plan.auxiliary import Auxiliary, picture_fields
from bench.plan.cells import Cell, resolve_params
from bench.plan.discovery import Field, Plugin
from bench.settings.config import Paths, Settings, load_settings
from bench.settings.protocol import PROTOCOLS

if TYPE_CHECKING:
    from typing import Any

METHOD = Plugin(
    kind="methods",
    name="draws",
    path=Path("draws.py"),
    module="draws",
    class_name="Draws",
    summary="",
    version=1,
    fields={
        "textures": Field("textures", "ImageFolder", ""),
        "more": Field("more", "api.ImageFolder", ""),
        "title": Field("title", "str", ""),
    },
    constants={},
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """`auxiliary/dtd` with twelve pictures in two folders, and some files that are none."""
    rng = np.random.default_rng(0)
    for index in range(12):
        file = tmp_path / "auxiliary" / "dtd" / ("dots" if index % 2 else "lines") / f"{index}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (6, 8, 3), dtype=np.uint8)).save(file)
    (tmp_path / "auxiliary" / "dtd" / "readme.txt").write_text("not a picture")
    (tmp_path / "auxiliary" / "dtd" / ".hidden.png").write_text("not a picture")
    return tmp_path / "auxiliary"


def settings_of(root: Path) -> Settings:
    return Settings(root.parent, paths=Paths(auxiliary=root, cache=root.parent / ".cache"))


def named(root: Path, value: str) -> Any:
    params = resolve_params(METHOD, settings_of(root), {"textures": value})
    return Auxiliary(settings_of(root)).named(METHOD, params)["textures"]


def cell(textures: str) -> Cell:
    return Cell(
        method="draws",
        method_version=1,
        params={"textures": textures, "title": "a@b"},
        dataset="synthetic",
        dataset_version=1,
        dataset_params={},
        category="bolt",
        seed=0,
        protocol=PROTOCOLS["standard"],
        pretrained="none",
        data="",
    )


def test_fields_are_known_by_their_annotation() -> None:
    assert picture_fields(METHOD) == ["textures", "more"]


def test_pictures_are_those_of_all_folders_inside_sorted(root: Path) -> None:
    found = list_pictures(root / "dtd", "draws.textures")
    assert len(found) == 12
    assert found == sorted(found)


def test_the_digest_stands_for_the_files_wherever_they_lie(root: Path, tmp_path: Path) -> None:
    before = named(root, "dtd")
    assert before.startswith("dtd@")
    assert len(before) == len("dtd@") + 12
    copy = tmp_path / "elsewhere" / "textures"
    shutil.copytree(root / "dtd", copy)
    moved = named(root, str(copy))
    assert moved == before.replace("dtd@", "textures@")
    assert cell(moved).id == cell(before).id
    assert cell("").id != cell(before).id


@pytest.mark.parametrize("change", ["add", "rename", "edit"])
def test_another_file_name_or_content_is_another_cell(root: Path, change: str) -> None:
    before = named(root, "dtd")
    file = root / "dtd" / "dots" / "1.png"
    if change == "add":
        shutil.copy(file, file.with_name("13.png"))
    elif change == "rename":
        file.rename(file.with_name("one.png"))
    else:
        Image.new("RGB", (6, 8)).save(file)
    assert cell(named(root, "dtd")).id != cell(before).id


def test_a_field_that_names_nothing_reads_nothing(root: Path) -> None:
    assert named(root, "") == ""
    assert Auxiliary(settings_of(root)).folders(METHOD, {"textures": "", "more": ""}) == {}


def test_what_is_missing_is_told_with_folder_and_number(root: Path) -> None:
    with pytest.raises(DataError, match=r"draws.textures: .*/none is not a folder of pictures"):
        named(root, "none")
    (root / "few").mkdir()
    with pytest.raises(DataError, match=r"draws.textures: .*/few holds 0 pictures; at least 10"):
        named(root, "few")
    shutil.rmtree(root / "dtd" / "dots")
    with pytest.raises(DataError, match=r"dtd holds 6 pictures; at least 10 are needed"):
        named(root, "dtd")


def test_a_folder_that_cannot_be_read_is_told(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(DataError, match="dtd cannot be read: Permission denied"):
        list_pictures(root / "dtd", "draws.textures")


def test_a_folder_is_digested_once_for_a_request(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def counted(*arguments: Any) -> str:
        calls.append(arguments)
        return pictures_digest(*arguments)

    monkeypatch.setattr("bench.plan.auxiliary.pictures_digest", counted)
    auxiliary = Auxiliary(settings_of(root))
    for _ in range(3):
        auxiliary.named(METHOD, {"textures": "dtd", "more": "dtd", "title": ""})
    assert len(calls) == 1


def test_a_value_that_is_no_text_is_refused(root: Path) -> None:
    with pytest.raises(ConfigError, match=r"textures = \[3\] is not the name of a folder"):
        resolve_params(METHOD, settings_of(root), {"textures": [3]})


def test_the_root_comes_from_the_environment_and_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bench.toml").write_text('[paths]\nauxiliary = "pictures"\n')
    assert load_settings(tmp_path).paths.auxiliary == tmp_path / "pictures"
    monkeypatch.setenv("BENCH_AUXILIARY", str(tmp_path / "others"))
    found = load_settings(tmp_path)
    assert found.paths.auxiliary == tmp_path / "others"
    assert replace(found.paths).auxiliary.is_absolute()
