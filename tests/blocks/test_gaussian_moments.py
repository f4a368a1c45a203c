"""Gaussians by position and smoothing, against NumPy and SciPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from torch.nn.functional import interpolate

from bench.api import MethodError
from bench.blocks.gaussian import PositionMoments, blocks, low_rank_factor, mahalanobis
from bench.blocks.smoothing import gaussian_smooth, upsample_and_smooth

CPU = torch.device("cpu")


@settings(max_examples=20)
@given(st.lists(st.integers(1, 5), min_size=2, max_size=5), st.floats(-1e3, 1e3))
def test_moments_of_batches_are_those_of_all_images(sizes: list[int], offset: float) -> None:
    generator = torch.Generator().manual_seed(len(sizes))
    features = torch.randn(3, sum(sizes), 4, generator=generator) + offset
    moments = PositionMoments(3, 4, CPU)
    for batch in torch.split(features, sizes, dim=1):
        moments.add(batch)
    found = moments.covariance(slice(None), epsilon=0.01)
    for p in range(3):
        known = features[p].double().numpy()
        np.testing.assert_allclose(moments.mean[p], known.mean(0), rtol=1e-10, atol=1e-10)
        wanted = np.cov(known, rowvar=False) + 0.01 * np.eye(4)
        np.testing.assert_allclose(found[p], wanted, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("count", [2, 3, 7])
def test_the_low_rank_factor_gives_the_inverse_covariance(count: int) -> None:
    features = torch.randn(2, count, 7, generator=torch.Generator().manual_seed(0))
    _, factor = low_rank_factor(features, epsilon=0.01)
    assert factor.shape == (2, 7, count - 1)
    for p in range(2):
        covariance = np.cov(features[p].double().numpy(), rowvar=False) + 0.01 * np.eye(7)
        wanted = np.linalg.inv(covariance)
        found = (np.eye(7) - (factor[p] @ factor[p].T).double().numpy()) / 0.01
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


def test_the_distance_of_the_mean_is_zero_and_never_nan() -> None:
    features = 100 * torch.randn(4, 5, 9, generator=torch.Generator().manual_seed(0))
    mean, factor = low_rank_factor(features, epsilon=0.01)
    at_mean = mahalanobis(mean.float()[:, None], mean.float(), factor, epsilon=0.01)
    assert torch.equal(at_mean, torch.zeros(1, 4))
    assert mahalanobis(features, mean.float(), factor, epsilon=0.01).isfinite().all()


def test_features_of_another_shape_are_refused() -> None:
    with pytest.raises(MethodError, match="3 positions and 4 channels do not fit"):
        mahalanobis(torch.zeros(3, 1, 4), torch.zeros(2, 4), torch.zeros(2, 4, 4), epsilon=0.01)


def test_blocks_cover_every_position_once() -> None:
    for numbers in (1, 1000, 10**9):
        covered = [p for part in blocks(37, numbers, CPU) for p in range(part.start, part.stop)]
        assert covered == list(range(37))


@pytest.mark.parametrize(("border", "mode"), [("edge", "reflect"), ("mirror", "mirror")])
@pytest.mark.parametrize("shape", [(50, 44), (9, 33), (5, 5)])
def test_smoothing_is_scipys(border: Any, mode: Any, shape: tuple[int, int]) -> None:
    maps = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    wanted = [gaussian_filter(m, sigma=4, mode=mode) for m in maps.double().numpy()]
    found = gaussian_smooth(maps, 4.0, border)
    np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("size", [(64, 48), (16, 24), (10, 7)])
def test_upsampling_is_torchs_bilinear(size: tuple[int, int]) -> None:
    maps = torch.randn(2, 16, 12, generator=torch.Generator().manual_seed(0))
    wanted = interpolate(maps[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]
    torch.testing.assert_close(upsample_and_smooth(maps, size, sigma=0), wanted)


def test_a_constant_map_stays_constant() -> None:
    found = upsample_and_smooth(torch.full((1, 8, 8), 3.0), (30, 20), sigma=4)
    torch.testing.assert_close(found, torch.full((1, 30, 20), 3.0))


def test_an_operator_made_under_inference_mode_serves_training() -> None:
    maps = torch.randn(1, 6, 6)
    with torch.inference_mode():
        upsample_and_smooth(maps, (13, 13), sigma=1.5)
    maps.requires_grad_()
    smoothed = upsample_and_smooth(maps, (13, 13), sigma=1.5)
    (gradient,) = torch.autograd.grad(smoothed.sum(), maps)
    assert gradient.sum() == pytest.approx(13 * 13, rel=1e-4)
