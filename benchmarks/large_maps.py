"""Peak memory of `bench run` on large pictures under protocol `native`: maps in memory, in a file.

    python benchmarks/large_maps.py PICTURES [--count 40] [--size 2448 2048] [--methods mean,padim]

PICTURES is a folder as data set `folder` reads it (train/good, test/good, test/TYPE,
ground_truth/TYPE). Its pictures and masks are enlarged into a temporary folder, --count of them for
the test and a quarter as many for training, and each method runs twice in a process of its own:
with a budget that the maps fit in and with one that they do not. Printed are the peak resident
memory of the worker, the same in sizes of the maps, and the largest difference of a score.
`mean` is the distance to the mean picture, so that the memory is that of the harness alone; `padim`
has one layer and few channels, since its state grows with the area.
"""

from __future__ import annotations

import argparse
import itertools
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

from bench.report.choice.quantities import SCORES
from bench.rows.store import ResultStore

MB = 10**6

SETTINGS = """
[run]
protocol = "native"
speed = "one"
batch = 1
map_budget_mb = {budget}
[speed.one]
warmup_steps_cpu = 1
min_steps_cpu = 1
min_s_cpu = 0
max_batch = 1
[methods.padim]
layers = [3]
dimensions = 16
batch = 1
"""

MEAN = '''"""Distance to the mean picture."""
from dataclasses import dataclass
from bench.api import Method, Prediction


@dataclass
class Mean(Method):
    def fit(self, train, run):
        self.mean = sum(x.sum(0) for x in train.batches(1)) / len(train)
        yield {}

    def predict(self, images):
        return Prediction((images - self.mean).abs().mean(1))
'''


def enlarge(source: Path, target: Path, count: int, size: tuple[int, int]) -> int:
    """Write the enlarged set; returns how many test pictures it has."""
    parts = {
        "train/good": sorted((source / "train/good").iterdir())[: max(4, count // 4)],
        "test/good": sorted((source / "test/good").iterdir())[: count // 2],
    }
    defects = [f.name for f in (source / "test").iterdir() if f.name != "good"]
    for name in defects:
        pictures = sorted((source / "test" / name).iterdir())
        parts[f"test/{name}"] = pictures[: (count + 1) // 2 // len(defects)]
    for part, files in parts.items():
        (target / part).mkdir(parents=True)
        for file in files:
            picture = Image.open(file).convert("RGB").resize(size, Image.Resampling.BICUBIC)
            picture.save(target / part / f"{file.stem}.png", compress_level=1)
            kind = part.rpartition("/")[2]
            if kind == "good":
                continue
            (mask,) = (source / "ground_truth" / kind).glob(f"{file.stem}*")
            folder = target / "ground_truth" / kind
            folder.mkdir(parents=True, exist_ok=True)
            Image.open(mask).convert("L").resize(size, Image.Resampling.NEAREST).save(
                folder / f"{file.stem}.png"
            )
    return sum(len(files) for part, files in parts.items() if part.startswith("test"))


def run(project: Path, data: Path, method: str, budget_mb: float) -> tuple[float, dict[str, float]]:
    """Peak resident MB of the largest process of `bench run`, and the scores of its row."""
    results = project / f"results-{method}-{budget_mb:g}"
    (project / "bench.toml").write_text(SETTINGS.format(budget=budget_mb))
    options = ["-m", method, "-d", "folder", "--data-root", str(data), "--random-weights"]
    command = [sys.executable, "-m", "bench", "run", *options, "--device", "cpu", "--threads", "1"]
    child = subprocess.Popen([*command, "--results", str(results)], cwd=project)
    _, status, used = os.wait4(child.pid, 0)  # of the process and of those that it waited for
    if status:
        sys.exit(f"bench run ended with status {os.waitstatus_to_exitcode(status)}")
    (row,) = ResultStore(results).rows()
    scores = {name: v for name in SCORES if (v := getattr(row, name)) is not None}
    print(f"{method}, budget {budget_mb:g} MB: evaluator {row.evaluator or 'in memory'!r}")
    return used.ru_maxrss * 1024 / MB, scores


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--size", type=int, nargs=2, default=(2448, 2048))
    parser.add_argument("--methods", default="mean,padim")
    given = parser.parse_args()
    width, height = given.size
    with tempfile.TemporaryDirectory(prefix="large-maps-") as folder:
        project = Path(folder)
        (project / "methods").mkdir()
        (project / "methods" / "mean.py").write_text(MEAN)
        data = project / "pictures"
        count = enlarge(given.pictures.absolute(), data, given.count, (width, height))
        maps_mb = 4 * count * width * height / MB
        print(f"{count} test pictures of {width} x {height}: maps of {maps_mb:.0f} MB")
        for method in given.methods.split(","):
            small, large = (run(project, data, method, b) for b in (maps_mb / 4, 2 * maps_mb))
            for name, (peak, _) in (("file", small), ("memory", large)):
                print(f"{method}, maps in {name}: peak {peak:.0f} MB, {peak / maps_mb:.2f} of maps")
            names = itertools.chain(small[1], large[1])
            worst = max(abs(small[1][name] - large[1][name]) for name in names)
            print(f"{method}: scores differ by at most {worst:.1e}")


if __name__ == "__main__":
    main()
