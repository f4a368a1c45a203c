"""The two networks: one redraws a picture without its anomaly, the other compares (section 3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Sequence

STRIDE = 32
"""Sides of the images must be multiples: the discrimination network halves five times."""
_ENCODER = (1, 2, 4, 8, 8)
_DEVIATION = 0.02


class Reconstruction(nn.Module):
    """(B, 3, H, W) picture -> the same without anomalies; no skip connections, no last bound."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.encoder = _Encoder(3, [width * m for m in _ENCODER])
        # After each enlargement two convolutions, the second of which sets the next width.
        outside = [width * m for m in (4, 2, 1, 1)]
        inside = [8 * width, *outside[:-1]]
        decoder = nn.ModuleDict()
        for n, (a, b) in enumerate(zip(inside, outside, strict=True), 1):
            decoder[f"up{n}"] = nn.Sequential(_Double(), *_convolution(a, a))
            decoder[f"db{n}"] = nn.Sequential(*_convolution(a, a), *_convolution(a, b))
        decoder["fin_out"] = nn.Sequential(nn.Conv2d(width, 3, 3, padding=1))
        self.decoder = decoder

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.encoder(images)[-1]
        for layer in self.decoder.values():
            hidden = layer(hidden)
        return cast("Tensor", hidden)


class Discrimination(nn.Module):
    """(B, 6, H, W) reconstruction beside the picture -> (B, 2, H, W) logits: normal, anomalous."""

    def __init__(self, width: int) -> None:
        super().__init__()
        widths = [width * m for m in (*_ENCODER, 8)]
        self.encoder_segment = _Encoder(6, widths)
        self._names = ("_b", "1", "2", "3", "4")
        decoder = nn.ModuleDict()
        inside = widths[-1]
        pairs = zip(self._names, (8, 4, 2, 1, 1), reversed(widths[:-1]), strict=True)
        for name, multiple, skip in pairs:
            outside = width * multiple
            decoder[f"up{name}"] = nn.Sequential(_Double(), *_convolution(inside, outside))
            decoder[f"db{name}"] = nn.Sequential(
                *_convolution(outside + skip, outside), *_convolution(outside, outside)
            )
            inside = outside
        decoder["fin_out"] = nn.Sequential(nn.Conv2d(width, 2, 3, padding=1))
        self.decoder_segment = decoder

    def forward(self, joined: Tensor) -> Tensor:
        *skips, hidden = self.encoder_segment(joined)
        for name, skip in zip(self._names, reversed(skips), strict=True):
            enlarged = self.decoder_segment[f"up{name}"](hidden)
            hidden = self.decoder_segment[f"db{name}"](torch.cat([enlarged, skip], 1))
        return cast("Tensor", self.decoder_segment["fin_out"](hidden))


class _Encoder(nn.Module):
    """Blocks of two convolutions with a pooling between blocks; returns what each block gives."""

    def __init__(self, channels: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.count = len(widths)
        for n, (a, b) in enumerate(zip((channels, *widths[:-1]), widths, strict=True), 1):
            block = nn.Sequential(*_convolution(a, b), *_convolution(b, b))
            self.add_module(f"block{n}", block)

    def forward(self, images: Tensor) -> list[Tensor]:
        found: list[Tensor] = []
        for n in range(1, self.count + 1):
            below = functional.max_pool2d(found[-1], 2) if found else images
            found.append(self.get_submodule(f"block{n}")(below))
        return found


class _Double(nn.Module):
    """Twice the sides: bilinear, corners aligned."""

    def forward(self, images: Tensor) -> Tensor:
        return functional.interpolate(images, scale_factor=2, mode="bilinear", align_corners=True)


def _convolution(inside: int, outside: int) -> list[nn.Module]:
    return [
        nn.Conv2d(inside, outside, 3, padding=1),
        nn.BatchNorm2d(outside),
        nn.ReLU(inplace=True),
    ]


def initialise(network: nn.Module, generator: torch.Generator) -> None:
    """Weights as published: N(0, 0.02^2), of norms N(1, 0.02^2); biases as torch draws them."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.data.normal_(0, _DEVIATION, generator=generator)
            if module.bias is not None:
                bound = module.weight[0].numel() ** -0.5
                module.bias.data.uniform_(-bound, bound, generator=generator)
        elif isinstance(module, nn.BatchNorm2d):
            module.weight.data.normal_(1, _DEVIATION, generator=generator)
            module.bias.data.zero_()
