"""PatchCore's cost against the published way, FAISS, scikit-learn and anomalib, in one process.

    python benchmarks/patchcore.py [--device cuda]

Embedding, selection and search have the published sizes (WideResNet-50-2 at 224 pixels: 784 cells
of 1024 numbers, 16 386 kept, selected under 128) on random features. Fit and inference are whole,
with ResNet18 and random weights. The sides take turns; a ratio is the other side's median over
ours. Process CPU time on a CPU, wall time after synchronisation on a GPU. FAISS, scikit-learn and
anomalib are compared where they can be imported; the first two run on the CPU alone.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.util
import io
import platform
import statistics
from typing import TYPE_CHECKING, Any

import torch
from padim import Pixels, RandomRun
from torch.nn.functional import adaptive_avg_pool1d, interpolate, unfold

from bench.blocks.nearest import LIMIT_MB, nearest
from bench.plugins.methods.patchcore import PatchCore
from bench.plugins.methods.patchcore.coreset import approximate_greedy
from bench.plugins.methods.patchcore.embedding import PatchEmbedding
from bench.profile.memory import memory_of
from timing import alternate, ratio

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

SIDE = 224
WIDTH = 1024
CELLS = 784
BANK = 16_386
EIGHTH = 8
ROUNDS = 3
Line = tuple[str, float, "float | None"]


def drawn(*shape: int, device: torch.device, seed: int = 0) -> Tensor:
    """Positive numbers with many zeros, as after a rectifier."""
    values = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return values.relu_().to(device)


def embed_as_published(features: list[Tensor]) -> Tensor:
    """Every patch unfolded, upsampled, and pooled twice."""
    pooled = []
    for number, feature in enumerate(features):
        batch, channels, height, width = feature.shape
        patches = unfold(feature, 3, padding=1).view(batch, channels * 9, height, width)
        if number:
            size = features[0].shape[2:]
            patches = interpolate(patches, size=size, mode="bilinear", align_corners=False)
        rows = patches.permute(0, 2, 3, 1).reshape(-1, 1, channels * 9)
        pooled.append(adaptive_avg_pool1d(rows, WIDTH).squeeze(1))
    joined = torch.stack(pooled, 1).reshape(len(pooled[0]), 1, -1)
    return adaptive_avg_pool1d(joined, WIDTH).squeeze(1)


def embedding(device: torch.device) -> Line:
    """An image's embedding at the published widths."""
    features = [
        drawn(1, 512, 28, 28, device=device),
        drawn(1, 1024, 14, 14, device=device, seed=1),
    ]
    ours = PatchEmbedding([512, 1024], 3, [WIDTH, WIDTH], WIDTH)
    found, wanted = ours(features).flatten(0, 2), embed_as_published(features)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    name = "patchcore embedding, unfold and pool / ours"
    times = ratio(
        lambda: embed_as_published(features), lambda: ours(features), str(device), rounds=5
    )
    return name, times, 20.0


def distances_as_published(vectors: Tensor, others: Tensor) -> Tensor:
    """(N, M) Euclidean distances; all lengths are computed at every call."""
    lengths = vectors.square().sum(1, keepdim=True)
    squares = lengths + others.square().sum(1) - 2 * vectors @ others.T
    return squares.clamp(min=0).sqrt()


def select_as_published(vectors: Tensor, count: int, start: Tensor) -> Tensor:
    """One pass over all vectors for each pick."""
    anchor = distances_as_published(vectors, vectors[start]).mean(1, keepdim=True)
    rows = []
    for _ in range(count):
        row = int(anchor.argmax())
        rows.append(row)
        apart = distances_as_published(vectors, vectors[row : row + 1])
        anchor = torch.cat((anchor, apart), 1).min(1, keepdim=True).values
    return torch.tensor(rows)


