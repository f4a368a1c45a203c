"""Numbers of the pages, recomputed from the CSV files by code that is none of the site's."""

from __future__ import annotations

import csv
import re
import statistics
import subprocess
import sys
from collections import defaultdict
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path

import pytest

from tests.report.site.elements import Element, Page

RESULTS = Path(__file__).parents[3] / "results"
SCORES = {"Image AUROC": "image_auroc", "Pixel AUROC": "pixel_auroc", "AUPRO 0.3": "aupro_30"}
COSTS = {
    "FPS": ("fps", ("speed", "threads", "fps_batch")),
    "p50 ms": ("latency_p50_ms", ("speed", "threads")),
    "Params M": ("params_m", ()),
    "Infer MB": ("infer_mb", ("memory", "threads")),
}
Rows = list[dict[str, str]]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site of the committed rows."""
    out = tmp_path_factory.mktemp("site") / "out"
    command = [sys.executable, "-m", "bench", "site", "--out", str(out), "--no-galleries"]
    done = subprocess.run(
        [*command, "--results", str(RESULTS)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return out


def stored(dataset: str) -> dict[str, Rows]:
    """Rows of a data set by cell."""
    found: dict[str, Rows] = {}
    for file in (RESULTS / dataset).glob("*.csv"):
        with file.open(encoding="utf-8", newline="") as stream:
            found |= {row["cell"]: [row] for row in csv.DictReader(stream)}
    return found


def halves_away(value: float, decimals: int) -> str:
    exact = Decimal(f"{value:.12g}")
    return str(exact.quantize(Decimal(1).scaleb(-decimals), ROUND_HALF_UP))


def three_digits(value: float) -> str:
    decimals = max(0, 2 - Decimal(f"{value:.2e}").adjusted())
    return halves_away(value, decimals)


def score_text(rows: Rows, column: str) -> str:
    """Mean over categories, then over seeds, with the deviation over these."""
    if any(not row[column] for row in rows):
        return "n/a"
    by_seed: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        by_seed[row["seed"]].append(100 * float(row[column]))
    means = [statistics.fmean(values) for values in by_seed.values()]
    text = halves_away(statistics.fmean(means), 1)
    return text if len(means) < 2 else f"{text} ± {halves_away(statistics.stdev(means), 1)}"


def cost_text(rows: Rows, column: str, alike: tuple[str, ...]) -> str:
    """Median of quiet rows; `mixed` where conditions differ."""
    having = [row for row in rows if row[column]]
    if not having:
        return "n/a"
    times = column in ("fps", "latency_p50_ms")
    quiet = [row for row in having if not (times and row["noisy"] == "true")]
    mark = "" if quiet else "*"
    if len({tuple(row[name] for name in alike) for row in having}) > 1:
        return f"mixed{mark}"
    return three_digits(statistics.median(float(row[column]) for row in quiet or having)) + mark


def cells_of(page: Path) -> list[str]:
    """The cells that a page of runs counts, by the links of its first table."""
    text = page.read_text(encoding="utf-8")
    lines = re.findall(r'<tr class="line">.*?</tr>', text, re.DOTALL)
    return [cell for line in lines for cell in re.findall(r'href="#c-([0-9a-f]+)"', line)]


def measured_lines(page: Page) -> list[tuple[str, dict[str, str]]]:
    """Of each measured line of the main tables its page of runs, and its texts by heading."""
    found = []
    for row in page.all("tr"):
        links = [
            e.attributes["href"]
            for e in page.all("a")
            if "../runs/" in e.attributes.get("href", "") and any(row is a for a in e.around)
        ]
        table = row.within("table")
        if not links or table is None:
            continue
        heads = [e.text.strip() for e in page.all("th") if _is_head(e, table)]
        texts = [
            e.text.removesuffix(" (best)").strip()
            for e in page.all("td")
            if any(row is a for a in e.around)
        ]
        found.append(
            (links[0].partition("#")[0], dict(zip(heads[-len(texts) :], texts, strict=True)))
        )
    return found


def _is_head(element: Element, table: Element) -> bool:
    tags = [around.tag for around in element.around]
    return any(around is table for around in element.around) and "thead" in tags


def test_every_mean_and_median_of_the_committed_rows_is_recomputed(site: Path) -> None:
    compared = 0
    for file in sorted((site / "datasets").glob("*.html")):
        rows = stored(file.stem)
        for link, texts in measured_lines(Page(file)):
            mine = [row for cell in cells_of(site / link.removeprefix("../")) for row in rows[cell]]
            assert mine, link
            for heading, text in texts.items():
                if heading in SCORES:
                    assert text == score_text(mine, SCORES[heading]), (link, heading)
                elif heading in COSTS:
                    assert text == cost_text(mine, *COSTS[heading]), (link, heading)
                else:
                    continue
                compared += 1
    measured = {file.parent.name for file in RESULTS.glob("*/*.csv")} & {
        file.stem for file in (site / "datasets").glob("*.html")
    }
    assert compared >= 7 * len(measured) > 0
