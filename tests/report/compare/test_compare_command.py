"""`bench compare` and `bench plot` as a user types them: names, choices and files."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from bench.cli import app
from bench.errors import ConfigError
from bench.rows.csv_file import write_csv
from bench.rows.store import ResultStore

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bench.rows.row import Row

    MakeRow = Callable[..., Row]


@pytest.fixture(autouse=True)
def _project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BENCH_PROJECT", raising=False)


def bench(*arguments: str) -> str:
    """The output of a command that succeeds; its error is raised."""
    done = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def fill(folder: Path, rows: list[Row]) -> str:
    """A results folder with these rows."""
    files: dict[Path, list[Row]] = {}
    for row in rows:
        files.setdefault(ResultStore(folder).file(row.dataset, row.method), []).append(row)
    for file, found in files.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        write_csv(file, found)
    return str(folder)


def padims(make_row: MakeRow) -> list[Row]:
    return [
        make_row(params={"dimensions": 100}, image_auroc=0.9),
        make_row(params={"dimensions": 550}, image_auroc=0.8, pretrained="random"),
        make_row(method="cflow", params={"fibers": 8}, image_auroc=0.7),
    ]


def methods(text: str) -> list[str]:
    """First cells of the table's lines."""
    lines = [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("|")]
    return lines[2:]


def test_methods_stand_in_the_order_that_was_asked_for(tmp_path: Path, make_row: MakeRow) -> None:
    results = fill(tmp_path, padims(make_row))
    text = bench("compare", "-m", "padim,cflow", "--param", "dimensions=100", "--results", results)
    assert methods(text) == ["padim", "cflow"]
    text = bench("compare", "-m", "cflow,padim", "--param", "dimensions=100", "--results", results)
    assert methods(text) == ["cflow", "padim"]


def test_variants_are_narrowed_by_parameters_and_weights(tmp_path: Path, make_row: MakeRow) -> None:
    results = fill(tmp_path, padims(make_row))
    asked = ("compare", "-m", "padim", "--results", results)
    assert methods(bench(*asked)) == ["padim #1", "padim #2§"]
    assert methods(bench(*asked, "--param", "padim.dimensions=550")) == ["padim§"]
    assert methods(bench(*asked, "--pretrained", "pretrained")) == ["padim"]
    with pytest.raises(ConfigError, match="--param dimension: no row has it; did you mean 'dimen"):
        bench(*asked, "--param", "dimension=100")
    with pytest.raises(ConfigError, match="padim has no such row; there are 100, 550"):
        bench(*asked, "--param", "dimensions=200")
    with pytest.raises(ConfigError, match="padim has no such row; there are pretrained, random"):
        bench(*asked, "--pretrained", "none")
    with pytest.raises(ConfigError, match=r"padim has no parameter 'levels'; .*known: dimensions$"):
        bench(*asked, "--param", "padim.levels=5")
    with pytest.raises(ConfigError, match=r"--param cflow.fibers: no row of 'cflow'; known: padim"):
        bench(*asked, "--param", "cflow.fibers=8")
    with pytest.raises(ConfigError, match="--param dimensions: write key=value"):
        bench(*asked, "--param", "dimensions")


def test_no_method_and_no_figure_are_refused_at_once(tmp_path: Path, make_row: MakeRow) -> None:
    results = fill(tmp_path, padims(make_row))
    with pytest.raises(ConfigError, match="--methods names no method"):
        bench("compare", "-m", ",", "--results", results)
    with pytest.raises(ConfigError, match=r"x\.jpg: a figure is \.png, \.pdf, \.svg"):
        bench("compare", "-m", "padim", "--plot", "x.jpg", "--results", str(tmp_path / "none"))


def test_a_suggested_run_repeats_data_set_protocol_and_results(
    tmp_path: Path, make_row: MakeRow
) -> None:
    results = fill(tmp_path, padims(make_row))
    command = rf"bench run -m cflow -d mtd --protocol native --results {results}"
    with pytest.raises(ConfigError, match=command):
        bench("compare", "-m", "cflow", "-d", "mtd", "--protocol", "native", "--results", results)


def test_a_comparison_can_be_read_by_programs(tmp_path: Path, make_row: MakeRow) -> None:
    results = fill(tmp_path, padims(make_row))
    text = bench("compare", "-m", "cflow", "--format", "csv", "--results", results)
    assert text.splitlines()[1].startswith('image_auroc,"synthetic, protocol standard",,cflow')


def test_only_the_seeds_that_were_asked_for_count(tmp_path: Path, make_row: MakeRow) -> None:
    rows = [make_row(seed=seed, image_auroc=0.9 - 0.1 * seed) for seed in range(3)]
    results = fill(tmp_path, rows)
    text = bench("compare", "-m", "padim", "--seeds", "0,1", "--results", results)
    assert "85.0 ± 7.1" in text
    assert "\n- seeds 0, 1\n" in text
    with pytest.raises(ConfigError, match="--seeds 7: padim has no such row; there are seeds 0, 1"):
        bench("compare", "-m", "padim", "--seeds", "7", "--results", results)


def timed(make_row: MakeRow, **changes: object) -> Row:
    values = {"speed": "speed-1", "device": "CPU test", "threads": 1, "memory": "sampled"}
    return make_row(**{**values, "fps_b1": 9.0, "image_auroc": 0.9, **changes})


