"""`bench table`, `bench compare` and `bench plot` as a user types them, in one process."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from bench.cli import app
from bench.commands.table import requests
from bench.errors import ConfigError, StoreError
from bench.rows.csv_file import write_csv
from bench.rows.row import Row, columns
from bench.rows.store import ResultStore
from tests.row_maker import read_csv

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.report.paper.table_spec import TableSpec
    from bench.settings.config import Settings

    MakeRow = Callable[..., Row]
    RowsOf = Callable[..., list[Row]]
    Spec = Callable[[str], TableSpec]


@pytest.fixture(autouse=True)
def _project(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command line exports the project; other tests must not see it."""
    monkeypatch.setenv("BENCH_PROJECT", str(Path(__file__).parents[3]))


def bench(*arguments: str) -> str:
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def fill(folder: Path, rows: list[Row]) -> str:
    for row in rows:
        ResultStore(folder).put(row)
    return str(folder)


def test_without_an_argument_the_tables_are_listed(
    tmp_path: Path, spec: Spec, rows_of: RowsOf
) -> None:
    results = fill(tmp_path, rows_of(spec("pyramidflow/table4")))
    lines = bench("table", "--results", results).splitlines()
    (table4,) = [line for line in lines if line.startswith("pyramidflow/table4")]
    assert re.search(r" (\d+) of \1$", table4)
    (printed,) = [line for line in lines if line.startswith("padim/table6")]
    assert printed.endswith("published only")


@pytest.mark.parametrize("format", ["md", "tex", "html", "csv"])
def test_every_format_can_be_written_to_a_file(tmp_path: Path, format: str) -> None:
    target = tmp_path / f"t.{format}"
    arguments = ("--format", format, "--out", str(target), "--results", str(tmp_path))
    assert bench("table", "padim/table3", *arguments).strip() == str(target)
    assert "PaDiM" in target.read_text(encoding="utf-8")


def test_a_table_without_rows_says_what_to_run(tmp_path: Path) -> None:
    text = bench("table", "pyramidflow/table4", "--results", str(tmp_path))
    assert "no row yet" in text
    assert "Run them: bench table pyramidflow/table4 --run" in text


def test_a_folder_of_results_that_is_absent_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="absent is not a folder; --run makes it"):
        bench("table", "pyramidflow/table4", "--results", str(tmp_path / "absent"))


def test_run_asks_for_the_missing_cells_only_with_the_parameters_of_each(
    spec: Spec, settings: Settings, rows_of: RowsOf
) -> None:
    table1 = spec("pyramidflow/table1")
    rows = [row for row in rows_of(table1) if row.category != "grid"]
    asked = requests(table1, settings, rows, (0,))
    assert [(r.methods, r.categories, s) for r, s in asked] == [
        (["pyramidflow"], ["grid"], (0,)),
        (["pyramidflow"], ["grid"], (0,)),
    ]
    norms = [r.overrides["pyramidflow.volume_norm"] for r, _ in asked]
    assert norms == ["cvn", "svn"]
    assert requests(table1, settings, rows_of(table1), (0,)) == []


def test_run_groups_categories_by_their_parameters(spec: Spec, settings: Settings) -> None:
    asked = [r for r, _ in requests(spec("cflow/table3"), settings, [], (0, 1))]
    resnet = [r for r in asked if r.overrides.get("cflow.backbone") == "resnet18.tv_in1k"]
    by_size = {r.overrides["cflow.input_size"]: r.categories for r in resnet}
    assert by_size[128] == ["transistor"]
    assert sorted(by_size) == [128, 256, 512]
    assert sum(map(len, by_size.values())) == 15


def test_what_the_project_sets_for_a_method_changes_neither_matching_nor_run(
    spec: Spec, settings: Settings, rows_of: RowsOf
) -> None:
    table4 = spec("pyramidflow/table4")
    own: dict[str, dict[str, Any]] = {
        "pyramidflow": {"channels": 8, "btad/01": {"levels": 2}},
        "padim": {"sigma": 2.0},
    }
    changed = replace(settings, methods=own)
    assert requests(table4, changed, rows_of(table4), (0,)) == []
    assert requests(table4, changed, [], (0,)) == requests(table4, settings, [], (0,))
    asked = {tuple(request.methods): request for request, _ in requests(table4, changed, [], (0,))}
    assert asked["padim",].overrides["padim.dimensions"] == 550
    assert asked["pyramidflow",].overrides["pyramidflow.running_mean_updates"] == 3


def test_run_on_a_published_only_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="published numbers only"):
        bench("table", "padim/table6", "--run", "--results", str(tmp_path))


def test_compare_without_rows_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"run: bench run -m padim -d synthetic"):
        bench("compare", "--methods", "padim", "-d", "synthetic", "--results", str(tmp_path))


