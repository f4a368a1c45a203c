"""Encoders of patches of 32 and 64 pixels, alone or densely, and the classifier of positions."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, leaky_relu, linear

if TYPE_CHECKING:
    from collections.abc import Sequence

SLOPE = 0.1
SMALL, LARGE = 32, 64
"""Sides of the patches."""
CELL = 2
"""Pixels between neighbouring embeddings of the dense pass: the stride of the first convolution."""
WIDTHS = (32, 64, 128, 128, 64, 32, 32)
DIRECTIONS = 8


class SmallEncoder(nn.Module):
    """Eight 3x3 convolutions without padding: a patch of 32 pixels becomes one vector."""

    def __init__(self, length: int, widths: Sequence[int] = WIDTHS) -> None:
        super().__init__()
        before = 3
        for number, width in enumerate((*widths, length), start=1):
            stride = CELL if number == 1 else 1
            setattr(self, f"conv{number}", nn.Conv2d(before, width, 3, stride))
            before = width
        self.count = len(widths) + 1

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, length, h, w), the patches of 32 pixels every 2 pixels."""
        for number in range(1, self.count):
            images = leaky_relu(getattr(self, f"conv{number}")(images), SLOPE)
        last: nn.Conv2d = getattr(self, f"conv{self.count}")
        return torch.tanh(last(images))


class Encoder(nn.Module):
    """Both encoders: that of 64 pixels joins what the small one says of its four quadrants."""

    def __init__(self, length: int, widths: Sequence[int] = WIDTHS, hidden: int = 128) -> None:
        super().__init__()
        self.enc = SmallEncoder(length, widths)
        self.conv1 = nn.Conv2d(length, hidden, 2)
        self.conv2 = nn.Conv2d(hidden, length, 1)

    def embed(self, patches: Tensor) -> Tensor:
        """(B, 3, K, K) patches, K 32 or 64 -> (B, length)."""
        if patches.shape[-1] == SMALL:
            found: Tensor = self.enc(patches)
            return found.flatten(1)
        quadrants = torch.cat(
            [
                patches[..., top : top + SMALL, left : left + SMALL]
                for top in (0, SMALL)
                for left in (0, SMALL)
            ]
        )
        corners = self.enc(quadrants).flatten(1)
        # (4 B, length), corner by corner, to a 2x2 map for each patch.
        square = corners.view(2, 2, len(patches), -1).permute(2, 3, 0, 1)
        return self._join(square, 1).flatten(1)

    def embed_densely(self, images: Tensor, strides: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """All patches of a picture, from one pass of the small encoder.

        The small encoder has no padding, so on the whole picture it gives every patch of 32 pixels
        whose corner is on even pixels. The quadrants of a large patch are 32 pixels apart: 16 cells
        of that grid, which is the dilation of the 2x2 convolution that joins them.

        Args:
            images: (B, 3, H, W), at least 64 pixels each way.
            strides: pixels between patches of 64 and of 32 pixels; even.

        Returns:
            (B, h, w, length) for 64 and for 32 pixels.
        """
        cells = self.enc(images)
        large = self._join(cells, SMALL // CELL)
        return _every(large, strides[0]), _every(cells, strides[1])

    def _join(self, cells: Tensor, dilation: int) -> Tensor:
        joined = leaky_relu(
            conv2d(cells, self.conv1.weight, self.conv1.bias, dilation=dilation), SLOPE
        )
        return torch.tanh(self.conv2(joined))


def _every(cells: Tensor, stride: int) -> Tensor:
    """(B, C, h, w) cells at every `stride` pixels -> (B, h', w', C)."""
    step = stride // CELL
    return cells[..., ::step, ::step].permute(0, 2, 3, 1).contiguous()


class PositionClassifier(nn.Module):
    """In which of eight directions the second patch lies, from the difference of two embeddings.

    The columns of the last weight are divided by their length outside the graph, as published: this
    weight never gets a gradient, and keeps its first value; only its bias is trained.
    """

    def __init__(self, length: int, hidden: int = 128) -> None:
        super().__init__()
        self.fc1 = nn.Linear(length, hidden)
        self.fc2 = nn.Linear(hidden, hidden)
        self.fc3 = nn.Linear(hidden, DIRECTIONS)
        self.fc3.weight.requires_grad_(False)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """(B, length) twice -> (B, 8) logits."""
        hidden = leaky_relu(self.fc1(first - second), SLOPE)
        hidden = leaky_relu(self.fc2(hidden), SLOPE)
        weight = self.fc3.weight / self.fc3.weight.norm(dim=0)
        return linear(hidden, weight, self.fc3.bias)


def draw_network(network: nn.Module, generator: torch.Generator) -> None:
    """Weights and biases as torch draws them at first: uniform up to 1 / sqrt(fan-in)."""
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                bound = 1 / math.sqrt(module.weight[0].numel())
                for parameter in module.parameters(recurse=False):
                    drawn = torch.rand(parameter.shape, generator=generator)
                    parameter.copy_((2 * drawn - 1) * bound)
