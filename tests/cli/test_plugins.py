from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    Bench = Callable[..., subprocess.CompletedProcess[str]]


def test_list_shows_built_in_plugins_and_those_of_the_project(project: Path, bench: Bench) -> None:
    listed = json.loads(bench("list", "--json").stdout)
    assert {"padim", "pyramidflow", "mean"} <= set(listed["methods"])
    assert {"mvtec", "btad", "mtd", "visa", "folder", "synthetic", "tiny"} <= set(
        listed["datasets"]
    )
    assert all(listed["methods"].values())
    assert all(listed["datasets"].values())


def test_list_works_from_a_subfolder_of_the_project(project: Path, bench: Bench) -> None:
    deep = project / "a" / "b"
    deep.mkdir(parents=True)
    assert "mean" in json.loads(bench("list", "--json", cwd=deep).stdout)["methods"]


def test_a_broken_plugin_is_named_and_the_others_are_listed(project: Path, bench: Bench) -> None:
    (project / "methods" / "broken.py").write_text("def broken(:\n", encoding="utf-8")
    done = bench("list")
    assert done.returncode == 0
    assert "broken.py cannot be read" in done.stdout
    assert "padim" in done.stdout


def test_init_makes_a_project_whose_method_is_found(tmp_path: Path, bench: Bench) -> None:
    folder = tmp_path / "mine"
    assert bench("init", str(folder)).returncode == 0
    assert "mean_image" in json.loads(bench("list", "--json", cwd=folder).stdout)["methods"]
    again = bench("init", str(folder))
    assert again.returncode == 2
    assert "exists already" in again.stderr


def test_a_method_is_checked_on_a_small_synthetic_category(project: Path, bench: Bench) -> None:
    done = bench("test-plugin", "mean")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "fine" in done.stdout
    broken = project / "methods" / "mean.py"
    broken.write_text(broken.read_text().replace("images - self.mean", "images - images.mean(0)"))
    done = bench("test-plugin", "mean")
    assert done.returncode == 1
    assert "must not depend on the other images" in done.stdout


def test_maps_of_a_wrong_shape_are_named_and_nothing_else_is_checked(
    project: Path, bench: Bench
) -> None:
    file = project / "methods" / "mean.py"
    file.write_text(file.read_text().replace("abs().mean(1)", "abs().mean(1)[:1]"))
    done = bench("test-plugin", "mean")
    assert done.returncode == 1
    assert done.stdout.count("FAILED") == 1
    assert "maps must be (8, H, W)" in done.stdout
    ran = bench("run", "-m", "mean", "-d", "tiny", "-c", "left", "--device", "cpu")
    assert "Mean: maps of shape (1, 32, 32), expected (8, H, W)" in ran.stdout


def test_init_does_not_write_into_a_file(tmp_path: Path, bench: Bench) -> None:
    (tmp_path / "file").write_text("mine")
    done = bench("init", "file", cwd=tmp_path)
    assert done.returncode == 2
    assert "file cannot be made a project" in done.stderr
