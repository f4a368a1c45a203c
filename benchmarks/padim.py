"""PaDiM's cost against per-position loops and against anomalib's model, in one process.

    python benchmarks/padim.py [--device cuda] [--images 64] [--wide]

Both sides have ResNet18 with random weights, the same images and the same threads, and take turns;
a ratio is the other side's median over ours. Process CPU time on a CPU, wall time after
synchronisation on a GPU. Inference is a test run of 32 images, 8 at a time; as published, the loops
invert their covariances in it. anomalib is compared where it can be imported.
"""

from __future__ import annotations

import argparse
import importlib.util
import platform
import statistics
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from scipy.spatial.distance import mahalanobis
from torch.nn.functional import fold, interpolate, unfold

from bench.api import Images, Run
from bench.plugins.methods.padim import PaDiM, draw_channels
from bench.weights.choice import Weights
from bench.weights.loading import load_backbone
from timing import alternate, seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from bench.api import Backbone

SIDE = 224
BATCH = 8
TEST = 32
ROUNDS = 3


class Pixels(Images):
    """Training images that are already tensors."""

    def __init__(self, pixels: Tensor) -> None:
        self.pixels = pixels
        self.image_size = (pixels.shape[-2], pixels.shape[-1])

    def __len__(self) -> int:
        return len(self.pixels)

    def batches(self, size: int, **_: Any) -> Iterator[Tensor]:
        return iter(torch.split(self.pixels, size))


class RandomRun(Run):
    """A run whose backbones have random weights."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seed = 0
        self.image_size = (SIDE, SIDE)

    def generator(self, purpose: str) -> torch.Generator:
        return torch.Generator().manual_seed(len(purpose))

    def backbone(self, name: str, layers: Sequence[int] | Sequence[str]) -> Backbone:
        return load_backbone(name, layers, Weights("random"), seed=0, device=self.device)[0]


def attach(fine: Tensor, coarse: Tensor) -> Tensor:
    """Each coarse vector joined to the s x s cells under it, by unfold, a loop and fold."""
    batch, channels, height, width = fine.shape
    _, more, rows, columns = coarse.shape
    ratio = height // rows
    cells = unfold(fine, kernel_size=ratio, stride=ratio).view(batch, channels, -1, rows, columns)
    joined = torch.zeros(batch, channels + more, cells.shape[2], rows, columns)
    for i in range(cells.shape[2]):
        joined[:, :, i] = torch.cat((cells[:, :, i], coarse.cpu()), 1)
    flat = joined.view(batch, -1, rows * columns)
    return fold(flat, kernel_size=ratio, output_size=(height, width), stride=ratio)


class LoopPaDiM:
    """What the common implementation does: all features held, a Python loop over positions."""

    def __init__(self, run: RandomRun) -> None:
        self.extractor = run.backbone("resnet18.tv_in1k", (1, 2, 3))
        self.index = draw_channels(448, 100, 1024, run)

    def embed(self, images: Tensor) -> NDArray[np.float32]:
        """(B, d, positions): coarse maps repeated, all channels joined, then selected."""
        fine, middle, coarse = (f.cpu() for f in self.extractor(images))
        joined = attach(attach(fine, middle), coarse)
        return joined.index_select(1, self.index.cpu()).flatten(2).numpy()

    def fit(self, train: Pixels) -> None:
        held = np.concatenate([self.embed(batch) for batch in train.batches(32)])
        self.mean = held.mean(0)
        unit = 0.01 * np.identity(held.shape[1])
        self.covariance = np.empty((held.shape[1], held.shape[1], held.shape[2]), np.float32)
        for p in range(held.shape[2]):
            self.covariance[:, :, p] = np.cov(held[:, :, p], rowvar=False) + unit

    def run(self, test: Tensor) -> NDArray[np.float32]:
        """The test pass: covariances are inverted once in it, then one SciPy call per vector."""
        embedding = np.concatenate([self.embed(batch) for batch in torch.split(test, BATCH)])
        rows = []
        for p in range(embedding.shape[2]):
            inverse = np.linalg.inv(self.covariance[:, :, p])
            rows.append([mahalanobis(x[:, p], self.mean[:, p], inverse) for x in embedding])
        side = round(embedding.shape[2] ** 0.5)
        grid = torch.tensor(rows).T.reshape(-1, 1, side, side)
        maps = interpolate(grid, size=test.shape[-2:], mode="bilinear", align_corners=False)
        return np.stack([gaussian_filter(m, sigma=4) for m in maps[:, 0].numpy()])


def medians(sides: dict[str, Callable[[], object]], device: torch.device) -> dict[str, float]:
    """Median seconds of each side, taking turns after one warm-up each."""
    found = alternate(sides, device, ROUNDS + 1)
    return {name: statistics.median(values[1:]) for name, values in found.items()}


def anomalib_model(device: torch.device) -> Any | None:
    """anomalib's ResNet18 model with random weights, or None where it is not installed."""
    if importlib.util.find_spec("anomalib") is None:
        return None
    from anomalib.models.image.padim.torch_model import PadimModel

    return PadimModel(backbone="resnet18", pre_trained=False).to(device)


