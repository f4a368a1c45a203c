"""Features of the training set that are computed once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from bench.blocks.kept import KeptFeatures

if TYPE_CHECKING:
    from torch import Tensor

PIXELS = torch.randn(7, 3, 6, 5, generator=torch.Generator().manual_seed(0))
IN_MEMORY, IN_FILE = 1.0, 0.0


class Extract:
    """Means over rows and over columns; counts the images it was asked for."""

    def __init__(self) -> None:
        self.seen = 0

    def rows(self, images: Tensor) -> Tensor:
        self.seen += len(images)
        return images.mean(2)

    def both(self, images: Tensor) -> list[Tensor]:
        return [images.mean(2), images.half().amax(3)]


@pytest.fixture
def keep(make_images: Any, make_run: Any) -> Any:
    """`keep(extract, limit_mb)`: features of seven images, computed three at a time."""
    return lambda extract, limit: KeptFeatures(make_images(PIXELS), extract, 3, limit, make_run())


@pytest.mark.parametrize("limit", [IN_MEMORY, IN_FILE])
def test_an_epoch_has_every_image_once_and_costs_no_extraction(keep: Any, limit: float) -> None:
    extract = Extract()
    kept = keep(extract.rows, limit)
    assert (len(kept), kept.in_memory) == (7, limit == IN_MEMORY)
    generator = torch.Generator().manual_seed(1)
    epochs = [torch.cat(list(kept.batches(2, generator))) for _ in range(2)]
    assert extract.seen == 7
    wanted = PIXELS.mean(2)
    assert not torch.equal(epochs[0], epochs[1])
    for epoch in epochs:
        assert epoch.shape == wanted.shape
        places = [int((wanted == one).flatten(1).all(1).nonzero()) for one in epoch]
        assert sorted(places) == list(range(7))


def test_memory_and_file_give_the_same_batches(keep: Any) -> None:
    batches = [
        list(keep(Extract().both, limit).batches(4, torch.Generator().manual_seed(3)))
        for limit in (IN_MEMORY, IN_FILE)
    ]
    for ours, theirs in zip(*batches, strict=True):
        assert [part.dtype for part in ours] == [torch.float32, torch.float16]
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_without_a_generator_the_order_is_that_of_the_images(keep: Any) -> None:
    kept = keep(Extract().rows, IN_MEMORY)
    assert torch.equal(torch.cat(list(kept.batches(3))), PIXELS.mean(2))
    assert [len(part) for part in kept.batches(3, drop_last=True)] == [3, 3]


def test_the_size_decides_where_they_lie(keep: Any) -> None:
    size = 7 * 3 * 5 * 4 / 1e6
    kept = keep(Extract().rows, size)
    assert kept.size_mb == pytest.approx(size)
    assert kept.in_memory
    assert not keep(Extract().rows, size * 0.99).in_memory


def test_features_hold_no_graph(keep: Any) -> None:
    weight = torch.ones(1, requires_grad=True)
    (batch,) = keep(lambda images: images * weight, IN_MEMORY).batches(7)
    assert not batch.requires_grad
