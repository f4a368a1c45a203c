"""Networks that describe a patch, applied to single patches or densely to whole pictures."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, leaky_relu, max_pool2d, pad

from bench.api import MethodError
from bench.blocks.layout import fast_layout

if TYPE_CHECKING:
    from collections.abc import Sequence

SLOPE = 0.005
"""Of the leaky ReLU after every layer, the decoder included."""


@dataclass(frozen=True)
class Layer:
    """A convolution without padding, its leaky ReLU, and perhaps a 2x2 max pool of stride 2."""

    kernel: int
    channels: int
    pool: bool = False


LAYERS: dict[int, tuple[Layer, ...]] = {
    17: (Layer(6, 128), Layer(5, 256), Layer(5, 256), Layer(4, 128)),
    33: (Layer(5, 128, True), Layer(5, 256, True), Layer(2, 256), Layer(4, 128)),
    65: (
        Layer(5, 128, True),
        Layer(5, 128, True),
        Layer(5, 256, True),
        Layer(4, 256),
        Layer(1, 128),
    ),
}
"""Layers by the side of the patch (arXiv:1911.02357, appendix)."""

OUTPUTS = 512
"""Length of the decoder's output: that of ResNet18's pooled features."""


class PatchNetwork(nn.Module):
    """Describes a square patch by a vector.

    Attributes:
        patch: side of the patch in pixels.
        embedding: length of the vector before the decoder.
    """

    def __init__(
        self, patch: int, channels: Sequence[int] | None = None, outputs: int = OUTPUTS
    ) -> None:
        """
        Args:
            patch: 17, 33 or 65.
            channels: of the convolutions in place of the published ones.
            outputs: length of the decoder's output.

        Raises:
            MethodError: a patch of another size.
        """
        super().__init__()
        if patch not in LAYERS:
            raise MethodError(
                f"no network for patches of {patch} pixels; choose among "
                f"{', '.join(map(str, LAYERS))}"
            )
        self.patch = patch
        self.layers = LAYERS[patch]
        widths = list(channels or (layer.channels for layer in self.layers))
        before = 3
        for number, (layer, width) in enumerate(zip(self.layers, widths, strict=True), start=1):
            setattr(self, f"conv{number}", nn.Conv2d(before, width, layer.kernel))
            before = width
        self.embedding = before
        self.decode = nn.Linear(before, outputs)

    def forward(
        self, patches: Tensor, channel_mask: Tensor | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """The decoded descriptor of single patches.

        Args:
            patches: (B, 3, p, p).
            channel_mask: (B, embedding) factors of the embedding: dropout of whole channels.
            mask: (B, outputs) factors of the output: dropout after its activation.

        Returns:
            (B, outputs).
        """
        embedded = self.embed_patches(patches)
        if channel_mask is not None:
            embedded = embedded * channel_mask
        decoded = self.decoded(embedded)
        return decoded if mask is None else decoded * mask

    def embed_patches(self, patches: Tensor) -> Tensor:
        """(B, 3, p, p) patches -> (B, embedding)."""
        for convolution, layer in zip(self._convolutions(), self.layers, strict=True):
            patches = leaky_relu(convolution(patches), SLOPE)
            if layer.pool:
                patches = max_pool2d(patches, 2)
        return patches.flatten(1)

    def embed_densely(self, images: Tensor) -> Tensor:
        """The embedding of the patch around every pixel of a picture padded with zeros.

        A convolution or pool behind a pool of stride 2 is the same layer with twice the dilation
        and stride 1 on the whole picture, so neighbouring patches share their work.

        Args:
            images: (B, 3, H, W).

        Returns:
            (B, embedding, H, W); at (y, x) the patch whose top left corner is (y, x) of the picture
            padded by (p - 1) / 2 on all sides.
        """
        height, width = images.shape[-2:]
        features = pad(images, [(self.patch - 1) // 2] * 4)
        features = features.contiguous(memory_format=fast_layout(images.device))
        dilation = 1
        for convolution, layer in zip(self._convolutions(), self.layers, strict=True):
            features = leaky_relu(
                conv2d(features, convolution.weight, convolution.bias, dilation=dilation), SLOPE
            )
            if layer.pool:
                features = max_pool2d(features, 2, stride=1, dilation=dilation)
                dilation *= 2
        # Where pooling drops rows of a patch, the padded picture has more positions than pixels.
        return features[..., :height, :width]

    def decoded(self, embedded: Tensor) -> Tensor:
        """(..., embedding) -> (..., outputs)."""
        return leaky_relu(self.decode(embedded), SLOPE)

    def _convolutions(self) -> list[nn.Conv2d]:
        return [getattr(self, f"conv{number + 1}") for number in range(len(self.layers))]


def draw_network(network: PatchNetwork, generator: torch.Generator) -> None:
    """Weights and biases as torch draws them at first: uniform up to 1 / sqrt(fan-in)."""
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                bound = 1 / math.sqrt(module.weight[0].numel())
                for parameter in module.parameters(recurse=False):
                    drawn = torch.rand(parameter.shape, generator=generator)
                    parameter.copy_((2 * drawn - 1) * bound)
