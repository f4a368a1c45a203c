"""VT-ADL's auto-encoder: transformer, one capsule, and a decoder of transposed convolutions."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import nn

from bench.api import MethodError
from bench.blocks.layout import fast_layout

from .transformer import VisionTransformer

if TYPE_CHECKING:
    from torch import Tensor

IMAGE = 512
"""Side of the images: what the decoder makes of 8x8."""
CODE = 512
"""Numbers of the capsule, seen by the decoder as 8 channels of 8x8."""
_CHANNELS, _SIDE = 8, 8
# Kernel, stride and padding of each transposed convolution.
_PLAN = ((3, 2, 1), (9, 3, 1), (7, 5, 1), (9, 2, 0), (6, 1, 0), (11, 1, 0))


class Capsule(nn.Linear):
    """All tokens to one capsule of 512 numbers.

    The code routes three times between 8-vectors of the tokens and the capsules, but the routing's
    softmax runs over capsules, and there is one: every coefficient is 1. What is left is a linear
    map and a squash.
    """

    def __init__(self, inputs: int) -> None:
        super().__init__(inputs, CODE, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, N, dim) -> (B, 512)."""
        return squash(super().forward(tokens.flatten(1)))


class Decoder(nn.Module):
    """(B, 512) -> (B, 3, 512, 512) in [-1, 1]: tanh, although images are in [0, 1]."""

    def __init__(self, width: int) -> None:
        """`width`: of the first layer; the others have 2, 2, 1 and 1/2 times as many channels."""
        super().__init__()
        widths = [width, 2 * width, 2 * width, width, width // 2]
        if min(widths) < 1:
            raise MethodError(f"vtadl: width = {width}; the decoder needs at least 2")
        layers: list[nn.Module] = []
        for before, after, (kernel, stride, pad) in zip(
            [_CHANNELS, *widths], [*widths, 3], _PLAN, strict=True
        ):
            layers.append(nn.ConvTranspose2d(before, after, kernel, stride, pad))
            if len(layers) < 3 * len(widths):
                layers += [nn.BatchNorm2d(after), nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*layers, nn.Tanh())

    def forward(self, code: Tensor) -> Tensor:
        x = code.view(-1, _CHANNELS, _SIDE, _SIDE)
        if not self.training:
            # oneDNN is up to ten times as fast in this layout. Not in training: biases before a
            # norm have gradients of rounding alone, which Adam makes steps of; other kernels
            # would train another network.
            x = x.contiguous(memory_format=fast_layout(x.device))
        result: Tensor = self.layers(x)
        return result


class AutoEncoder(nn.Module):
    """Tokens of an image, and the image decoded from them."""

    def __init__(self, patch: int, dim: int, depth: int, heads: int, mlp: int, width: int) -> None:
        super().__init__()
        self.transformer = VisionTransformer(IMAGE, patch, dim, depth, heads, mlp)
        self.capsule = Capsule((IMAGE // patch) ** 2 * dim)
        self.decoder = Decoder(width)

    def decode(self, tokens: Tensor) -> Tensor:
        """(B, N, dim) -> (B, 3, 512, 512)."""
        result: Tensor = self.decoder(self.capsule(tokens))
        return result


def squash(s: Tensor) -> Tensor:
    """(B, n) vectors, shortened to below 1: s |s| / (1 + |s|^2) (arXiv:1710.09829, equation 1)."""
    length: Tensor = s.norm(dim=1, keepdim=True)
    return s * length / (1 + length.square())


@torch.no_grad()
def initialise(network: nn.Module, generator: torch.Generator) -> None:
    """As the code does it.

    Linear layers of the transformer: Kaiming normal, biases 0; class token and positions N(0, 1);
    capsule 0.01 N(0, 1). Transposed convolutions and the mixture network's layers keep torch's
    default, uniform in +-1 / sqrt(fan in).
    """
    for module in network.modules():
        if isinstance(module, Capsule):
            module.weight.normal_(0, 0.01, generator=generator)
        elif isinstance(module, VisionTransformer):
            module.class_token.normal_(generator=generator)
            module.positions.normal_(generator=generator)
        elif isinstance(module, nn.Linear) and isinstance(network, AutoEncoder):
            module.weight.normal_(0, math.sqrt(2 / module.in_features), generator=generator)
            if module.bias is not None:
                module.bias.zero_()
        elif isinstance(module, (nn.ConvTranspose2d, nn.Linear)):
            bound = module.weight[0].numel() ** -0.5
            module.weight.uniform_(-bound, bound, generator=generator)
            if module.bias is not None:
                module.bias.uniform_(-bound, bound, generator=generator)
