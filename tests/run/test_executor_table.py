"""The protocol of executors: what a third one takes."""

from __future__ import annotations

import ast
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import pytest
from rich.console import Console

from bench.errors import ConfigError
from bench.plan.request import Request
from bench.rows.store import ResultStore
from bench.run.driver import run_request
from bench.run.executors import EXECUTORS, Executor, ignore, open_executor
from bench.run.job import Done, Failure, Job
from bench.settings.config import RunSettings, Settings, load_settings
from tests.row_maker import make_row

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bench.run.executors import OnEvent

PACKAGE = Path(__file__).parents[2] / "bench"


class Oracle:
    """A third executor, whole: it knows the scores without running anything."""

    at_a_time: ClassVar[int] = 3
    threads: ClassVar[int] = 1
    runs_beside: ClassVar[bool] = True
    takes_address: ClassVar[bool] = False

    @classmethod
    def of(cls, settings: Settings) -> Oracle:
        return cls()

    def check(self, jobs: Sequence[Job]) -> str:
        return f"{len(jobs)} cells are guessed"

    def map(self, jobs: Sequence[Job], on_event: OnEvent = ignore) -> Iterator[Done | Failure]:
        for job in jobs:
            cell = job.cell
            named = {"cell": cell.id, "method": cell.method, "dataset": cell.dataset}
            row = make_row(**named, category=cell.category, seed=cell.seed, env="guessed")
            yield Done(job, row, {}, 0.0)

    def stop(self) -> None:
        pass

    def kill(self) -> None:
        pass


def test_a_third_executor_is_a_module_and_a_line_of_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(EXECUTORS, "oracle", f"{__name__}:Oracle")
    settings = load_settings(tmp_path)
    run = replace(settings.run, executor="oracle", weights="random")
    request = Request(["padim"], ["synthetic"], ["weave", "bolt"])
    result = run_request(replace(settings, run=run), request, Console())
    assert not result.failures
    stored = ResultStore(settings.paths.results).rows()
    assert sorted(row.category for row in stored) == ["bolt", "weave"]
    assert "WARNING 2 cells are guessed" in capsys.readouterr().out


def test_only_executors_and_their_own_parts_import_an_executor() -> None:
    executors = {place.partition(":")[0] for place in EXECUTORS.values()}
    importers: dict[str, set[str]] = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts)
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                importers.setdefault(node.module, set()).add(name)
    parts = {name for name, users in importers.items() if users <= executors}
    for executor in executors:
        assert importers.get(executor, set()) <= executors | parts, executor


@pytest.mark.parametrize("name", ["local", "in-process"])
def test_an_executor_is_opened_by_its_name(name: str) -> None:
    run = RunSettings(executor=name, device="cpu", threads=3)
    executor: Executor = open_executor(Settings(Path(), run=run))
    assert (executor.at_a_time, executor.threads) == (1, 3)


def test_an_unknown_executor_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match="unknown executor 'lokal'; did you mean 'local'"):
        open_executor(Settings(Path(), run=RunSettings(executor="lokal")))


def test_an_address_without_a_cluster_is_refused() -> None:
    with pytest.raises(ConfigError, match="'local' runs cells on this machine; --executor ray"):
        open_executor(Settings(Path(), run=RunSettings(address="host:6379")))
