"""Structural similarity against loops, scikit-image, published arrays, and its properties."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity
from torch import Tensor

from bench.api import MethodError
from bench.blocks.ssim import GAUSSIAN, UNIFORM, Border, Window, ssim_map

BORDERS: tuple[Border, ...] = ("valid", "zeros", "edge")
WINDOWS = [Window(5, 1.5, *choice) for choice in product(BORDERS, (False, True))]
WINDOWS += [
    Window(7, 2.0, summed="float64"),
    Window(3, None, "edge", True),
    Window(7, None, "zeros"),
    Window(3, None, "valid"),
]


def images(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(*shape, generator=generator, dtype=torch.float64)


def by_loops(a: Tensor, b: Tensor, window: Window, value_range: float) -> Tensor:
    """The definition, one position at a time, with weighted central moments."""
    half = window.side // 2
    line = [
        1.0 if window.sigma is None else math.exp(-(x**2) / (2 * window.sigma**2))
        for x in range(-half, half + 1)
    ]
    weights = torch.tensor(line, dtype=torch.float64)
    weights = torch.outer(weights, weights) / weights.sum() ** 2
    mode: Any = {"valid": None, "zeros": "constant", "edge": "symmetric"}[window.border]
    pad = ((half, half), (half, half))
    result = []
    for x, y in zip(a.flatten(0, 1).numpy(), b.flatten(0, 1).numpy(), strict=True):
        if mode is not None:
            x, y = np.pad(x, pad, mode=mode), np.pad(y, pad, mode=mode)
        u = torch.from_numpy(x).unfold(0, window.side, 1).unfold(1, window.side, 1)
        v = torch.from_numpy(y).unfold(0, window.side, 1).unfold(1, window.side, 1)
        rows = []
        for i, j in product(range(u.shape[0]), range(u.shape[1])):
            mean_u, mean_v = (weights * u[i, j]).sum(), (weights * v[i, j]).sum()
            du, dv = u[i, j] - mean_u, v[i, j] - mean_v
            n = window.side**2
            scale = n / (n - 1) if window.is_sample else 1
            var_u, var_v = scale * (weights * du**2).sum(), scale * (weights * dv**2).sum()
            cov = scale * (weights * du * dv).sum()
            c1, c2 = (0.01 * value_range) ** 2, (0.03 * value_range) ** 2
            light = (2 * mean_u * mean_v + c1) / (mean_u**2 + mean_v**2 + c1)
            rows.append(float(light * (2 * cov + c2) / (var_u + var_v + c2)))
        result.append(torch.tensor(rows, dtype=torch.float64).view(u.shape[0], u.shape[1]))
    return torch.stack(result).view(*a.shape[:2], *result[0].shape)


@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_a_map_equals_the_slow_definition(window: Window) -> None:
    a, b = images(2, 2, 9, 12), images(2, 2, 9, 12, seed=1)
    found = ssim_map(a, b, window, value_range=1.0)
    # 1e-6: the taps of a Gaussian window are rounded to float32.
    torch.testing.assert_close(found, by_loops(a, b, window, 1.0), rtol=0, atol=1e-6)


@pytest.mark.parametrize("shape", [(40, 44), (11, 30)])
def test_the_uniform_window_is_scikit_images(shape: tuple[int, int]) -> None:
    generator = np.random.default_rng(3)
    a, b = generator.integers(0, 256, (2, *shape, 3), dtype=np.uint8)
    scikit: Any = structural_similarity
    _, wanted = scikit(a, b, win_size=11, channel_axis=-1, full=True)
    x, y = (torch.from_numpy(v).permute(2, 0, 1)[None].double() for v in (a, b))
    found = ssim_map(x, y, UNIFORM, value_range=255.0)[0].permute(1, 2, 0)
    np.testing.assert_allclose(found.numpy(), wanted, atol=1e-12)


def test_the_uniform_window_needs_no_fit() -> None:
    a, b = images(1, 1, 3, 4), images(1, 1, 3, 4, seed=1)
    found = ssim_map(a, b, UNIFORM)
    torch.testing.assert_close(found, by_loops_mirrored(a, b), rtol=0, atol=1e-12)


def by_loops_mirrored(a: Tensor, b: Tensor) -> Tensor:
    """Images tiled with their mirror images, so that no border is near the middle."""

    def tiled(x: Tensor) -> Tensor:
        once = torch.cat([x.flip(-1), x, x.flip(-1)], -1)
        twice = torch.cat([once.flip(-2), once, once.flip(-2)], -2)
        wide = torch.cat([twice.flip(-1), twice, twice.flip(-1)], -1)
        return torch.cat([wide.flip(-2), wide, wide.flip(-2)], -2)

    height, width = a.shape[-2:]
    valid = Window(11, None, "valid", True)
    full = by_loops(tiled(a), tiled(b), valid, 1.0)
    top, left = 4 * height - 5, 4 * width - 5
    return full[..., top : top + height, left : left + width]


@pytest.mark.parametrize("window", [GAUSSIAN, UNIFORM, Window(border="zeros")], ids=str)
def test_properties_of_the_definition(window: Window) -> None:
    a, b = images(2, 3, 16, 19), images(2, 3, 16, 19, seed=1)
    found = ssim_map(a, b, window)
    torch.testing.assert_close(ssim_map(b, a, window), found)
    assert float(found.abs().max()) <= 1
    torch.testing.assert_close(ssim_map(a, a, window), torch.ones_like(found))
    torch.testing.assert_close(ssim_map(a * 255, b * 255, window, 255.0), found)
    one = ssim_map(a[1:, 2:], b[1:, 2:], window)
    torch.testing.assert_close(found[1:, 2:], one)  # no channel or image sees another


def test_float32_and_float64_agree() -> None:
    a, b = images(1, 3, 32, 32), images(1, 3, 32, 32, seed=1)
    found = ssim_map(a.float(), b.float())
    torch.testing.assert_close(found.double(), ssim_map(a, b), rtol=0, atol=1e-5)


def test_the_gradient_is_that_of_the_formula() -> None:
    a, b = images(1, 2, 5, 6), images(1, 2, 5, 6, seed=1)
    for window in (Window(3), Window(5, border="zeros"), Window(3, None, "edge", True)):
        assert torch.autograd.gradcheck(
            lambda x, y, w=window: ssim_map(x, y, w), (a.requires_grad_(), b.requires_grad_())
        )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ssim_map(images(1, 1, 10, 40), images(1, 1, 10, 40)), "does not fit images of 10"),
        (lambda: ssim_map(images(1, 1, 12, 12), images(1, 3, 12, 12)), "SSIM of shapes"),
        (lambda: Window(8), "choose an odd one"),
        (lambda: Window(1), "choose an odd one"),
        (lambda: Window(sigma=0.0), "it must be positive"),
    ],
)
def test_what_cannot_be_computed_is_refused(call: Any, message: str) -> None:
    with pytest.raises(MethodError, match=message):
        call()
