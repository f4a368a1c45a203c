"""Patches of an image to tokens: a vision transformer as VT-ADL's code has it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional

from bench.api import MethodError

if TYPE_CHECKING:
    from torch import Tensor


class Attention(nn.Module):
    """Self-attention of `heads` heads, scaled by the root of the whole width.

    The usual scale is the root of a head's width; the published code has the whole one's.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.scale = dim**-0.5
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        batch, count, dim = x.shape
        q, k, v = self.qkv(x).view(batch, count, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(q, k, v, scale=self.scale)
        result: Tensor = self.out(mixed.transpose(1, 2).reshape(batch, count, dim))
        return result


class Layer(nn.Module):
    """Attention and a network of two linear layers with GELU, each after a norm and residual."""

    def __init__(self, dim: int, heads: int, mlp: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attention = Attention(dim, heads)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, mlp), nn.GELU(), nn.Linear(mlp, dim))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        result: Tensor = x + self.mlp(self.norm2(x))
        return result


class VisionTransformer(nn.Module):
    """(B, 3, image, image) -> (B, N, dim) tokens, one for each patch, row by row.

    A class token takes part and is dropped; there is no norm at the end.
    """

    def __init__(self, image: int, patch: int, dim: int, depth: int, heads: int, mlp: int) -> None:
        """
        Raises:
            MethodError: patches that do not tile the image, or heads that do not divide `dim`.
        """
        super().__init__()
        if patch < 1 or image % patch:
            raise MethodError(
                f"vtadl: patches of {patch} do not tile {image} pixels; choose a divisor"
            )
        if heads < 1 or dim % heads:
            raise MethodError(f"vtadl: {heads} heads do not divide dim = {dim}")
        self.patch = patch
        count = (image // patch) ** 2
        self.embed = nn.Linear(3 * patch**2, dim)
        self.class_token = nn.Parameter(torch.empty(1, 1, dim))
        self.positions = nn.Parameter(torch.empty(1, count + 1, dim))
        self.layers = nn.Sequential(*(Layer(dim, heads, mlp) for _ in range(depth)))

    def patches(self, images: Tensor) -> Tensor:
        """(B, N, patch * patch * 3), each in the order row, column, channel."""
        batch, channels, height, width = images.shape
        p = self.patch
        cells = images.view(batch, channels, height // p, p, width // p, p)
        return cells.permute(0, 2, 4, 3, 5, 1).reshape(batch, -1, p * p * channels)

    def forward(self, images: Tensor) -> Tensor:
        x = self.embed(self.patches(images))
        x = torch.cat([self.class_token.expand(len(x), -1, -1), x], 1) + self.positions
        result: Tensor = self.layers(x)[:, 1:]
        return result
