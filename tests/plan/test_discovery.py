from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from bench.errors import PluginError
from bench.plan import discovery
from bench.settings.shipped import builtin_root

if TYPE_CHECKING:
    from pathlib import Path

GOOD = '''"""A method for tests."""
from dataclasses import dataclass, field
from typing import ClassVar
from bench.api import Method

@dataclass
class _Shared(Method):
    width: int = 3

@dataclass
class Mine(_Shared):
    version: ClassVar[int] = 7
    levels: int = 4
    rate: float = 1e-3
    names: tuple[str, ...] = ("a", "b")
    state: object = field(init=False, default=None)

    def fit(self, train, run):
        yield {}

    def predict(self, images):
        return images
'''


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BENCH_PROJECT", str(tmp_path))
    (tmp_path / "methods").mkdir()
    (tmp_path / "datasets").mkdir()
    return tmp_path


def test_a_file_dropped_into_the_project_is_there_with_its_fields(project: Path) -> None:
    (project / "methods" / "mine.py").write_text(GOOD, encoding="utf-8")
    plugin = discovery.describe("methods", "mine")
    assert plugin.summary == "A method for tests."
    assert plugin.version == 7
    assert plugin.defaults() == {"width": 3, "levels": 4, "rate": 1e-3, "names": ("a", "b")}


def test_the_hash_of_the_code_changes_with_the_code(project: Path) -> None:
    file = project / "methods" / "mine.py"
    file.write_text(GOOD, encoding="utf-8")
    before = discovery.describe("methods", "mine").code()
    file.write_text(GOOD + "# more\n", encoding="utf-8")
    assert discovery.describe("methods", "mine").code() != before


def test_an_unknown_name_is_an_error_that_names_the_nearest(project: Path) -> None:
    with pytest.raises(PluginError, match="did you mean 'padim'"):
        discovery.describe("methods", "padin")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("x = 1\n", "must define one public subclass of Method"),
        (GOOD + "\nclass Other(Method):\n    pass\n", "defines Mine, Other"),
        (GOOD.replace("= 4", "= 2 + len('ab')"), "default of 'levels' must be a literal"),
        ("def broken(:\n", "cannot be read"),
    ],
)
def test_a_bad_file_is_an_error_that_names_it(project: Path, source: str, message: str) -> None:
    (project / "methods" / "bad.py").write_text(source, encoding="utf-8")
    with pytest.raises(PluginError, match=message) as caught:
        discovery.describe("methods", "bad")
    assert "bad.py" in str(caught.value)


def test_a_bad_file_breaks_only_itself(project: Path) -> None:
    (project / "methods" / "bad.py").write_text("def broken(:\n", encoding="utf-8")
    plugins, errors = discovery.describe_all("methods")
    assert "padim" in [plugin.name for plugin in plugins]
    assert len(errors) == 1


def test_an_init_file_in_a_plugin_folder_is_refused(project: Path) -> None:
    (project / "methods" / "__init__.py").write_text("", encoding="utf-8")
    with pytest.raises(PluginError, match="must not exist"):
        discovery.sources("methods")


def test_two_different_plugins_of_one_name_are_refused(project: Path) -> None:
    (project / "methods" / "padim.py").write_text(GOOD, encoding="utf-8")
    with pytest.raises(PluginError, match="two different methods are called 'padim'"):
        discovery.sources("methods")


def test_a_copy_of_a_built_in_plugin_counts_as_one(project: Path) -> None:
    builtin = builtin_root() / "methods" / "padim.py"
    (project / "methods" / "padim.py").write_bytes(builtin.read_bytes())
    assert "padim" in discovery.sources("methods")


def test_names_that_begin_with_an_underscore_or_a_dot_are_ignored(project: Path) -> None:
    (project / "methods" / "_draft.py").write_text(GOOD, encoding="utf-8")
    (project / "methods" / ".hidden.py").write_text(GOOD, encoding="utf-8")
    assert not {"_draft", "draft", ".hidden"} & set(discovery.sources("methods"))


def test_the_checkout_has_no_init_file_in_its_plugin_folders() -> None:
    for kind in ("methods", "datasets"):
        assert not (builtin_root() / kind / "__init__.py").exists()


def test_an_installed_package_offers_plugins_by_entry_point(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = project / "site"
    package = site / "their_package"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('must not be imported')\n")
    (package / "theirs.py").write_text(GOOD, encoding="utf-8")
    info = site / "their_package-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-package\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[bench.methods]\ntheirs = their_package.theirs:Mine\n")
    monkeypatch.syspath_prepend(str(site))
    plugin = discovery.describe("methods", "theirs")
    assert plugin.module == "their_package.theirs"
    assert plugin.class_name == "Mine"


def test_listing_and_reporting_import_nothing_heavy() -> None:
    code = (
        "import sys, pkgutil, bench.cli, bench.report\n"
        "import importlib\n"
        "for m in pkgutil.walk_packages(bench.report.__path__, 'bench.report.'):\n"
        "    importlib.import_module(m.name)\n"
        "from bench.plan import discovery\n"
        "discovery.describe_all('methods'), discovery.describe_all('datasets')\n"
        "print([m for m in ('torch', 'timm', 'sklearn') if m in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ}
    )
    assert done.stdout.strip() == "[]"
