"""One vector for each cell of the finest layer: patches pooled, coarse layers upsampled, joined.

The published code unfolds k x k patches, upsamples each of their C k^2 numbers, pools them to
`layer_dimensions` and the joined layers to `dimensions`. All of it is linear, and each result
touches few channels of one layer. So the two poolings become one small k x k filter for each
result, applied before the upsampling: the same numbers but for rounding, and 2 D maps instead of
C k^2 are brought to the finest grid.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import conv2d, interpolate

from bench.api import MethodError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


@dataclass
class _Filters:
    """What one layer adds to the results `first` to `first + len(weights)`.

    Attributes:
        first: the first result that the layer touches.
        channels: one (n,) channel for each result; a result that touches several is in several.
        weights: beside each of them (n, 1, k, k) filters.
    """

    first: int
    channels: list[Tensor]
    weights: list[Tensor]

    def to(self, device: torch.device) -> _Filters:
        """The same on a device."""
        return _Filters(
            self.first,
            [index.to(device) for index in self.channels],
            [weight.to(device) for weight in self.weights],
        )

    def apply(self, feature: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, n, h, w); zeros beyond the border count, as published."""
        total: Tensor | None = None
        for index, weight in zip(self.channels, self.weights, strict=True):
            padding = weight.shape[-1] // 2
            found = conv2d(
                feature.index_select(1, index), weight, padding=padding, groups=len(weight)
            )
            total = found if total is None else total.add_(found)
        assert total is not None  # every layer touches at least one result
        return total


class PatchEmbedding:
    """The published embedding of a patch, for any number of layers and widths.

    Args:
        channels: of each layer, the finest first.
        patch: side of a patch in cells; odd.
        layer_dimensions: numbers that a layer's patch is pooled to; one for each layer.
        dimensions: numbers that the joined layers are pooled to.

    Raises:
        MethodError: an even patch, or widths that are not positive.
    """

    def __init__(
        self, channels: Sequence[int], patch: int, layer_dimensions: Sequence[int], dimensions: int
    ) -> None:
        if patch < 1 or patch % 2 == 0:
            raise MethodError(f"patch = {patch}; it must be odd, so that a cell is in its middle")
        if min(*layer_dimensions, dimensions) < 1:
            raise MethodError(
                f"layer_dimensions = {layer_dimensions[0]}, dimensions = {dimensions}; both must "
                "be positive, 1024 is published"
            )
        self.dimensions = dimensions
        self.device = torch.device("cpu")
        self._filters = _filters(channels, patch, layer_dimensions, dimensions)

    def __call__(self, features: Sequence[Tensor]) -> Tensor:
        """(B, C_l, h_l, w_l) for each layer -> (B, h, w, dimensions) on the first one's grid.

        Raises:
            MethodError: a layer that is finer than the first.
        """
        first = features[0]
        grid = (first.shape[2], first.shape[3])
        if any(f.shape[2] > grid[0] or f.shape[3] > grid[1] for f in features):
            sizes = ", ".join(f"{f.shape[2]}x{f.shape[3]}" for f in features)
            raise MethodError(
                f"feature maps of {sizes}: the first layer gives the grid and must be the finest; "
                "name the layers from fine to coarse"
            )
        if self.device != first.device:
            self._filters = [filters.to(first.device) for filters in self._filters]
            self.device = first.device
        joined = first.new_zeros(len(first), self.dimensions, *grid)
        for feature, filters in zip(features, self._filters, strict=True):
            part = filters.apply(feature)
            if part.shape[2:] != grid:
                part = interpolate(part, size=grid, mode="bilinear", align_corners=False)
            joined[:, filters.first : filters.first + part.shape[1]] += part
        return joined.permute(0, 2, 3, 1).contiguous()


def windows(numbers: int, results: int) -> list[range]:
    """The entries that each result of an adaptive average pooling is the mean of."""
    return [range(i * numbers // results, -(-(i + 1) * numbers // results)) for i in range(results)]


def _filters(
    channels: Sequence[int], patch: int, layer_dimensions: Sequence[int], dimensions: int
) -> list[_Filters]:
    """Both poolings as filters over window positions, by layer."""
    cells = patch * patch
    pooled = [
        (layer, window)
        for layer, width in enumerate(layer_dimensions)
        for window in windows(channels[layer] * cells, width)
    ]
    # By layer and result: the filter of each channel that the result touches.
    found: list[dict[int, dict[int, Tensor]]] = [{} for _ in channels]
    for result, window in enumerate(windows(len(pooled), dimensions)):
        for layer, entries in (pooled[number] for number in window):
            touched = found[layer].setdefault(result, defaultdict(lambda: torch.zeros(cells)))
            for entry in entries:
                channel, position = divmod(entry, cells)
                touched[channel][position] += 1 / (len(entries) * len(window))
    return [_stacked(touched, patch) for touched in found]


def _stacked(touched: dict[int, dict[int, Tensor]], patch: int) -> _Filters:
    """Results side by side; one with fewer channels than another gets filters of zeros."""
    first, count = min(touched), len(touched)
    depth = max(map(len, touched.values()))
    channels = torch.zeros(depth, count, dtype=torch.int64)
    weights = torch.zeros(depth, count, patch * patch)
    for result, filters in touched.items():
        for place, (channel, weight) in enumerate(filters.items()):
            channels[place, result - first] = channel
            weights[place, result - first] = weight
    shape = (count, 1, patch, patch)
    return _Filters(first, list(channels), [weight.view(shape) for weight in weights])
