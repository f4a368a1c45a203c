"""Nearest neighbours against the definition, for hard vectors, small memory and many parts."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from bench.api import MethodError
from bench.blocks.nearest import LIMIT_MB, Search, nearest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor


def vectors(count: int, width: int, seed: int = 0, offset: float = 0.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, width, generator=generator) + offset


def by_differences(queries: Tensor, gallery: Tensor, neighbours: int) -> Tensor:
    """(Q, k) smallest squared distances, one subtraction for each pair, in float64."""
    squares = (queries.double()[:, None] - gallery.double()[None]).square().sum(2)
    return squares.sort(1).values[:, :neighbours]


@pytest.fixture
def precision() -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    yield
    torch.set_float32_matmul_precision(before)


@settings(max_examples=60)
@given(
    queries=st.integers(1, 20),
    count=st.integers(1, 60),
    width=st.integers(1, 40),
    neighbours=st.integers(1, 7),
    offset=st.sampled_from([0.0, 3.0, 300.0]),
    limit_mb=st.sampled_from([1e-4, 1e-3, 1e-2, LIMIT_MB]),
)
def test_neighbours_are_those_of_the_definition_for_any_block(
    queries: int, count: int, width: int, neighbours: int, offset: float, limit_mb: float
) -> None:
    neighbours = min(neighbours, count)
    new, known = vectors(queries, width, 1, offset), vectors(count, width, 2, offset)
    found = nearest(new, known, neighbours, limit_mb=limit_mb)
    wanted = by_differences(new, known, neighbours)
    torch.testing.assert_close(found.squares.double(), wanted, rtol=1e-5, atol=0)
    named = (new.double()[:, None] - known.double()[found.index]).square().sum(2)
    torch.testing.assert_close(named, wanted, rtol=1e-5, atol=0)


@pytest.mark.parametrize("neighbours", [1, 3])
def test_near_duplicates_are_told_apart_where_products_in_float32_are_wrong(
    neighbours: int,
) -> None:
    new = vectors(50, 1024, offset=0.5)
    # Each query has ten copies, moved by 0.001 to 0.01 of one component.
    moves = torch.linspace(0.001, 0.01, 10)
    copies = new[:, None].repeat(1, 10, 1)
    copies[..., 0] += moves
    known = torch.cat([copies.flatten(0, 1), vectors(3000, 1024, 7, 0.5)])
    wanted = by_differences(new[:5], known[:500], neighbours)

    products = new.square().sum(1)[:, None] + known.square().sum(1) - 2 * new @ known.T
    naive = products.topk(neighbours, 1, largest=False)
    assert ((naive.values[:5] - wanted).abs() / wanted).max() > 1

    found = nearest(new, known, neighbours)
    expected = 10 * torch.arange(50)[:, None] + torch.arange(neighbours)
    assert torch.equal(found.index, expected)
    torch.testing.assert_close(found.squares[:5].double(), wanted, rtol=1e-5, atol=0)


def test_a_vector_of_the_gallery_is_at_distance_zero() -> None:
    known = vectors(500, 256, offset=2.0)
    found = nearest(known[100:140], known)
    assert torch.equal(found.index[:, 0], torch.arange(100, 140))
    assert not found.squares.any()


def test_a_gallery_of_equal_vectors_gives_the_same_distance_for_all_neighbours() -> None:
    new, known = vectors(7, 30), vectors(1, 30, 1).repeat(50, 1)
    found = nearest(new, known, 4, limit_mb=1e-3)
    wanted = by_differences(new, known, 4)
    torch.testing.assert_close(found.squares.double(), wanted, rtol=1e-5, atol=0)
    assert all(len(set(row)) == 4 for row in found.index.tolist())


@pytest.mark.parametrize("neighbours", [1, 4])
def test_a_result_does_not_depend_on_blocks_parts_or_other_queries(neighbours: int) -> None:
    new, known = vectors(300, 64, 1, 1.0), vectors(2000, 64, 2, 1.0)
    whole = nearest(new, known, neighbours)
    small = nearest(new, known, neighbours, limit_mb=0.05)
    search = Search(new[11:12], neighbours)
    for part in torch.split(known, [1, 2, 997, 1000]):
        search.add(part)
    alone = search.result()
    assert torch.equal(whole.squares, small.squares)
    assert torch.equal(whole.index, small.index)
    assert torch.equal(whole.squares[11:12], alone.squares)
    assert torch.equal(whole.index[11:12], alone.index)


def test_permuting_the_gallery_permutes_the_neighbours() -> None:
    new, known = vectors(40, 32, 1), vectors(300, 32, 2)
    order = torch.randperm(300, generator=torch.Generator().manual_seed(0))
    found, permuted = nearest(new, known, 3), nearest(new, known[order], 3)
    assert torch.equal(order[permuted.index], found.index)
    assert torch.equal(permuted.squares, found.squares)


@pytest.mark.parametrize("asked", ["high", "medium"])
def test_neighbours_are_right_where_the_program_allows_coarse_products(
    asked: str, precision: None
) -> None:
    new, known = vectors(60, 128, 1, 1.0), vectors(3000, 128, 2, 1.0)
    torch.set_float32_matmul_precision(asked)
    found = nearest(new, known, 2)
    wanted = by_differences(new, known, 2)
    torch.testing.assert_close(found.squares.double(), wanted, rtol=1e-5, atol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_gallery_of_another_type_is_read_by_block(dtype: torch.dtype) -> None:
    new, known = vectors(20, 16, 1), vectors(300, 16, 2).to(dtype)
    found = nearest(new, known, 2, limit_mb=0.01)
    wanted = by_differences(new, known.float(), 2)
    torch.testing.assert_close(found.squares.double(), wanted, rtol=1e-5, atol=0)


def test_a_query_that_is_not_finite_stays_so_and_leaves_the_others_alone() -> None:
    new, known = vectors(3, 8, 1), vectors(30, 8, 2)
    wanted = nearest(new, known).squares
    new[1, 2] = float("nan")
    found = nearest(new, known).squares
    assert not found[1].isfinite()
    assert torch.equal(found[[0, 2]], wanted[[0, 2]])


class LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Peak of the bytes in tensors that were made inside and are still held."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live: dict[int, int] = {}
        self.peak = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        outside = {a.untyped_storage().data_ptr() for a in args if isinstance(a, torch.Tensor)}
        for tensor in result if isinstance(result, (tuple, list)) else (result,):
            if not isinstance(tensor, torch.Tensor):
                continue
            place = tensor.untyped_storage().data_ptr()
            if place and place not in outside and place not in self.live:
                self.live[place] = tensor.untyped_storage().nbytes()
                weakref.finalize(tensor, self.live.pop, place, None)
        self.peak = max(self.peak, sum(self.live.values()))
        return result


@pytest.mark.parametrize("kind", ["apart", "alike"])
@pytest.mark.parametrize("neighbours", [1, 5])
def test_temporary_memory_stays_within_its_limit(kind: str, neighbours: int) -> None:
    new, known = vectors(900, 128, 1), vectors(20_000, 128, 2)
    if kind == "alike":  # every row must be ranked again in float64
        known = known[:1].repeat(20_000, 1)
    with LiveBytes() as memory:
        found = nearest(new, known, neighbours, limit_mb=2.0)
    results = found.squares.nbytes + found.index.nbytes
    assert 0.2e6 < memory.peak - results <= 2.0e6


@pytest.mark.parametrize(
    ("queries", "gallery", "neighbours", "message"),
    [
        ((2, 4), (3, 4), 4, "4 neighbours were asked for among 3 vectors; ask for fewer"),
        ((2, 4), (0, 4), 1, "1 neighbours were asked for among 0 vectors"),
        ((2, 4), (3, 5), 1, "queries have 4 dimensions, the gallery 5"),
        ((2, 4), (3, 4), 0, "neighbours = 0; a search needs at least 1"),
    ],
)
def test_a_search_that_cannot_be_answered_is_refused(
    queries: tuple[int, int], gallery: tuple[int, int], neighbours: int, message: str
) -> None:
    with pytest.raises(MethodError, match=message):
        nearest(torch.zeros(queries), torch.zeros(gallery), neighbours)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device here")
@pytest.mark.parametrize("neighbours", [1, 5])
def test_a_gpu_finds_the_neighbours_of_the_cpu(neighbours: int) -> None:
    new, known = vectors(300, 256, 1, 1.0), vectors(5000, 256, 2, 1.0)
    wanted = nearest(new, known, neighbours)
    for gallery in (known, known.cuda()):  # a gallery on the CPU is brought over by block
        found = nearest(new.cuda(), gallery, neighbours)
        assert torch.equal(found.index.cpu(), wanted.index)
        torch.testing.assert_close(found.squares.cpu(), wanted.squares, rtol=1e-5, atol=0)
