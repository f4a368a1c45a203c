"""Measure the exact evaluator: against one sort of the same pixels, and against other libraries.

    python benchmarks/evaluator.py                        CPU, every peer that is installed
    python benchmarks/evaluator.py --anomalous 0.03       one share of anomalous pixels
    python benchmarks/evaluator.py --device cuda --images 20 --size 1024

The unit is one keys-only `np.sort` of a float32 copy of all pixels. Times are process CPU time,
the least of a few runs, both sides of a ratio taken in turn in one process. Memory is what Python
and NumPy hold above the inputs, by tracemalloc. Peers are measured where they can be imported;
install anomalib, adeval and torchmetrics into an environment of the benchmark's own. ADEval needs
NumPy before 2.4.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import tracemalloc
import warnings
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.ndimage import gaussian_filter

from bench.evaluate import Evaluation, evaluate, label_masks
from bench.evaluate.binary import BinarySums
from bench.evaluate.inputs import read_set
from bench.evaluate.pimo import aupimo_per_image
from bench.evaluate.pro import RegionSums
from bench.evaluate.published import mvtec
from bench.evaluate.ranks import rank
from bench.evaluate.samples import Piece
from methods import Comparison, table, write_json
from timing import alternate, seconds

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray


GOAL = 10.0
"""Times that a GPU should be faster than one core."""


@dataclass(frozen=True)
class Data:
    """Score maps (n, h, w) float32, masks uint8 of the same shape, labels (n,)."""

    maps: NDArray[np.float32]
    masks: NDArray[np.uint8]
    labels: NDArray[np.int64]


def planted(images: int, size: int, share: float, *, signed: bool) -> Data:
    """Smooth noise, raised in blobs that cover a share of all pixels; a quarter of images good."""
    rng = np.random.default_rng(0)
    labels = (np.arange(images) % 4 > 0).astype(np.int64)
    masks = np.zeros((images, size, size), np.uint8)
    maps = np.empty((images, size, size), np.float32)
    for index, label in enumerate(labels):
        noise = gaussian_filter(rng.standard_normal((size, size)), 2)
        if label:
            field = gaussian_filter(rng.standard_normal((size, size)), size / 32)
            masks[index] = field > np.quantile(field, 1 - share * images / labels.sum())
        scores = noise / noise.std() + masks[index]
        maps[index] = scores if signed else np.exp(scores / 2)
    return Data(maps, masks, labels)


def ours(data: Data) -> None:
    """AUROC, AP, F1-max and AUPRO at two limits, checks and labelling included."""
    test = read_set(data.maps, data.masks, data.labels, None, None)
    regions = test.label()
    ranks = rank([Piece(*pair) for pair in zip(test.maps, test.masks, strict=True)], regions.ids)
    binary, areas = BinarySums(ranks), RegionSums(regions.sizes, ranks.negatives, (0.05, 0.3))
    for block in ranks.blocks():
        binary.add(block)
        areas.add(block)
    binary.values()
    areas.per_region(0.3).mean()


def everything(data: Data) -> None:
    """All of `evaluate`: three limits, AUPIMO and image metrics as well."""
    evaluate(data.maps, data.masks, data.labels, data.maps.max((1, 2)))


def scikit_learn(data: Data) -> None:
    """AUROC, AP and the precision-recall curve."""
    metrics = importlib.import_module("sklearn.metrics")
    scores, flags = data.maps.ravel(), data.masks.ravel()
    metrics.roc_auc_score(flags, scores)
    metrics.average_precision_score(flags, scores)
    metrics.precision_recall_curve(flags, scores)


def mvtec_rules(data: Data) -> None:
    """AUPRO alone by the steps of the MVTec AD script, written anew."""
    mvtec(list(data.maps), [mask.astype(bool) for mask in data.masks])


def torchmetrics(data: Data) -> None:
    """AUROC and AP over all thresholds."""
    functions = importlib.import_module("torchmetrics.functional.classification")
    torch = importlib.import_module("torch")
    scores, flags = torch.from_numpy(data.maps.ravel()), torch.from_numpy(data.masks.ravel())
    functions.binary_auroc(scores, flags.long())
    functions.binary_average_precision(scores, flags.long())


def anomalib(data: Data) -> None:
    """AUROC, AUPR, F1Max and AUPRO."""
    metrics = importlib.import_module("anomalib.metrics")
    torch = importlib.import_module("torch")
    scores, masks = torch.from_numpy(data.maps), torch.from_numpy(data.masks).int()
    for name in ("AUROC", "AUPR", "F1Max", "AUPRO"):
        # The class without its adapter to anomalib's batches, which is the metric itself.
        metric = getattr(metrics, name).__mro__[2]()
        pair = (scores, masks) if name == "AUPRO" else (scores.flatten(), masks.flatten())
        metric.update(*pair)
        metric.compute()


def adeval(data: Data) -> None:
    """AUROC, AUPR and AUPRO of 1000 strips."""
    package = importlib.import_module("adeval")
    counter = package.EvalAccumulator(
        float(data.maps.min()),
        float(data.maps.max()),
        float(data.maps.min()),
        float(data.maps.max()),
        skip_pixel_aupro=False,
    )
    for anomaly_map, mask in zip(data.maps, data.masks, strict=True):
        counter.add_anomap(anomaly_map, mask)
    for score, label in zip(data.maps.max((1, 2)), data.labels, strict=True):
        counter.add_image(float(score), int(label))
    counter.summary()


def anomalib_aupimo(data: Data) -> None:
    """AUPIMO with anomalib's defaults."""
    pimo = importlib.import_module("anomalib.metrics.pimo")
    torch = importlib.import_module("torch")
    metric = pimo.AUPIMO.__mro__[2]()
    metric.update(torch.from_numpy(data.maps), torch.from_numpy(data.masks).int())
    metric.compute()


