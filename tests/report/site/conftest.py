"""A small site: two methods on one data set, published numbers beside them, and hostile names."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from bench.plan.identity import plain
from bench.report.paper.published import MEANS, PublishedNumbers
from bench.report.site import build_site, load_site_data
from bench.report.site.printed import Printer
from bench.report.site.printed_marks import load_marks
from bench.rows.csv_file import write_csv
from bench.settings.protocol import PROTOCOLS
from tests.row_maker import make_row

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bench.rows.row import Row

    SiteRow = Callable[..., Row]
    WriteResults = Callable[[Path, Sequence[Row]], Path]

HOSTILE = "\"><script>alert('x')</script><img src=x onerror=alert(1)>&amp;{{ 7 * 7 }}/../é"
HOSTILE_NAME = HOSTILE.replace("/", "")  # a folder or file may be called so


def _row(count: itertools.count[int], **changes: Any) -> Row:
    protocol = PROTOCOLS[changes.get("protocol", "standard")]
    values: dict[str, Any] = {
        "cell": f"{next(count):012x}",
        "dataset": "mvtec",
        "category": "carpet",
        "protocol": protocol.name,
        "protocol_fields": plain(protocol.identity()),
        "pretrained": "none",
        "image_auroc": 0.9,
        "pixel_auroc": 0.95,
        "aupro_30": 0.85,
        "weights": "none",
        "device": "CPU",
        "started": "2026-01-01T00:00:00+00:00",
    }
    return make_row(**{**values, **changes})


@pytest.fixture(scope="session")
def printer(published: PublishedNumbers) -> Printer:
    """Of the published numbers and tables of the checkout."""
    return Printer(published, load_marks(Path(__file__).parents[3]))


@pytest.fixture(scope="session")
def site_row() -> SiteRow:
    """`site_row(method="padim", image_auroc=0.9)`: a row with defaults for the rest."""
    count = itertools.count()
    return lambda **changes: _row(count, **changes)


@pytest.fixture(scope="session")
def write_results() -> WriteResults:
    """`write_results(folder, rows)`: the rows as a results folder, whatever their names."""

    def write(folder: Path, rows: Sequence[Row]) -> Path:
        files: dict[Path, list[Row]] = {}
        for row in rows:
            files.setdefault(folder / row.dataset / f"{row.method}.csv", []).append(row)
        for file, found in files.items():
            write_csv(file, found)
        return folder

    return write


@pytest.fixture(scope="session")
def rows(site_row: SiteRow) -> list[Row]:
    """Three measured lines (one lacks a category), one with random weights, another protocol."""
    weights = {"pretrained": "pretrained", "weights": "resnet18.tv_in1k@0123456789ab"}
    found = []
    for category in MEANS["mean"]:
        score = 0.93 if category == "grid" else 0.91
        for seed in (0, 1):
            padim = {"image_auroc": score + seed / 100, "command": "bench run -m padim"}
            found.append(site_row(category=category, seed=seed, **padim, **weights))
        found.append(site_row(method="cflow", category=category, image_auroc=0.97, device="CUDA"))
        found.append(
            site_row(method="cflow", category=category, pretrained="random", image_auroc=0.999)
        )
        found.append(site_row(method="pyramidflow", category=category, protocol="pyramidflow"))
    found.append(site_row(method="mean", category="grid", image_auroc=0.99))
    return found


@pytest.fixture(scope="session")
def hostile_rows(site_row: SiteRow) -> list[Row]:
    """Every free text that a row may hold, as an attacker would write it."""
    texts = ("category", "protocol", "weights", "data", "code", "commit", "device", "command")
    values: dict[str, Any] = dict.fromkeys((*texts, "speed"), HOSTILE)
    values |= dict.fromkeys(("method", "dataset"), HOSTILE_NAME)
    values |= {name: {HOSTILE: HOSTILE} for name in ("params", "dataset_params")}
    values |= {"undefined": {"aupro_30": HOSTILE}, "epochs": 1}
    return [replace(site_row(), protocol_fields={HOSTILE: HOSTILE}, **values)]


@pytest.fixture(scope="session")
def site(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[Row],
    hostile_rows: list[Row],
    write_results: WriteResults,
) -> Path:
    """The folder of a whole site."""
    folder = tmp_path_factory.mktemp("site")
    results = write_results(folder / "results", [*rows, *hostile_rows])
    build_site(load_site_data([results]), folder / "out")
    return folder / "out"