def test_plot_names_the_nearest_of_an_unknown_name(tmp_path: Path, make_row: MakeRow) -> None:
    asked = ("plot", "complexity", "--results", fill(tmp_path, [timed(make_row)]))
    with pytest.raises(ConfigError, match="unknown data set 'syntetic'; did you mean 'synthetic'"):
        bench(*asked, "-d", "syntetic")
    with pytest.raises(ConfigError, match="unknown protocol 'standart'; did you mean 'standard'"):
        bench(*asked, "--protocol", "standart")


def test_figures_of_an_earlier_run_do_not_stay(tmp_path: Path, make_row: MakeRow) -> None:
    results = fill(tmp_path / "rows", [timed(make_row), timed(make_row, protocol="native")])
    out = tmp_path / "plots"
    asked = ("plot", "complexity", "--results", results, "--out", str(out), "--format", "svg")
    bench(*asked)
    (out / "of_somebody_else.svg").touch()
    assert len(list(out.glob("score_against_speed-*.svg"))) == 2
    bench(*asked, "--protocol", "native")
    assert sorted(file.name for file in out.iterdir()) == [
        "complexity.md",
        "memory_saving.svg",
        "of_somebody_else.svg",
        "score_against_speed-synthetic-native-cpu-test-1t.svg",
    ]


def test_plot_leaves_out_scores_that_say_nothing_and_says_what_to_run(
    tmp_path: Path, make_row: MakeRow
) -> None:
    rows = [
        timed(make_row, protocol="costs", params={"input_size": 128}, fit_mb=1.0),
        timed(make_row, protocol="costs", params={"input_size": 256}, fit_mb=2.0),
    ]
    out = tmp_path / "plots"
    results = fill(tmp_path / "rows", rows)
    text = bench("plot", "complexity", "--results", results, "--out", str(out))
    assert "scores of protocol costs say nothing: left out" in text
    assert not list(out.glob("score_against_speed*"))
    assert "no memory_against_size: no method was measured at two input sizes" in text
    assert f"--preset costs --results {results} --set input_size=256" in text
    run = "bench table pyramidflow/figure5 --run"
    assert f"memory_saving: published curves only; run: {run} --results {results}" in text


def test_scores_of_protocols_that_say_nothing_are_left_out_unless_named(
    tmp_path: Path, make_row: MakeRow
) -> None:
    costs = make_row(protocol="costs", image_auroc=0.1)
    results = fill(tmp_path, [make_row(image_auroc=0.9), costs])
    text = bench("compare", "-m", costs.method, "--results", results)
    assert "protocol standard" in text
    assert "on synthetic, protocol costs" not in text
    assert "1 row of protocol costs left out: scores that say nothing" in text
    named = bench("compare", "-m", costs.method, "--protocol", "costs", "--results", results)
    assert "10.0" in named
    assert "\n- scores of protocol costs say nothing\n" in named
    results = fill(tmp_path / "only", [costs])
    with pytest.raises(ConfigError, match="of protocol costs, whose scores say nothing"):
        bench("compare", "-m", costs.method, "--results", results)


def test_protocols_without_scores_are_a_setting_that_is_checked(
    tmp_path: Path, make_row: MakeRow, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bench.toml").write_text('[reports]\nskip_scores = ["standart"]\n')
    monkeypatch.setenv("BENCH_PROJECT", str(tmp_path))
    fill(tmp_path / "results", [timed(make_row)])
    with pytest.raises(ConfigError, match="unknown protocol 'standart'; did you mean 'standard'"):
        bench("plot", "complexity", "--out", str(tmp_path))
    (tmp_path / "bench.toml").write_text("[reports]\nskip_scores = [1]\n")
    with pytest.raises(
        ConfigError, match=r"\[reports\]\.skip_scores = \[1\] is not a list of texts"
    ):
        bench("plot", "complexity", "--out", str(tmp_path))


@pytest.mark.parametrize(
    "command",
    [
        ("compare", "-m", "padim"),
        ("plot", "complexity", "--out", "."),
        ("status",),
        ("show", "abc"),
        ("table",),
    ],
)
def test_results_that_are_no_folder_are_refused_everywhere(
    tmp_path: Path, command: tuple[str, ...]
) -> None:
    with pytest.raises(ConfigError, match=r"--results .*absent is not a folder"):
        bench(*command, "--results", str(tmp_path / "absent"))


def test_rows_that_nobody_narrowed_to_a_method_are_missed_without_one(
    tmp_path: Path, make_row: MakeRow
) -> None:
    results = fill(tmp_path, [timed(make_row, speed="speed-1")])
    asked = ("plot", "complexity", "-d", "mtd", "--protocol", "costs", "--out", str(tmp_path))
    text = "no row of mtd under protocol costs; there are synthetic under standard$"
    with pytest.raises(ConfigError, match=text):
        bench(*asked, "--results", results)


def test_a_category_called_mean_is_not_taken_for_the_mean(
    tmp_path: Path, make_row: MakeRow
) -> None:
    rows = [make_row(category=name, cell=f"{name:0<12}") for name in ("mean", "nut")]
    folder = fill(tmp_path, [replace(row, image_auroc=0.5) for row in rows])
    arguments = ("compare", "-m", rows[0].method, "--results", folder, "--metric", "image_auroc")
    lines = list(csv.DictReader(io.StringIO(bench(*arguments, "--format", "csv"))))
    assert [line["category"] for line in lines if line["kind"] == "number"] == [
        "mean",
        "nut",
        "(mean)",
    ]
    assert "(mean)" in bench(*arguments)