def selection(device: torch.device, count: int = 32_000, picks: int = 160) -> Line:
    """The published selection under 128 dimensions, one pick of 200 vectors."""
    generator = torch.Generator().manual_seed(0)
    # As features are: few dimensions hold most of the variance.
    mixed = torch.randn(count, 24, generator=generator) @ torch.randn(24, 128, generator=generator)
    vectors = (mixed + 0.3 * torch.randn(count, 128, generator=generator)).to(device)
    start = torch.randperm(count, generator=generator)[:10]
    found = approximate_greedy(vectors, picks, start)
    if not torch.equal(found, select_as_published(vectors, picks, start)):
        raise RuntimeError("the selections differ: a ratio of their times would mean nothing")
    name = "patchcore selection, published loop / ours"
    times = ratio(
        lambda: select_as_published(vectors, picks, start),
        lambda: approximate_greedy(vectors, picks, start),
        str(device),
        ROUNDS,
    )
    return name, times, 2.5


def all_by_differences(queries: Tensor, bank: Tensor) -> Tensor:
    """Every distance from differences: right for near-duplicates, as ours is."""
    mode = "donot_use_mm_for_euclid_dist"
    return torch.cdist(queries, bank, compute_mode=mode).min(1).values


def all_by_products(queries: Tensor, bank: Tensor) -> Tensor:
    """Every distance from one product: fast, and wrong for near-duplicates."""
    return distances_as_published(queries, bank).min(1).values


def search(device: torch.device) -> list[Line]:
    """The cells of an image in a memory bank, against other exact searches."""
    queries = drawn(CELLS, WIDTH, device=device)
    bank = drawn(BANK, WIDTH, device=device, seed=1)
    sides: dict[str, Callable[[], object]] = {
        "ours": lambda: nearest(queries, bank),
        "all at once by differences": lambda: all_by_differences(queries[::EIGHTH], bank),
        "all at once by products": lambda: all_by_products(queries, bank),
    }
    if device.type == "cpu":
        sides |= peers(queries, bank)
    found = alternate(sides, device, ROUNDS + 1)
    times = {name: statistics.median(values[1:]) for name, values in found.items()}
    times["all at once by differences"] *= EIGHTH  # every query costs the same
    goals = {"all at once by differences": 3.0}
    return [
        (f"patchcore search, {name} / ours", seconds / times["ours"], goals.get(name))
        for name, seconds in times.items()
        if name != "ours"
    ]


def peers(queries: Tensor, bank: Tensor) -> dict[str, Callable[[], object]]:
    """FAISS's flat index and scikit-learn's brute force, built once; where they are installed."""
    found: dict[str, Callable[[], object]] = {}
    new, known = queries.numpy(), bank.numpy()
    if importlib.util.find_spec("faiss") is None:
        print("patchcore: faiss is not installed here; its comparisons are left out")
    else:
        faiss: Any = importlib.import_module("faiss")
        faiss.omp_set_num_threads(torch.get_num_threads())
        index = faiss.IndexFlatL2(known.shape[1])
        index.add(known)
        found["FAISS flat"] = lambda: index.search(new, 1)
    if importlib.util.find_spec("sklearn") is None:
        print("patchcore: scikit-learn is not installed here; its comparison is left out")
    else:
        neighbours: Any = importlib.import_module("sklearn.neighbors")
        brute = neighbours.NearestNeighbors(n_neighbors=1, algorithm="brute").fit(known)
        found["scikit-learn brute force"] = lambda: brute.kneighbors(new)
    return found


def near_duplicates() -> list[Line]:
    """Largest relative error of the distance to a near-duplicate, over ours."""
    queries = drawn(CELLS, WIDTH, device=torch.device("cpu")) + 0.1
    bank = drawn(2000, WIDTH, device=torch.device("cpu"), seed=1) + 0.1
    bank[:CELLS] = queries
    bank[:CELLS, 0] += 1e-3
    wanted = (bank[:CELLS, 0].double() - queries[:, 0].double()).square()

    def error(squares: Tensor) -> float:
        return float(((squares.double() - wanted).abs() / wanted).max())

    ours = error(nearest(queries, bank).squares[:, 0])
    lines: list[Line] = [("near-duplicates, our largest relative error (at most)", ours, 1e-6)]
    if importlib.util.find_spec("faiss") is not None:
        faiss: Any = importlib.import_module("faiss")
        index = faiss.IndexFlatL2(WIDTH)
        index.add(bank.numpy())
        squares = torch.from_numpy(index.search(queries.numpy(), 1)[0][:, 0])
        lines.append(
            ("near-duplicates, largest relative error of FAISS flat", error(squares), None)
        )
    return lines