def fit_anomalib(model: Any, train: Pixels) -> None:
    model.train()
    model.feature_extractor.eval()
    for images in train.batches(32):
        model(images)
    model.fit()
    model.eval()


def fit_ours(method: PaDiM, train: Pixels) -> None:
    for _ in method.fit(train, RandomRun(train.pixels.device)):
        pass


def prepared(device: torch.device, **fields: Any) -> PaDiM:
    method = PaDiM(**fields)
    method.prepare(RandomRun(device))
    return method


@torch.inference_mode()
def compare(device: torch.device | str, images: int = 64) -> list[tuple[str, float, float]]:
    """Name, ratio and goal of each comparison; ratios above the goal are good.

    Args:
        device: where both sides run.
        images: training images; below 100 the default form is the low-rank one.
    """
    device = torch.device(device)
    pixels = torch.randn(images, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    train, test = Pixels(pixels.to(device)), pixels[:TEST].to(device)
    ours, full = prepared(device), prepared(device, covariance="full")
    loops = LoopPaDiM(RandomRun(device))
    loops.fit(train)
    fits: dict[str, Callable[[], object]] = {
        "ours": lambda: fit_ours(ours, train),
        "full": lambda: fit_ours(full, train),
    }
    predicts: dict[str, Callable[[], object]] = {
        "ours": lambda: [ours.predict(batch) for batch in torch.split(test, BATCH)],
        "full": lambda: [full.predict(batch) for batch in torch.split(test, BATCH)],
        "loops": lambda: loops.run(test),
    }
    model = anomalib_model(device)
    if model is None:
        print("padim: anomalib is not installed here; its two comparisons are left out")
    else:
        fits["anomalib"] = lambda: fit_anomalib(model, train)
        predicts["anomalib"] = lambda: [model(batch) for batch in torch.split(test, BATCH)]
    fit_s = medians(fits, device)
    predict_s = medians(predicts, device)
    share = ours.factor.numel() + ours.mean.numel(), full.factor.numel() + full.mean.numel()
    rank = images / ours.dimensions
    results = [("padim inference, loops / ours", predict_s["loops"] / predict_s["ours"], 2.5)]
    results += [("padim inference, loops / full form", predict_s["loops"] / predict_s["full"], 2.5)]
    if rank < 1:
        results += [("padim state, full / low rank (goal d/N)", share[1] / share[0], 1 / rank)]
    if model is not None:
        for form in ("ours", "full"):
            name = "ours" if form == "ours" else "full form"
            results += [
                (f"padim fit, anomalib / {name}", fit_s["anomalib"] / fit_s[form], 2.0),
                (
                    f"padim inference, anomalib / {name}",
                    predict_s["anomalib"] / predict_s[form],
                    1.3,
                ),
            ]
    return results


@torch.inference_mode()
def forms(device: torch.device | str, images: int = 16) -> list[tuple[str, float, float, float]]:
    """State (MB), fit (s) and images per second of both forms, WideResNet-50-2, 550 dimensions."""
    device = torch.device(device)
    pixels = torch.randn(images, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    train, batch = Pixels(pixels.to(device)), pixels[:BATCH].to(device)
    table = []
    for form in ("lowrank", "full"):
        method = prepared(
            device,
            backbone="wide_resnet50_2.tv_in1k",
            dimensions=550,
            covariance=form,
        )
        fit_s = seconds(partial(fit_ours, method, train), device)
        step_s = medians({form: partial(method.predict, batch)}, device)[form]
        state_mb = 4e-6 * (method.factor.numel() + method.mean.numel())
        table.append((form, state_mb, fit_s, BATCH / step_s))
    return table


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--wide", action="store_true", help="both forms at 550 dimensions, too")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{platform.processor() or platform.machine()}, torch {torch.__version__}, one thread")
    for name, ratio, goal in compare(arguments.device, arguments.images):
        print(f"{name:45s} {ratio:6.2f}   goal {goal:.2f}")
    if arguments.wide:  # the full form takes 8 GB
        for form, state_mb, fit_s, fps in forms(arguments.device):
            print(
                f"wide {form:8s} state {state_mb:8.1f} MB, fit {fit_s:6.1f} s, {fps:5.1f} images/s"
            )


if __name__ == "__main__":
    main()