PEERS: dict[str, tuple[str, Callable[[Data], None]]] = {
    "scikit-learn, 3 calls": ("sklearn", scikit_learn),
    "MVTec rules, AUPRO": ("numpy", mvtec_rules),
    "anomalib, 4 metrics": ("anomalib", anomalib),
    "ADEval, 1000 strips": ("adeval", adeval),
    "torchmetrics, 2 metrics": ("torchmetrics", torchmetrics),
}


def in_turn(functions: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Least CPU time of each, all taken in turn."""
    return {name: min(found) for name, found in alternate(functions, rounds=repeats).items()}


def peak_bytes(function: Callable[[], object]) -> int:
    tracemalloc.start()
    function()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def _why_broken(function: Callable[[Data], None], data: Data) -> str:
    """What a peer that is installed fails with, on a few of the images; empty where it works."""
    few = Data(data.maps[:4], data.masks[:4], data.labels[:4])
    try:
        function(few)
    except Exception as error:  # noqa: BLE001 - another's code may fail in any way: said, not hidden
        return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
    return ""


def report_cpu(data: Data, title: str, repeats: int, peers: bool) -> None:
    test = read_set(data.maps, data.masks, data.labels, None, None)
    best = in_turn(
        {
            "sort": lambda: np.sort(data.maps, axis=None),
            "ours": lambda: ours(data),
            "everything": lambda: everything(data),
            "labels": lambda: label_masks(list(data.masks)),
            "aupimo": lambda: aupimo_per_image(test),
        },
        repeats,
    )
    share = data.masks.mean()
    print(f"\n{title}: {data.maps.shape}, {share:.1%} anomalous, sort {best['sort'] * 1e3:.1f} ms")
    for name, key in (
        ("AUROC, AP, F1-max, 2 AUPRO", "ours"),
        ("of these labelling", "labels"),
        ("evaluate, all metrics", "everything"),
        ("of these AUPIMO", "aupimo"),
    ):
        print(f"  {name + ' / sort':36}{best[key] / best['sort']:7.2f}")
    memory = peak_bytes(lambda: everything(data)) / data.maps.nbytes
    print(f"  {'evaluate, peak memory / maps':36}{memory:7.2f}")
    if not peers:
        return
    for name, (package, function) in PEERS.items():
        if not _can_import(package):
            continue
        if broken := _why_broken(function, data):
            print(f"  {name + ': broken here':36}{broken}")
            continue
        found = in_turn({"ours": lambda: ours(data), name: partial(function, data)}, 2)
        print(f"  {name + ' / the first':36}{found[name] / found['ours']:7.1f}")
    if _can_import("anomalib") and not _why_broken(anomalib_aupimo, data):
        theirs = seconds(lambda: anomalib_aupimo(data))
        print(f"  {'anomalib AUPIMO / ours':36}{theirs / best['aupimo']:7.1f}")


def _can_import(package: str) -> bool:
    try:
        importlib.import_module(package)
    except ImportError as error:
        print(f"  {package}: left out, {error}")
        return False
    return True


def report_cuda(data: Data, repeats: int) -> Comparison:
    """Wall time of both engines; on the device the maps lie there before and stay there.

    Raises:
        SystemExit: no CUDA device, or numbers that are not the same.
    """
    torch = importlib.import_module("torch")
    if not torch.cuda.is_available():
        raise SystemExit("--device cuda: torch finds no CUDA device")
    maps = torch.from_numpy(data.maps).cuda()
    regions = label_masks(list(data.masks))

    def found(scores: Any) -> Evaluation:
        return evaluate(scores, data.masks, data.labels, limits=(0.05, 0.3), regions=regions)

    def wall(scores: Any) -> float:
        return min(seconds(lambda: found(scores), "cuda") for _ in range(repeats))

    if found(data.maps) != found(maps):
        raise SystemExit("the numbers of the device are not those of the CPU")

    host, device = wall(data.maps), wall(maps)
    name = torch.cuda.get_device_name()
    print(f"{data.maps.shape}, {data.masks.mean():.1%} anomalous, labelling cached")
    print(f"  CPU {host * 1e3:.1f} ms, {name} {device * 1e3:.1f} ms, the same numbers")
    label = f"evaluator: CPU over device, {len(data.maps)} maps, {data.masks.mean():.0%} anomalous"
    return Comparison(label, host / device, GOAL)


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, default=83)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--anomalous", type=float, nargs="+", default=[0.3, 0.03])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--json", metavar="FILE", help="on a GPU: write the ratios there as well")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    if options.device == "cuda":
        sets = (planted(options.images, options.size, s, signed=False) for s in options.anomalous)
        found = [report_cuda(data, options.repeats) for data in sets]
        print(table(found))
        if options.json:
            write_json(found, options.json)
        sys.exit(any(c.is_met is False for c in found))
    for share in options.anomalous:
        for signed in (False, True):
            data = planted(options.images, options.size, share, signed=signed)
            title = "signed scores" if signed else "scores >= 0"
            report_cpu(data, title, options.repeats, not options.no_peers and not signed)


if __name__ == "__main__":
    main()
