"""Help texts say what was written: nothing in brackets is lost, in no command."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
import typer
from typer.testing import CliRunner

from bench.cli import app

if TYPE_CHECKING:
    from collections.abc import Iterator


def commands(command: Any, *path: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield path, command
    for name, below in getattr(command, "commands", {}).items():
        yield from commands(below, *path, name)


ALL = dict(commands(typer.main.get_command(app)))


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_what_stands_in_brackets_is_shown(path: tuple[str, ...]) -> None:
    done = CliRunner().invoke(app, [*path, "--help"], env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    shown = "".join(done.output.split())
    texts = [getattr(p, "help", None) or "" for p in ALL[path].params] + [ALL[path].help or ""]
    found = [part for text in texts for part in re.findall(r"\[[^\]]*\]", text)]
    assert [part for part in found if "".join(part.split()) not in shown] == []


def test_some_text_has_brackets() -> None:
    assert any("[presets.NAME]" in (getattr(p, "help", "") or "") for p in ALL["run",].params)


def test_the_list_for_programs_has_protocols_and_presets() -> None:
    found = json.loads(CliRunner().invoke(app, ["list", "--json"]).stdout)
    assert {"methods", "datasets", "protocols", "presets"} <= set(found)
    assert "standard" in found["protocols"]
    assert found["presets"]["quick"]
