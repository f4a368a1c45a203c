"""How long the leaderboard takes from 10,000 rows, and whether torch was imported.

    python benchmarks/site.py [--rows 10000] [--out FOLDER]

The rows are invented: 4 data sets, 15 categories, 3 seeds, as many methods as needed. Prints wall
and CPU seconds of reading the CSV files and of writing the pages. Exits with 1 where both together
take 10 s or more of CPU time, or torch was imported.
"""

from __future__ import annotations

import argparse
import itertools
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from bench.plan.identity import plain
from bench.report.site import build_site, load_site_data
from bench.rows.csv_file import sort_rows, write_csv
from bench.rows.row import Row
from bench.rows.store import ResultStore
from bench.settings.protocol import PROTOCOLS

if TYPE_CHECKING:
    from collections.abc import Iterator

DATASETS = ("mvtec", "visa", "btad", "mtd")
CATEGORIES = [f"category{i:02d}" for i in range(15)]
SEEDS = range(3)
LIMIT = 10.0
HEAVY = ("torch", "timm", "sklearn", "skimage", "matplotlib")


def synthetic_rows(count: int) -> Iterator[Row]:
    """So many rows, method by method."""
    rng = random.Random(0)
    fields = plain(PROTOCOLS["standard"].identity())
    methods = range(-(-count // (len(DATASETS) * len(CATEGORIES) * len(SEEDS))))
    places = itertools.product(methods, DATASETS, CATEGORIES, SEEDS)
    for number, (method, dataset, category, seed) in enumerate(itertools.islice(places, count)):
        score = rng.uniform(0.6, 0.99)
        yield Row(
            cell=f"{number:012x}",
            method=f"method{method:03d}",
            method_version=1,
            dataset=dataset,
            dataset_version=1,
            category=category,
            seed=seed,
            protocol="standard",
            protocol_fields=fields,
            pretrained="pretrained",
            params={"backbone": "resnet18.tv_in1k", "batch": 32, "sigma": 4.0},
            image_auroc=score,
            image_ap=score,
            pixel_auroc=score,
            pixel_ap=score / 2,
            aupro_30=score - 0.1,
            aupro_100=score,
            speed="speed-1",
            fps=100 * score,
            fps_batch=8,
            latency_p50_ms=10 / score,
            infer_mb=500.0,
            params_m=11.2,
            weights="resnet18.tv_in1k@0123456789ab",
            data="0123456789abcdef",
            code="0123456789ab",
            commit="0123456789ab",
            env="0123456789ab",
            device="CUDA",
            threads=2,
            command=f"bench run -m method{method:03d} -d {dataset} -c {category}",
            started="2026-01-01T00:00:00+00:00",
        )


def write_rows(folder: Path, count: int) -> None:
    """One CSV for each data set and method, as runs leave them."""
    files: dict[Path, list[Row]] = {}
    store = ResultStore(folder)
    for row in synthetic_rows(count):
        files.setdefault(store.file(row.dataset, row.method), []).append(row)
    for file, rows in files.items():
        write_csv(file, sort_rows(rows))


def measure(count: int, work: Path, out: Path) -> bool:
    """Print the times; whether they and the imports are as promised."""
    write_rows(work, count)
    clock = [(time.perf_counter(), time.process_time())]
    data = load_site_data([work])
    clock.append((time.perf_counter(), time.process_time()))
    built = build_site(data, out)
    clock.append((time.perf_counter(), time.process_time()))
    size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file()) / 1e6
    print(f"{built.rows} rows, {built.pages} pages, {size:.1f} MB")
    for name, (a, b) in zip(("read", "write"), itertools.pairwise(clock), strict=True):
        print(f"{name:5}  {b[0] - a[0]:5.2f} s wall  {b[1] - a[1]:5.2f} s CPU")
    total = [end - start for start, end in zip(clock[0], clock[-1], strict=True)]
    print(f"total  {total[0]:5.2f} s wall  {total[1]:5.2f} s CPU (limit {LIMIT:.0f} s)")
    imported = [name for name in HEAVY if name in sys.modules]
    print(f"imported: {', '.join(imported) or 'none'} of {', '.join(HEAVY)}")
    return total[1] < LIMIT and not imported


def main() -> int:
    """Exit code 0 where the promise holds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--out", type=Path, default=None, help="keep the pages here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        out = options.out or Path(folder) / "site"
        return 0 if measure(options.rows, Path(folder) / "results", out) else 1


if __name__ == "__main__":
    sys.exit(main())
