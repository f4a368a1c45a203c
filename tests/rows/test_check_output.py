"""What `bench check` prints: JSON, JUnit, the command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.rows.check_output import as_json, as_junit
from bench.rows.column import ORIGINS
from bench.rows.store import ResultStore
from tests.rows.gate import outcome, row

ROOT = Path(__file__).parents[2]


def test_json_holds_every_figure_with_its_tolerance() -> None:
    found = outcome([row(0), row(1)], [row(0, aupro_30=0.7), row(2)])
    values = json.loads(as_json(found, complete=False))
    assert (values["exit_code"], values["compared"]) == (1, 1)
    (cell,) = values["changed"]
    (aupro,) = [d for d in cell["differences"] if d["metric"] == "aupro_30"]
    assert aupro["delta"] == pytest.approx(0.1)
    assert (aupro["passed"], aupro["tolerance"]) == (False, 0.002)
    assert set(cell["differs"]) == set(ORIGINS)
    assert [r["seed"] for r in values["missing"]] == [1]
    assert [r["seed"] for r in values["new"]] == [2]


@pytest.mark.parametrize("complete", [False, True])
def test_junit_counts_changed_missing_and_new(complete: bool) -> None:
    found = outcome([row(0), row(1)], [row(0, aupro_30=0.7), row(2)])
    suite = ElementTree.fromstring(as_junit(found, complete))
    assert suite.attrib["tests"] == "3"
    assert suite.attrib["failures"] == ("2" if complete else "1")
    assert suite.attrib["skipped"] == ("1" if complete else "2")
    assert len(suite.findall("testcase/failure")) == int(suite.attrib["failures"])
    assert "aupro_30 0.6 -> 0.7" in (suite.find("testcase/failure[@type='changed']").text or "")  # type: ignore[union-attr]


def test_junit_fails_where_nothing_was_compared() -> None:
    suite = ElementTree.fromstring(as_junit(outcome([], []), complete=False))
    assert suite.attrib["failures"] == "1"


@given(st.text())
def test_junit_is_valid_xml_whatever_a_category_is_called(name: str) -> None:
    found = outcome([row(category=name)], [row(category=name, aupro_30=0.1, weights=name)])
    encodable = as_junit(found, complete=False).encode("utf-8")
    assert ElementTree.fromstring(encodable).attrib["failures"] == "1"


def bench(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("BENCH_")}
    command = [sys.executable, "-m", "bench", "check", *map(str, arguments)]
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )


def test_the_command_ends_with_the_exit_code_and_prints_each_format(tmp_path: Path) -> None:
    old, now = ResultStore(tmp_path / "old"), ResultStore(tmp_path / "now")
    old.put(row())
    now.put(row(aupro_30=0.7))
    both = ("--baseline", "old", "--results", "now")
    changed = bench(*both, "--format", "json", "--out", "deep/check.json", cwd=tmp_path)
    assert changed.returncode == 1, changed.stderr
    assert "CHANGED padim mtd/tile seed 0" in changed.stdout
    assert json.loads((tmp_path / "deep" / "check.json").read_text())["exit_code"] == 1
    assert bench("--baseline", "old", "--results", "old", cwd=tmp_path).returncode == 0
    nothing = bench("--baseline", "old", "--format", "junit", cwd=tmp_path)
    assert nothing.returncode == 3
    assert ElementTree.fromstring(nothing.stdout).attrib["failures"] == "1"
    for seed in (1, 2):
        now.put(row(seed))
    old.put(row(5))
    others = bench(*both, "--new-seeds", cwd=tmp_path)
    assert "1 means over other seeds: 0 changed" in others.stdout
    absent = bench("--baseline", "no", cwd=tmp_path)
    assert (absent.returncode, len(absent.stderr.splitlines())) == (2, 1)
