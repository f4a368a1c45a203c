"""Plugins of installed packages: the class named, bases in other files, and what is broken."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

import bench.plugins.methods
from bench.errors import PluginError
from bench.plan import discovery
from bench.rows import provenance

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Install = Callable[..., None]

TWO = '''"""Two methods of one package."""
from dataclasses import dataclass

import torch.nn as nn

from bench.api import Method
from .shared import Neighbours as _Near
from . import shared


@dataclass
class KNN(_Near):
    """Nearest neighbours."""
    count: int = 9


class PCA(shared.Linear, nn.Module):
    """Principal components."""
    version = 4


class Settings:
    pass
'''
SHARED = """from bench.api import Method


class Common(Method):
    batch: int = 4


class Neighbours(Common):
    count: int = 1
    metric: str = "l2"


class Linear(Common):
    rank: int = 8
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """`install(points, **files)`: a package `theirs` with entry points, not imported."""

    def write(points: str, **files: str) -> None:
        package = tmp_path / "site" / "theirs"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text("raise RuntimeError('must not be imported')\n")
        for name, text in files.items():
            (package / f"{name}.py").write_text(text)
        info = package.parent / "their_tools-1.5.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-tools\nVersion: 1.5\n")
        (info / "entry_points.txt").write_text(f"[bench.methods]\n{points}\n")
        monkeypatch.syspath_prepend(str(package.parent))

    (tmp_path / "methods").mkdir()
    monkeypatch.setenv("BENCH_PROJECT", str(tmp_path))
    return write


def test_the_class_that_an_entry_point_names_is_the_one(install: Install) -> None:
    install("knn = theirs.two:KNN\npca = theirs.two:PCA", two=TWO, shared=SHARED)
    knn, pca = (discovery.describe("methods", name) for name in ("knn", "pca"))
    assert (knn.class_name, pca.class_name) == ("KNN", "PCA")
    assert (knn.version, pca.version) == (1, 4)
    assert (knn.summary, pca.summary) == ("Nearest neighbours.", "Principal components.")


def test_fields_come_from_bases_in_other_modules_of_the_package(install: Install) -> None:
    install("knn = theirs.two:KNN\npca = theirs.two:PCA", two=TWO, shared=SHARED)
    assert discovery.describe("methods", "knn").defaults() == {
        "batch": 4,
        "count": 9,
        "metric": "l2",
    }
    assert discovery.describe("methods", "pca").defaults() == {"batch": 4, "rank": 8}


def test_the_code_of_a_plugin_is_that_of_its_bases_too(install: Install, tmp_path: Path) -> None:
    install("knn = theirs.two:KNN", two=TWO, shared=SHARED)
    before = discovery.describe("methods", "knn").code()
    (tmp_path / "site" / "theirs" / "shared.py").write_text(SHARED + "# more\n")
    assert discovery.describe("methods", "knn").code() != before


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ("knn = theirs.two:KMM", "names KMM, which .*two.py does not have; known: KNN, PCA"),
        ("knn = theirs.two:Settings", "which is no subclass of Method"),
        ("knn = theirs.two", "must define one public subclass of Method, but defines KNN, PCA"),
        ("knn = theirs.three:KNN", "the module 'theirs.three', which is not installed"),
        ("knn = ???", "'\\?\\?\\?' is not module:Class"),
    ],
)
def test_a_broken_entry_point_breaks_only_its_own_use(
    install: Install, points: str, message: str
) -> None:
    install(f"{points}\npca = theirs.two:PCA", two=TWO, shared=SHARED)
    plugins, errors = discovery.describe_all("methods")
    assert {"padim", "pca"} <= {plugin.name for plugin in plugins}
    assert len(errors) == 1
    with pytest.raises(PluginError, match=message):
        discovery.describe("methods", "knn")


def test_an_entry_point_of_a_taken_name_breaks_only_that_name(install: Install) -> None:
    install("padim = theirs.two:KNN\npca = theirs.two:PCA", two=TWO, shared=SHARED)
    assert discovery.describe("methods", "pca").class_name == "PCA"
    with pytest.raises(PluginError, match="two different methods are called 'padim'"):
        discovery.describe("methods", "padim")


@pytest.mark.parametrize(
    "text", ["from bench.plugins.methods.padim import PaDiM", "from .padim import PaDiM"]
)
def test_padim_itself_may_be_inherited_from(
    install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    install("")
    # As in a process that starts in this project.
    found_in = discovery.plugin_path("methods", [])
    monkeypatch.setattr(bench.plugins.methods, "__path__", found_in)
    monkeypatch.delitem(sys.modules, "bench.plugins.methods.wider", raising=False)
    source = f'"""PaDiM, wider."""\n{text}\n\n\nclass Wider(PaDiM):\n    sigma: float = 6.0\n'
    (tmp_path / "methods" / "wider.py").write_text(source)
    found = discovery.describe("methods", "wider")
    padim = discovery.describe("methods", "padim").defaults()
    assert found.defaults() == {**padim, "sigma": 6.0}
    assert discovery.load(found).__mro__[1].__name__ == "PaDiM"


def test_the_environment_of_a_row_has_the_package_of_its_plugin(install: Install) -> None:
    install("knn = theirs.two:KNN", two=TWO, shared=SHARED)
    packages = [discovery.describe("methods", name).package for name in ("knn", "padim")]
    assert packages == [("their-tools", "1.5"), None]
    assert provenance.environment(packages) == {
        **provenance.environment(),
        "their-tools": "1.5",
    }
