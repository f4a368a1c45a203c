"""What building a site does with folders and files, and what it refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from bench.errors import StoreError
from bench.report.site import build_site, load_site_data
from tests.row_maker import write_text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from bench.rows.row import Row

    WriteResults = Callable[[Path, Sequence[Row]], Path]


def test_the_same_rows_give_the_same_bytes(
    tmp_path: Path, site: Path, rows: list[Row], hostile_rows: list[Row], write_results: Any
) -> None:
    results = write_results(tmp_path / "r", [*reversed(rows), *hostile_rows])
    build_site(load_site_data([results]), tmp_path / "out")
    names = sorted(f.relative_to(site) for f in site.rglob("*") if f.is_file())
    assert names == sorted(
        f.relative_to(tmp_path / "out") for f in (tmp_path / "out").rglob("*") if f.is_file()
    )
    for name in names:
        assert (site / name).read_bytes() == (tmp_path / "out" / name).read_bytes(), name


def test_a_later_site_replaces_an_earlier_one_and_nothing_else(
    tmp_path: Path, site_row: Callable[..., Row], write_results: WriteResults
) -> None:
    out = tmp_path / "out"
    first = write_results(tmp_path / "a", [site_row(method="padim")])
    build_site(load_site_data([first]), out)
    (out / "CNAME").write_text("mine")
    second = write_results(tmp_path / "b", [site_row(method="cflow")])
    build_site(load_site_data([second]), out)
    assert (out / "CNAME").read_text() == "mine"
    assert (out / "methods" / "cflow.html").is_file()
    assert not (out / "methods" / "padim.html").exists()


def test_a_folder_that_holds_other_files_is_refused(
    tmp_path: Path, site_row: Callable[..., Row], write_results: WriteResults
) -> None:
    data = load_site_data([write_results(tmp_path / "r", [site_row()])])
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("years")
    with pytest.raises(StoreError, match="holds other files"):
        build_site(data, tmp_path / "out")
    with pytest.raises(StoreError, match="is a file"):
        build_site(data, tmp_path / "out" / "thesis.tex")


def test_no_row_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="bench run --method"):
        load_site_data([tmp_path])
    with pytest.raises(StoreError, match="not a folder"):
        load_site_data([tmp_path / "absent"])


def test_broken_files_are_named(
    tmp_path: Path, site_row: Callable[..., Row], write_results: WriteResults
) -> None:
    row = site_row(env="abc")
    for index, (column, text, message) in enumerate(
        (
            ("params", "{", "holds '{', not a JSON object"),
            ("params", "[1]", r"holds '\[1\]', not a JSON object"),
            ("dataset_params", "3", "holds '3', not"),
            (
                "protocol_fields",
                '{"published": 3}',
                "holds .*, not a JSON object with a list",
            ),
            ("published", '{"aupro_cflow": "x"}', "holds .*, not a JSON object of numbers"),
            ("undefined", "null", "holds 'null', not"),
        )
    ):
        bad = write_results(tmp_path / f"bad{index}", [row])
        write_text(next(bad.glob("*/*.csv")), row, column, text)
        with pytest.raises(StoreError, match=f"{column!r} {message}"):
            load_site_data([bad])
    good = write_results(tmp_path / "b", [row])
    (good / "env").mkdir()
    (good / "env" / "abc.json").write_text("[]")
    with pytest.raises(StoreError, match=r"abc\.json holds no table"):
        load_site_data([good])


def test_of_one_cell_in_two_folders_the_newest_is_shown(
    tmp_path: Path, site_row: Callable[..., Row], write_results: WriteResults
) -> None:
    old = site_row(image_auroc=0.5)
    new = replace(old, image_auroc=0.6, started="2026-02-01T00:00:00+00:00")
    folders = [write_results(tmp_path / name, [row]) for name, row in (("a", new), ("b", old))]
    assert [row.image_auroc for row in load_site_data(folders).rows] == [0.6]


def test_the_command_writes_the_site_without_importing_torch(
    tmp_path: Path, rows: list[Row], write_results: WriteResults
) -> None:
    results = write_results(tmp_path / "r", rows)
    command = ["bench", "site", "--out", str(tmp_path / "out"), "--results", str(results)]
    code = (
        "import json, sys\n"
        f"sys.argv = {json.dumps(command)}\n"
        "from bench.cli import app\n"
        "app(standalone_mode=False)\n"
        "heavy = {'torch', 'timm', 'sklearn', 'skimage', 'matplotlib'} & set(sys.modules)\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"pages from {len(rows)} rows; open" in done.stdout
    assert (tmp_path / "out" / "index.html").is_file()


def test_a_site_of_costs_alone_is_refused(
    tmp_path: Path, make_row: Callable[..., Row], write_results: Any
) -> None:
    results = write_results(tmp_path, [make_row(protocol="costs")])
    with pytest.raises(StoreError, match="every row is of protocol costs"):
        load_site_data([results], ["costs"])