def memory(device: torch.device) -> Line:
    """Peak of a search, with a bank of 256 MB."""
    queries = drawn(CELLS, WIDTH, device=device)
    bank = drawn(65_536, WIDTH, device=device, seed=1)
    nearest(queries, bank[:2000])  # what the libraries set up once
    counter = memory_of(device)
    counter.restart()
    held = counter.level_mb()
    nearest(queries, bank)
    peak = counter.peak_mb() - held
    counter.close()
    return "patchcore search, MB beside a bank of 268 MB (at most)", peak, LIMIT_MB


def fit_ours(method: PatchCore, train: Pixels) -> None:
    for _ in method.fit(train, RandomRun(train.pixels.device)):
        pass


def fit_anomalib(model: Any, train: Pixels, share: float) -> None:
    model.train()
    model.feature_extractor.eval()
    model.embedding_store = []
    for images in train.batches(8):
        model(images)
    with contextlib.redirect_stderr(io.StringIO()):  # a progress bar
        model.subsample_embedding(share)
    model.eval()


def whole(device: torch.device, images: int = 8) -> list[Line]:
    """Fit and inference against anomalib's model: same network, patches, coreset and score."""
    if importlib.util.find_spec("anomalib") is None:
        print("patchcore: anomalib is not installed here; its two comparisons are left out")
        return []
    module: Any = importlib.import_module("anomalib.models.image.patchcore.torch_model")
    pixels = torch.randn(images, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    train, test = Pixels(pixels.to(device)), pixels[:8].to(device)
    ours = PatchCore(
        backbone="resnet18.tv_in1k",
        neighbourhood="mean",
        selection="greedy",
        squared=False,
        image_score="paper",
    )
    ours.prepare(RandomRun(device))
    layers = ["layer2", "layer3"]
    theirs = module.PatchcoreModel(layers, backbone="resnet18", pre_trained=False).to(device)
    fits = ratio(
        lambda: fit_anomalib(theirs, train, ours.coreset),
        lambda: fit_ours(ours, train),
        str(device),
        rounds=1,
    )
    steps = ratio(lambda: theirs(test), lambda: ours.predict(test), str(device), ROUNDS)
    # A bank as of 209 images, where the matrix product of the search takes most of the time.
    theirs.memory_bank = ours.memory = drawn(BANK, ours.memory.shape[1], device=device)
    large = ratio(lambda: theirs(test), lambda: ours.predict(test), str(device), ROUNDS)
    return [
        ("patchcore fit, anomalib / ours", fits, 2.0),
        ("patchcore inference, anomalib / ours", steps, 1.5),
        (f"patchcore inference, {BANK} vectors kept, anomalib / ours", large, None),
    ]


@torch.inference_mode()
def compare(device: torch.device | str) -> list[Line]:
    """Name, ratio and goal of each comparison; ratios above the goal are good, unless "at most"."""
    device = torch.device(device)
    lines = [embedding(device), selection(device), *search(device), memory(device)]
    return [*lines, *near_duplicates(), *whole(device)]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--device", default="cpu")
    torch.set_num_threads(1)
    print(f"{platform.processor() or platform.machine()}, torch {torch.__version__}, one thread")
    for name, value, goal in compare(parser.parse_args().device):
        wanted = "" if goal is None else f"   goal {goal:.3g}"
        print(f"{name:58s} {value:8.3g}{wanted}")


if __name__ == "__main__":
    main()
