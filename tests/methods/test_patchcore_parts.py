"""PatchCore's embedding and selection against the published way, written out slowly."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import adaptive_avg_pool1d, avg_pool2d, interpolate, unfold

from bench.api import MethodError
from bench.plugins.methods.patchcore.coreset import approximate_greedy, greedy
from bench.plugins.methods.patchcore.embedding import PatchEmbedding, windows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


def rand(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def as_published(
    features: Sequence[Tensor], patch: int, layer_dimensions: Sequence[int], dimensions: int
) -> Tensor:
    """(B, h, w, dimensions): every patch unfolded, upsampled and pooled, in float64."""
    batch, _, height, width = features[0].shape
    pooled = []
    for feature, size in zip(features, layer_dimensions, strict=True):
        patches = unfold(feature.double(), patch, padding=patch // 2)
        patches = patches.view(batch, -1, *feature.shape[2:])
        patches = interpolate(patches, size=(height, width), mode="bilinear", align_corners=False)
        rows = patches.permute(0, 2, 3, 1).flatten(0, 2)
        pooled.append(adaptive_avg_pool1d(rows[:, None], size)[:, 0])
    joined = adaptive_avg_pool1d(torch.cat(pooled, 1)[:, None], dimensions)[:, 0]
    return joined.view(batch, height, width, dimensions)


@settings(max_examples=25)
@given(
    channels=st.lists(st.integers(1, 9), min_size=1, max_size=3),
    patch=st.sampled_from([1, 3, 5]),
    layer_dimensions=st.integers(1, 30),
    dimensions=st.integers(1, 40),
)
def test_the_embedding_is_that_of_unfolded_patches(
    channels: list[int], patch: int, layer_dimensions: int, dimensions: int
) -> None:
    sides = [(9, 7), (5, 4), (3, 2)]
    features = [rand(2, c, *side, seed=c) for c, side in zip(channels, sides, strict=False)]
    widths = [layer_dimensions] * len(channels)
    found = PatchEmbedding(channels, patch, widths, dimensions)(features)
    wanted = as_published(features, patch, widths, dimensions)
    torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=1e-6)


def test_widths_of_all_channels_give_the_mean_of_each_channel() -> None:
    fine, coarse = rand(2, 6, 8, 8), rand(2, 10, 4, 4, seed=1)
    found = PatchEmbedding([6, 10], 3, [6, 10], 16)([fine, coarse])
    means = [avg_pool2d(f, 3, stride=1, padding=1) for f in (fine, coarse)]
    up = interpolate(means[1], size=(8, 8), mode="bilinear", align_corners=False)
    wanted = torch.cat((means[0], up), 1).permute(0, 2, 3, 1)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)


@given(numbers=st.integers(1, 60), results=st.integers(1, 80))
def test_windows_are_those_of_torchs_adaptive_pooling(numbers: int, results: int) -> None:
    values = rand(numbers)
    found = torch.stack([values[list(w)].mean() for w in windows(numbers, results)])
    torch.testing.assert_close(found, adaptive_avg_pool1d(values[None], results)[0])


def test_a_layer_finer_than_the_first_is_refused() -> None:
    embedding = PatchEmbedding([3, 4], 3, [8, 8], 8)
    with pytest.raises(MethodError, match=r"4x4, 8x8: .* name the layers from fine to coarse"):
        embedding([rand(1, 3, 4, 4), rand(1, 4, 8, 8)])


@pytest.mark.parametrize(
    ("patch", "width", "message"),
    [
        (2, 8, r"patch = 2; it must be odd"),
        (0, 8, r"patch = 0; it must be odd"),
        (3, 0, r"dimensions = 0; both must be positive"),
    ],
)
def test_an_embedding_that_cannot_be_made_is_refused(patch: int, width: int, message: str) -> None:
    with pytest.raises(MethodError, match=message):
        PatchEmbedding([3], patch, [8], width)


def distances(vectors: Tensor, others: Tensor) -> Tensor:
    return (vectors.double()[:, None] - others.double()[None]).square().sum(2).sqrt()


def by_the_loop(vectors: Tensor, count: int, anchor: Tensor) -> list[int]:
    """The published loop: the farthest, then every distance to it, then every minimum."""
    taken: list[int] = []
    for _ in range(count):
        row = int(anchor.argmax())
        taken.append(row)
        anchor = torch.minimum(anchor, distances(vectors, vectors[row : row + 1])[:, 0])
    return taken


@pytest.mark.parametrize(("count", "share"), [(30, 0.9), (511, 0.3), (513, 0.1), (1700, 0.1)])
@pytest.mark.parametrize("start_points", [1, 10])
def test_the_approximate_selection_is_that_of_the_published_loop(
    count: int, share: float, start_points: int
) -> None:
    vectors = torch.randn(count, 12, generator=torch.Generator().manual_seed(count))
    start = torch.randperm(count, generator=torch.Generator().manual_seed(1))[:start_points]
    found = approximate_greedy(vectors, int(count * share), start)
    anchor = distances(vectors, vectors[start]).mean(1)
    assert found.tolist() == by_the_loop(vectors, int(count * share), anchor)


@pytest.mark.parametrize(("count", "share"), [(30, 0.9), (600, 0.2), (1300, 0.1)])
@pytest.mark.parametrize("offset", [0.0, 20.0])
def test_the_exact_selection_is_that_of_a_matrix_of_all_distances(
    count: int, share: float, offset: float
) -> None:
    vectors = torch.randn(count, 6, generator=torch.Generator().manual_seed(count)) + offset
    found = greedy(vectors, int(count * share))
    anchor = distances(vectors, vectors).norm(dim=1)
    assert found.tolist() == by_the_loop(vectors, int(count * share), anchor)


@pytest.mark.parametrize("selection", ["approximate", "exact"])
def test_of_equally_far_vectors_the_first_is_taken(selection: str) -> None:
    corners = torch.tensor([[0.0, 0.0], [0.0, 8.0], [8.0, 0.0], [8.0, 8.0]])
    vectors = corners.repeat(400, 1)  # more than one chunk, all of it four times over
    if selection == "exact":
        found = greedy(vectors, 4)
    else:
        found = approximate_greedy(vectors, 4, torch.arange(4))
    assert sorted(found.tolist()) == [0, 1, 2, 3]


@pytest.mark.parametrize("value", [0.0, 3.5])
def test_equal_vectors_can_be_selected_from(value: float) -> None:
    vectors = torch.full((700, 5), value)
    for found in (greedy(vectors, 6), approximate_greedy(vectors, 6, torch.arange(10))):
        assert len(found) == 6
        assert 0 <= int(found.min()) <= int(found.max()) < 700
