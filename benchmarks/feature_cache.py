"""What a cache of features saves the second method on the same images, in one process.

    python benchmarks/feature_cache.py [--backbone NAME] [--images 24] [--only PaDiM]

SPADE stores the features of four stages; then other methods and settings fit and predict, with
that cache and without, in turns. Random weights at 256 pixels, batches of 8, one thread; process
CPU time, reading weights left out. The files were written a moment ago, so that the system has
them in memory: a slow disk adds to the time with the cache, as the last line says how much it has
to read. CFLOW-AD trains for a single pass; its defaults are 200.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from bench.api import Images
from bench.files.tensors import WHOLE
from bench.plan.cells import Cell
from bench.plugins.methods.cflow import Cflow
from bench.plugins.methods.padim import PaDiM
from bench.plugins.methods.patchcore import PatchCore
from bench.plugins.methods.spade import SPADE
from bench.profile.mode import prediction_mode
from bench.run.context import CellRun, seed_everything
from bench.run.feature_cache import open_cache
from bench.settings.protocol import PROTOCOLS
from bench.weights.choice import Weights
from methods import Comparison, machine, table, write_json
from timing import seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor

    from bench.api import Method

SIDE = 256
BATCH = 8
NEIGHBOURS = 5
GOAL = 2.0
ONE_PASS = {"meta_epochs": 1, "sub_epochs": 1, "warmup_epochs": 0}


class Pictures(Images):
    """Smooth random images that are tensors already."""

    def __init__(self, count: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        coarse = torch.randn(count, 3, 16, 16, generator=generator)
        self.pixels = torch.nn.functional.interpolate(coarse, (SIDE, SIDE), mode="bilinear")
        self.image_size = (SIDE, SIDE)

    def __len__(self) -> int:
        return len(self.pixels)

    def batches(
        self,
        size: int,
        *,
        shuffle: bool = False,
        drop_last: bool = False,
        augment: Callable[[Tensor, torch.Generator], Tensor] | None = None,
    ) -> Iterator[Tensor]:
        generator = torch.Generator().manual_seed(0)
        order = torch.randperm(len(self), generator=generator) if shuffle else range(len(self))
        for part in torch.split(torch.as_tensor(list(order)), size):
            images = self.pixels[part]
            if augment is not None:
                images = torch.stack([augment(image, generator) for image in images])
            else:
                setattr(images, WHOLE, True)
            if len(part) == size or not drop_last:
                yield images


@dataclass(frozen=True)
class Second:
    """A method and its settings, which run after SPADE."""

    name: str
    method: type[Method]
    settings: dict[str, Any]
    goal: float | None = GOAL


def grid() -> list[Second]:
    """Settings that take stages of one network."""
    spade = {"neighbours": NEIGHBOURS, "image_score": "squared"}
    cflow = {**ONE_PASS, "batch": BATCH}
    return [
        Second("PaDiM", PaDiM, {"batch": BATCH}),
        Second("PaDiM, batches of 16", PaDiM, {"batch": 16}, None),
        Second("PatchCore, 10 % kept", PatchCore, {}),
        Second("PatchCore, 1 % kept", PatchCore, {"coreset": 0.01}),
        Second("SPADE, other image score", SPADE, spade),
        Second("CFLOW-AD, one pass", Cflow, {**cflow, "augment_degrees": 0.0}, None),
        Second("CFLOW-AD, one pass, augmented", Cflow, cflow, None),
    ]


def ready(method: Method, folder: Path | None) -> tuple[Method, CellRun]:
    """A method whose network is loaded, and whose run has a cache in the folder."""
    cpu = torch.device("cpu")
    cell = Cell("padim", 1, {}, "none", 1, {}, "none", 0, PROTOCOLS["standard"], "random", "")
    features = open_cache(folder, 1e6, cpu, print)
    run = CellRun(cell, cpu, (SIDE, SIDE), Weights("random"), features=features)
    seed_everything(0)
    method.prepare(run)
    return method, run


def work(method: Method, run: CellRun, images: int) -> list[Tensor]:
    """Fit, and the maps of as many test images."""
    for _ in method.fit(Pictures(images, 1), run):
        pass
    with prediction_mode(method):
        return [method.predict(x).require_maps() for x in Pictures(images, 2).batches(BATCH)]


def measure(
    second: Second, backbone: str, images: int, rounds: int, folder: Path
) -> tuple[float, float]:
    """Median seconds without the cache, and with what the folder holds.

    Raises:
        SystemExit: the maps differ in a bit.
    """
    times: dict[bool, list[float]] = {False: [], True: []}
    maps: dict[bool, list[Tensor]] = {}
    for number in range(rounds):
        for is_cached in (False, True):
            # Each round reads what SPADE stored, and nothing that an earlier round added.
            place = folder.with_name(f"{folder.name}-{number}")
            if is_cached:
                shutil.copytree(folder, place)
            method = second.method(**{**second.settings, "backbone": backbone})
            method, run = ready(method, place if is_cached else None)

            def call(method: Method = method, run: CellRun = run, cached: bool = is_cached) -> None:
                maps[cached] = work(method, run, images)

            times[is_cached].append(seconds(call))
            shutil.rmtree(place, ignore_errors=True)
    if not all(torch.equal(a, b) for a, b in zip(maps[False], maps[True], strict=True)):
        raise SystemExit(f"{second.name}: maps with the cache are others")
    return statistics.median(times[False]), statistics.median(times[True])


def compare(backbone: str, images: int, rounds: int, only: str) -> Iterator[Comparison]:
    """Ratios above 1: the cache saves time."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary, "features")
        spade = {"backbone": backbone, "neighbours": NEIGHBOURS}
        alone = seconds(lambda: work(*ready(SPADE(**spade), None), images))
        first = seconds(lambda: work(*ready(SPADE(**spade), folder), images))
        yield Comparison("SPADE, the first: without / with the cache", alone / first, None)
        for second in (line for line in grid() if line.name.startswith(only)):
            without, cached = measure(second, backbone, images, rounds, folder)
            name = f"{second.name}: {without:.1f} s / {cached:.1f} s"
            yield Comparison(name, without / cached, second.goal)
        held = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        print(f"{held / 1e6 / (2 * images):.1f} MB of features for each image")


def main() -> None:
    """Print the ratios."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--backbone", default="resnet18.tv_in1k")
    parser.add_argument("--images", type=int, default=24, help="of training, and of the test")
    parser.add_argument("--rounds", type=int, default=3, help="of which the median counts")
    parser.add_argument("--only", default="", help="start of the names of lines")
    parser.add_argument("--json", metavar="FILE", help="write the ratios there as well")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{machine('cpu')}; {arguments.backbone}, {arguments.images} + {arguments.images} images")
    found = []
    asked = (arguments.backbone, arguments.images, arguments.rounds, arguments.only)
    for comparison in compare(*asked):
        print(f"{comparison.name}: {comparison.ratio:.2f}", flush=True)
        found.append(comparison)
    print(table(found))
    if arguments.json:
        write_json(found, arguments.json)


if __name__ == "__main__":
    main()
