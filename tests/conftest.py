"""Fixtures that several tests need: training images and a run, without files or downloads."""

from __future__ import annotations

import gc
import hashlib
import os
from typing import TYPE_CHECKING, Any

import pytest

# Two threads at most, and none that spin: test workers share the machine.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import timm
import torch
from hypothesis import settings

from bench.api import Images, Run
from bench.blocks.backbone import build_backbone
from bench.files.held_out import published_split, split_indices
from bench.report.paper.published import PublishedNumbers, load_published
from bench.run.scratch import mapped_zeros
from bench.weights.loading import fresh_network
from tests import golden_files

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

    from torch import Tensor, nn

    from bench.api import Backbone

    Layers = Sequence[int] | Sequence[str]

# No deadline for an example: on a busy machine it measures the other processes.
settings.register_profile("bench", deadline=None)
settings.load_profile("bench")


@pytest.fixture(scope="session")
def published() -> PublishedNumbers:
    """The published numbers of the checkout: some thousand lines, read once."""
    return load_published()


FOUND_IN_GOLDEN = golden_files.Record()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--golden",
        metavar="DIR",
        help="read golden files from this folder, and end with the largest error of each",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "golden_lacks(file, array): no such array to compare with")
    chosen = config.getoption("golden")
    if chosen is not None:
        golden_files.session.use(config.invocation_params.dir / chosen)


def pytest_collection_finish() -> None:
    """What is imported by now stays; collections of garbage need not look through it."""
    gc.collect()
    gc.freeze()


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device; `make gpu` runs it where there is one")
    golden_files.session.record = golden_files.Record()
    for mark in item.iter_markers("golden_lacks"):
        pytest.skip(golden_files.session.lacks(*mark.args))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, None, None]:
    """A test that found nothing to compare with, for what its file lacks, did not pass."""
    yield
    session = golden_files.session
    if session.record.lacking and not session.record.compared:
        pytest.skip(golden_files.lacking_line(*session.record.lacking[0], session.folder))


def pytest_runtest_teardown(item: pytest.Item) -> None:
    if golden_files.session.record:
        item.user_properties.append(golden_files.session.record.as_property())


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Gather what the tests found; the process that writes the table gets all reports."""
    for name, value in report.user_properties if report.when == "teardown" else ():
        if name == "golden" and isinstance(value, dict):
            FOUND_IN_GOLDEN.add_property(value)


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    if config.getoption("golden") is None:
        return
    folder = golden_files.session.folder
    terminalreporter.section(f"golden files of {folder}")
    for line in golden_files.table(FOUND_IN_GOLDEN, folder):
        terminalreporter.write_line(line)


class TensorImages(Images):
    """Training images that are already tensors."""

    def __init__(self, pixels: Tensor, seed: int = 0) -> None:
        self.pixels = pixels
        self.image_size = (pixels.shape[-2], pixels.shape[-1])
        self.order = torch.Generator().manual_seed(seed)

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
        count = len(self)
        order = torch.randperm(count, generator=self.order) if shuffle else torch.arange(count)
        for start in range(0, count, size):
            index = order[start : start + size]
            if drop_last and len(index) < size:
                return
            batch = self.pixels[index]
            if augment is not None:
                batch = torch.stack([augment(image, self.order) for image in batch])
            yield batch

    def hold_out(
        self, share: float, purpose: str, seed: int | None = None
    ) -> tuple[Images, Images]:
        if seed is None:
            rest, held = split_indices(len(self), share, 0, purpose)
        else:
            rest, held = published_split(len(self), share, seed, purpose)
        return TensorImages(self.pixels[rest]), TensorImages(self.pixels[held])


class _Backbone(torch.nn.Module):
    def __init__(self, name: str, layers: Sequence[int]) -> None:
        super().__init__()
        self.net = timm.create_model(
            name, pretrained=False, features_only=True, out_indices=tuple(layers)
        )
        info: Any = self.net.feature_info
        self.channels: list[int] = info.channels()
        self.strides: list[int] = info.reduction()

    def forward(self, images: Tensor) -> list[Tensor]:
        return list(self.net(images))


class CpuRun(Run):
    """A run on the CPU whose networks have random weights."""

    def __init__(self, image_size: tuple[int, int] = (64, 64), seed: int = 0) -> None:
        self.device = torch.device("cpu")
        self.seed = seed
        self.image_size = image_size
        self.networks = 0

    def generator(self, purpose: str) -> torch.Generator:
        digest = hashlib.sha256(f"{self.seed}/{purpose}".encode()).digest()
        return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)

    def backbone(self, name: str, layers: Layers) -> Backbone:
        torch.manual_seed(self.seed)
        numbers = [layer for layer in layers if isinstance(layer, int)]
        net: Any = _Backbone(name, numbers) if numbers else build_backbone(name, layers)
        frozen: Backbone = net.eval().requires_grad_(False)
        return frozen

    def network(self, name: str, layers: Layers) -> Backbone:
        self.networks += 1
        seed = 1000 * self.seed + self.networks
        return fresh_network(name, layers, seed=seed, device=self.device)

    def module(self, network: nn.Module, name: str) -> nn.Module:
        return network.eval().requires_grad_(False)

    def scratch(self, name: str, shape: Sequence[int], dtype: torch.dtype | None = None) -> Tensor:
        return mapped_zeros(name, shape, dtype or torch.float32)


@pytest.fixture
def make_images() -> type[TensorImages]:
    """`make_images(pixels)`: training images from a (N, 3, H, W) tensor."""
    return TensorImages


@pytest.fixture
def make_run() -> type[CpuRun]:
    """`make_run(image_size=(64, 64), seed=0)`: a run on the CPU."""
    return CpuRun
