"""Anomaly maps brought to image size and blurred, as one product of two small matrices."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d
from torch.nn.functional import interpolate

from bench.errors import MethodError

if TYPE_CHECKING:
    from torch import Tensor

Border = Literal["edge", "mirror"]

# SciPy's names: "edge" repeats the edge sample (d c b a | a b c d), "mirror" does not.
_SCIPY_MODE: dict[str, Literal["reflect", "mirror"]] = {"edge": "reflect", "mirror": "mirror"}
_TRUNCATE = 4.0


def upsample_and_smooth(
    maps: Tensor, size: tuple[int, int], sigma: float, border: Border = "edge"
) -> Tensor:
    """Bilinear upsampling (`align_corners=False`), then a Gaussian cut off at 4 sigma.

    Both steps are linear and act on rows and columns apart, so the result is A m B^T with one
    matrix for each side: exact to rounding, and far fewer operations than a blur at full size.

    Args:
        maps: (B, h, w).
        size: (H, W) of the result.
        sigma: standard deviation in pixels of the result; 0: no smoothing.
        border: how the map continues outside.

    Returns:
        (B, H, W), in the type of `maps`.

    Raises:
        MethodError: a negative sigma or an unknown border.
    """
    if sigma < 0:
        raise MethodError(f"sigma = {sigma} is negative; use 0 for no smoothing")
    if border not in _SCIPY_MODE:
        raise MethodError(f"border = {border!r} is unknown; choose {' or '.join(_SCIPY_MODE)}")
    rows, columns = (
        _operator(old, new, float(sigma), border, maps.dtype, maps.device)
        for old, new in zip(maps.shape[-2:], size, strict=True)
    )
    return rows @ maps @ columns.T


def gaussian_smooth(maps: Tensor, sigma: float, border: Border = "edge") -> Tensor:
    """(B, H, W) maps blurred at their own size; the same as SciPy's `gaussian_filter`."""
    return upsample_and_smooth(maps, (maps.shape[-2], maps.shape[-1]), sigma, border)


@lru_cache(maxsize=32)
def _operator(
    old: int, new: int, sigma: float, border: str, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """(new, old) matrix that interpolates a line of `old` samples to `new`, and blurs it."""
    # The cache outlives the caller's mode: a tensor made under inference mode would not serve all.
    with torch.inference_mode(False):
        unit = torch.eye(old, dtype=torch.float64)
        lines = unit
        if new != old:
            lines = interpolate(unit[None], size=new, mode="linear", align_corners=False)[0].T
        matrix = np.ascontiguousarray(lines.numpy(), dtype=np.float64)
        if sigma > 0:
            mode = _SCIPY_MODE[border]
            matrix = gaussian_filter1d(matrix, sigma, axis=0, mode=mode, truncate=_TRUNCATE)
        return torch.from_numpy(matrix).to(device, dtype)
