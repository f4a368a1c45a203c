"""The images of a cell's category: read, checked, and in two halves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bench.errors import DataError, counted
from bench.files.manifest import find_shared_groups
from bench.files.tensors import ImageSet, checked, load_masks
from bench.files.twins import contradiction, find_contradictions, find_leaks
from bench.plan import discovery
from bench.run.context import image_set, method_size
from bench.run.scoring import CellTest
from bench.run.training import check_training

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    import torch

    from bench.api import Dataset, Method, Sample
    from bench.plan.cells import Cell
    from bench.run.job import Job
    from bench.settings.protocol import Protocol

    Report = Callable[[Mapping[str, Any]], None]


def read_category(
    job: Job, method: Method, device: torch.device, report: Report
) -> tuple[ImageSet, Callable[[Protocol], CellTest]]:
    """The training images, and the test half as a protocol wants it; every file is checked first.

    Raises:
        DataError: unreadable files, an empty or mixed split, too few training images.
    """
    cell = job.cell
    plugin = discovery.describe("datasets", cell.dataset)
    dataset: Dataset = discovery.make(plugin, cell.dataset_params, root=job.root)
    train = list(dataset.samples(cell.category, "train"))
    test = list(dataset.samples(cell.category, "test"))
    check_training(cell, method, train)
    _check_test(cell, train, test)
    found = checked([*train, *test], job.cache)
    leaks = _check_twins(job, train, test, found.pixels)
    for finding in found.findings:
        report({"warning": finding.text})
    train_images = image_set(cell, method, train, "train", device, workers=job.loaders)
    test_images = image_set(cell, method, test, "test", device, workers=job.loaders)
    if test_images.image_size != train_images.image_size:
        raise DataError(
            f"{cell.dataset}/{cell.category}: training images become {train_images.image_size}, "
            f"test images {test_images.image_size}; use a protocol with a fixed (height, width)"
        )
    names = [_name(s.image, dataset.root) for s in test]

    def half(protocol: Protocol) -> CellTest:
        return CellTest(
            samples=test,
            images=test_images,
            masks=load_masks(test, protocol, test_images.image_size, method_size(method)),
            labels=[s.label for s in test],
            names=names,
            leaked=leaks,
            budget_mb=job.map_budget_mb,
        )

    return train_images, half


def _check_test(cell: Cell, train: Sequence[Sample], test: Sequence[Sample]) -> None:
    place = f"{cell.dataset}/{cell.category}"
    if not test:
        raise DataError(f"{place}: no test image")
    both = find_shared_groups(train, test)
    if both:
        raise DataError(f"{place}: {len(both)} parts are in both splits, first {both[0]}")


def _check_twins(
    job: Job, train: Sequence[Sample], test: Sequence[Sample], pixels: Mapping[Path, str]
) -> int:
    """How many test images hold the pixels of a training image; refused unless allowed.

    Raises:
        DataError: such images, or test images of equal pixels under two labels.
    """
    place = f"{job.cell.dataset}/{job.cell.category}"
    if pairs := find_contradictions(test, pixels):
        raise DataError(f"{place}: {contradiction(pairs)}")
    leaks = find_leaks(train, test, pixels)
    if leaks and not job.allow_leaks:
        twin, image = leaks[0]
        raise DataError(
            f"{place}: {counted(len(leaks), 'test image')} in the training images too, first "
            f"{image} = {twin}; remove them, or say --allow-leaks to run and count them"
        )
    return len(leaks)


def _name(image: Path, root: Path) -> str:
    return image.relative_to(root).as_posix() if image.is_relative_to(root) else image.name