def test_compare_names_the_nearest_of_an_unknown_name(tmp_path: Path, make_row: MakeRow) -> None:
    results = fill(tmp_path, [make_row(image_auroc=0.9)])
    with pytest.raises(ConfigError, match="unknown metric 'image_auc'; did you mean 'image_auroc'"):
        bench("compare", "-m", "padim", "--metric", "image_auc", "--results", results)
    with pytest.raises(ConfigError, match="unknown method 'padin'; did you mean 'padim'"):
        bench("compare", "-m", "padin", "--results", results)
    with pytest.raises(ConfigError, match="unknown data set 'syntetic'; did you mean 'synthetic'"):
        bench("compare", "-m", "padim", "-d", "syntetic", "--results", results)


def test_compare_draws_a_diagram_when_there_is_something_to_draw(
    tmp_path: Path, make_row: MakeRow
) -> None:
    rows = [
        make_row(method=method, category=f"c{i}", image_auroc=0.9 - 0.1 * place + 0.01 * i)
        for place, method in enumerate(("padim", "cflow", "pyramidflow"))
        for i in range(6)
    ]
    results = fill(tmp_path / "rows", rows)
    target = tmp_path / "cd.png"
    methods = ("-m", "padim,cflow,pyramidflow")
    text = bench("compare", *methods, "--results", results, "--plot", str(target))
    assert "Friedman over 6 categories" in text
    assert target.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ConfigError, match=r"\.png, \.pdf, \.svg"):
        bench("compare", *methods, "--results", results, "--plot", str(tmp_path / "cd.doc"))


def test_plot_complexity_writes_table_and_figures_and_names_the_device(
    tmp_path: Path, make_row: MakeRow
) -> None:
    costs = {"fps_b1": 10.0, "fps": 30.0, "fps_batch": 8, "state_mb": 5.0, "encoder_ms": 4.0}
    place = {"device": "CPU test", "threads": 2, "speed": "speed-1", "memory": "sampled"}
    rows = [
        make_row(
            method=method,
            protocol=f"p{side}",
            protocol_fields={"resize": [side, side]},
            image_auroc=0.9,
            fit_mb=1.0 * side,
            infer_mb=0.5 * side,
            **costs,
            **place,
        )
        for method in ("padim", "cflow")
        for side in (128, 256)
    ]
    out = tmp_path / "plots"
    text = bench("plot", "complexity", "--out", str(out), "--results", fill(tmp_path, rows))
    assert text.count("CPU test, 2 threads, speed-1") == 2
    assert sorted(file.name for file in out.iterdir()) == [
        "complexity.md",
        "memory_against_size.png",
        "memory_saving.png",
        "score_against_speed-synthetic-p128-cpu-test-2t.png",
        "score_against_speed-synthetic-p256-cpu-test-2t.png",
    ]


def test_plot_complexity_without_timings_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="run: bench run -m padim"):
        bench("plot", "complexity", "--out", str(tmp_path), "--results", str(tmp_path))


def test_an_unknown_column_survives_reading_and_writing(tmp_path: Path, make_row: MakeRow) -> None:
    row = make_row(image_auroc=0.9, extra={"of_the_future": "kept"})
    write_csv(tmp_path / "a.csv", [row])
    (read,) = read_csv(tmp_path / "a.csv")
    assert read.extra == {"of_the_future": "kept"}
    assert "of_the_future" not in columns()


@pytest.mark.parametrize("name", ["pyramidflow/table3", "pyramidflow/table4", "cflow/table4"])
def test_every_row_is_planned_without_data_and_what_is_missing_is_said(
    name: str, spec: Spec, tmp_path: Path
) -> None:
    place = ("--data-root", str(tmp_path), "--results", str(tmp_path / "none"))
    lines = bench("table", name, "--run", "--dry-run", *place).splitlines()
    found = spec(name)
    assert all(row.method for row in found.rows)
    plan = [line for line in lines if " on " in line and "; seed" in line]
    assert {line.split(" on ")[0] for line in plan} == {row.method for row in found.rows}
    cells = len(found.wanted()) * sum(len(found.seeds_of(row)) for row in found.rows)
    assert f"{name}: {cells} cells to run" in lines
    assert not any(line.endswith("; ") for line in plan)
    (missing,) = [line for line in lines if line.startswith(f"missing: {found.dataset}: no images")]
    assert "get it from http" in missing


def test_a_dry_run_names_categories_that_are_not_there(tmp_path: Path) -> None:
    (tmp_path / "02" / "train" / "ok").mkdir(parents=True)
    place = ("--data-root", str(tmp_path), "--results", str(tmp_path / "none"))
    text = bench("table", "pyramidflow/table4", "--run", "--dry-run", *place)
    assert "missing: btad: no images of 01, 03\n" in text


def test_a_dry_run_says_that_a_fall_back_stands_for_auxiliary_pictures(tmp_path: Path) -> None:
    place = ("--data-root", str(tmp_path), "--results", str(tmp_path / "none"))
    text = bench("table", "pyramidflow/table3", "--dry-run", *place)
    assert "missing: draem.textures names no folder of pictures: the method's fall-back" in text
