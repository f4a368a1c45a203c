"""The stem: from the picture to the feature map that the pyramid is built of. Never trained."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

if TYPE_CHECKING:
    from bench.api import Backbone


class LinearStem(nn.Module):
    """A frozen 1x1 convolution from 3 to C channels with orthonormal columns, so invertible."""

    stride = 1

    def __init__(self, channels: int, generator: torch.Generator) -> None:
        super().__init__()
        weight = torch.empty(channels, 3)
        nn.init.orthogonal_(weight, generator=generator)
        self.channels = channels
        self.weight = nn.Parameter(weight[:, :, None, None], requires_grad=False)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, C, H, W)."""
        return functional.conv2d(images, self.weight)

    def invert(self, features: Tensor) -> Tensor:
        """The picture of a feature map, by least squares at every pixel."""
        pseudo_inverse = torch.linalg.pinv(self.weight[:, :, 0, 0].double()).to(features.dtype)
        return functional.conv2d(features, pseudo_inverse[:, :, None, None])


class BackboneStem(nn.Module):
    """The first layers of a network, frozen in its weights.

    In the published code the batch norms of the stem follow the flow into training mode: training
    features are normalised by the statistics of their batch, and the running statistics drift
    from those of ImageNet to the category at hand. `adapt` keeps that; without it the statistics
    are frozen too.
    """

    def __init__(self, net: Backbone, adapt: bool) -> None:
        super().__init__()
        self.net = net
        self.adapt = adapt
        self.channels, stride = net.channels[0], net.strides[0]
        assert stride is not None, "the layer has a number"
        self.stride = stride
        self.train(False)

    def train(self, mode: bool = True) -> BackboneStem:
        """Training mode reaches the batch norms only, and only where they adapt."""
        super().train(False)
        self.training = mode
        for module in self.net.modules():
            if isinstance(module, _BatchNorm):
                module.train(mode and self.adapt)
        return self

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, C, H / stride, W / stride)."""
        with torch.no_grad():
            features: Tensor = self.net(images)[0]
        return features
