"""What stands around the code agrees with it: make targets, workflows, hooks, citation."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import bench

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
FORMS = [p for p in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml") if p.stem != "config"]


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def phony() -> list[str]:
    """The targets that the Makefile declares."""
    (line,) = re.findall(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    return str(line).split()


def targets_of(command: str) -> list[str]:
    """The targets of a command line, which must be `make` and nothing else."""
    program, *targets = command.split()
    assert program == "make"
    return targets


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_help_lists_every_target() -> None:
    done = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert re.findall(r"^make ([a-z-]+) +\S", done.stdout, flags=re.MULTILINE) == phony()


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_runs_existing_make_targets_and_nothing_else(path: Path) -> None:
    jobs = read(path)["jobs"].values()
    commands = [step["run"] for job in jobs for step in job["steps"] if "run" in step]
    assert commands
    for command in commands:
        assert set(targets_of(command)) <= set(phony())
    assert all("timeout-minutes" in job for job in jobs)


def test_workflows_run_what_a_change_must_pass_on_the_lowest_and_newest_versions() -> None:
    run = {
        target
        for path in WORKFLOWS
        for job in read(path)["jobs"].values()
        for step in job["steps"]
        for target in targets_of(step.get("run", "make"))
    }
    assert {"lint", "types", "test", "test-lowest", "gate", "site"} <= run


def test_workflows_test_the_lowest_python_that_the_project_names() -> None:
    tests = read(ROOT / ".github" / "workflows" / "tests.yml")["jobs"]
    lowest = PROJECT["requires-python"].removeprefix(">=")
    assert lowest in tests["newest"]["strategy"]["matrix"]["python"]
    assert tests["lowest"]["steps"][1]["with"]["python-version"] == lowest


def test_commit_hooks_do_what_make_lint_types_does() -> None:
    (local,) = read(ROOT / ".pre-commit-config.yaml")["repos"]
    assert local["repo"] == "local"
    entries = [targets_of(hook["entry"]) for hook in local["hooks"]]
    assert entries == [["lint"], ["types"]]
    assert not any(hook["pass_filenames"] for hook in local["hooks"])


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_an_issue_form_asks_for_something_and_has_unique_ids(path: Path) -> None:
    form = read(path)
    assert {"name", "description", "body"} <= set(form)
    assert any(field.get("validations", {}).get("required") for field in form["body"])
    ids = [field["id"] for field in form["body"]]
    assert len(ids) == len(set(ids))


def test_the_version_is_the_same_in_package_citation_and_changelog() -> None:
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
    assert newest is not None
    assert PROJECT["version"] == bench.__version__ == read(ROOT / "CITATION.cff")["version"]
    assert newest[1] in (bench.__version__, "Unreleased")


def test_citation_and_project_name_the_same_place_and_licence() -> None:
    citation = read(ROOT / "CITATION.cff")
    assert citation["cff-version"] == "1.2.0"
    assert citation["license"] == PROJECT["license"]
    home = PROJECT["urls"]["Homepage"]
    assert citation["repository-code"] == citation["url"] == home
    assert all(url.startswith(home) for url in PROJECT["urls"].values())
    contact = read(ROOT / ".github" / "ISSUE_TEMPLATE" / "config.yml")["contact_links"]
    assert all(link["url"].startswith(home) for link in contact)


def test_ruff_refuses_the_imports_that_it_can_know() -> None:
    lines = ["import torch", "import bench.commands.run", "from bench.deploy import inference"]
    source = "\n".join([*lines, ""])
    for room, codes in [("plan", ["TID251", "TID251", "TID253"]), ("commands", ["TID253"])]:
        name = str(ROOT / "bench" / room / "new.py")
        command = [sys.executable, "-m", "ruff", "check", "--select", "TID", "--no-cache"]
        command += ["--output-format", "concise", "--stdin-filename", name, "-"]
        done = subprocess.run(
            command, input=source, cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert sorted(re.findall(r"TID25\d", done.stdout)) == codes


def test_no_file_holds_both_sides_of_a_merge() -> None:
    folders = ("bench", "benchmarks", "datasets", "docs", "examples", "methods", "results", "tests")
    files = [*ROOT.glob("*.*"), *(f for name in folders for f in (ROOT / name).rglob("*.*"))]
    written = [f for f in files if f.suffix in (".md", ".py", ".toml", ".csv", ".yml", ".cff")]
    marks = re.compile("^(<{7}|>{7}) ", re.MULTILINE)
    assert [f for f in written if marks.search(f.read_text(encoding="utf-8"))] == []
