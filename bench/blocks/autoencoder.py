"""The convolutional auto-encoder of AE-SSIM (arXiv:1807.02011, table 1), with and without norms."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import torch
from torch import nn

from bench.blocks.layout import fast_layout
from bench.errors import MethodError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

Output = Literal["sigmoid", "linear"]
Init = Literal["glorot", "torch"]

SLOPE = 0.2
SMALLEST = 64
"""Side of the smallest patch: three halvings and an 8x8 convolution."""


class AutoEncoder(nn.Module):
    """Patches of side 8 * 2^n, n >= 3, to a code of one number for each latent channel, and back.

    n convolutions of stride 2 bring a patch to 8x8, and one 8x8 convolution to a single position.
    The published network is n = 4 (128 pixels) and n = 5 (256). LeakyReLU 0.2 follows every layer
    but the code and the output.
    """

    def __init__(
        self,
        patch: int,
        channels: int,
        widths: Sequence[int],
        latent: int,
        *,
        code: int | None = None,
        output: Output = "sigmoid",
        norm: bool = False,
    ) -> None:
        """
        Args:
            patch: side of a patch, in pixels.
            channels: of the picture.
            widths: of the encoder's eight layers before the code at 128 pixels; the second stands
                n - 3 times. The decoder has them in reverse.
            latent: numbers that the decoder takes.
            code: numbers that the encoder gives; None: as many as the decoder takes.
            output: what follows the last layer.
            norm: batch norm after every layer but the code and the output, and transposed 3x3
                convolutions in the decoder.

        Raises:
            MethodError: a patch that is not 8 * 2^n, or other than eight widths.
        """
        super().__init__()
        halvings = _halvings(patch)
        if len(widths) != 8 or min(*widths, latent, channels) < 1:
            raise MethodError(
                f"auto-encoder of widths {tuple(widths)} and {latent} latent numbers; it needs "
                "eight widths and all of them positive"
            )
        self.patch = patch
        plan = _plan(widths, halvings)
        layers: list[nn.Module] = []
        previous = channels
        for width, kernel in plan:
            layers += _layer(nn.Conv2d(previous, width, kernel, *_stride(kernel)), width, norm)
            previous = width
        layers.append(nn.Conv2d(previous, code or latent, 8))
        self.encoder = nn.Sequential(*layers)
        layers = _layer(nn.ConvTranspose2d(latent, previous, 8), previous, norm)
        for (_, kernel), (width, _) in zip(plan[:0:-1], plan[-2::-1], strict=True):
            kind = nn.ConvTranspose2d if kernel == 4 or norm else nn.Conv2d
            layers += _layer(kind(previous, width, kernel, *_stride(kernel)), width, norm)
            previous = width
        layers.append(nn.ConvTranspose2d(previous, channels, 4, 2, 1))
        if output == "sigmoid":
            layers.append(nn.Sigmoid())
        self.decoder = nn.Sequential(*layers)

    def forward(self, patches: Tensor) -> Tensor:
        """(B, C, patch, patch) -> its reconstruction; where code and latent have one size."""
        return self.decode(self.encode(patches))

    def encode(self, patches: Tensor) -> Tensor:
        """(B, C, patch, patch) -> (B, code)."""
        patches = patches.contiguous(memory_format=fast_layout(patches.device))
        code: Tensor = self.encoder(patches)
        return code.flatten(1)

    def decode(self, latent: Tensor) -> Tensor:
        """(B, latent) -> (B, C, patch, patch)."""
        result: Tensor = self.decoder(latent[:, :, None, None])
        return result

    def convolutions(self) -> Iterator[nn.Conv2d | nn.ConvTranspose2d]:
        """Encoder's, then decoder's, in the order of the layers."""
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
                yield module


def initialise(network: AutoEncoder, init: Init, generator: torch.Generator) -> None:
    """Draw all weights anew.

    Args:
        init: "glorot": uniform with zero biases, Keras' default; "torch": its own default, uniform
            in +-1 / sqrt(fan in) for weights and biases.
        generator: of the CPU.
    """
    for layer in network.convolutions():
        if init == "glorot":
            nn.init.xavier_uniform_(layer.weight, generator=generator)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        else:
            nn.init.kaiming_uniform_(layer.weight, a=math.sqrt(5), generator=generator)
            bound = 1 / math.sqrt(layer.weight[0].numel())
            if layer.bias is not None:
                nn.init.uniform_(layer.bias, -bound, bound, generator=generator)


def _halvings(patch: int) -> int:
    n = (patch // 8).bit_length() - 1
    if patch < SMALLEST or patch != 8 * 2**n:
        raise MethodError(
            f"patch = {patch}; the auto-encoder takes patches of 64, 128, 256, 512, ... pixels"
        )
    return n


def _plan(widths: Sequence[int], halvings: int) -> list[tuple[int, int]]:
    """Width and kernel of each of the encoder's layers before the code; kernel 4 has stride 2."""
    first, second, *rest = widths
    kernels = (3, 4, 3, 4, 3, 3)
    head = [(first, 4)] + [(second, 4)] * (halvings - 3)
    return head + list(zip(rest, kernels, strict=True))


def _stride(kernel: int) -> tuple[int, int]:
    """Stride and padding."""
    return (2, 1) if kernel == 4 else (1, 1)


def _layer(convolution: nn.Module, width: int, norm: bool) -> list[nn.Module]:
    norms = [nn.BatchNorm2d(width)] if norm else []
    return [convolution, *norms, nn.LeakyReLU(SLOPE, inplace=True)]
