"""The trained flows rearranged for scoring, and the maps that their likelihoods become."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from bench.blocks.position import position_code

if TYPE_CHECKING:
    from collections.abc import Sequence

    from FrEIA.framework import SequenceINN
    from FrEIA.modules import AllInOneBlock


@dataclass(frozen=True)
class Coupling:
    """One block: hidden = relu(u1 @ into + code), (s, t) from hidden @ out + bias.

    The block's scale, offset and rotation are one matrix and one shift; the last block has none.

    Attributes:
        into: (C1, D). code: (positions, D), the linear layer's bias included; or (1, D).
        out: (D, 2 C2) and bias: (2 C2,), both times the flow's factor 0.1.
        mix: (C, C) and shift: (C,), or the scale (C,) and offset (C,) of the last block.
    """

    into: Tensor
    code: Tensor
    out: Tensor
    bias: Tensor
    mix: Tensor
    shift: Tensor


class FusedDecoder:
    """A decoder as the fewest matrix products that give its likelihood.

    Equal to the FrEIA module up to rounding: the code's part of the first linear layer does not
    depend on the fiber, so it is a table by position; scale and offset are folded into the
    rotation; the last rotation is left out, since only |z| is used.
    """

    def __init__(self, decoder: SequenceINN, code: Tensor | None, clamp: float, dtype: torch.dtype):
        """`code`: (positions, P), or None for a flow without condition."""
        blocks = list(decoder)
        self.clamp = clamp
        self.dtype = dtype
        self.channels = 0
        self.log_scale = 0.0
        self.couplings: list[Coupling] = []
        with torch.no_grad():
            for index, block in enumerate(blocks):
                self._append(block, code, is_last=index == len(blocks) - 1)

    def _append(self, block: AllInOneBlock, code: Tensor | None, *, is_last: bool) -> None:
        first, second = block.subnet[0], block.subnet[2]
        scale = 0.1 * functional.softplus(block.global_scale[0], beta=0.5)
        offset, turn = block.global_offset[0], block.w_perm
        self.channels = len(scale)
        passive = self.channels - self.channels // 2
        table = first.bias[None]
        if code is not None:
            table = functional.linear(code, first.weight[:, passive:], first.bias)
        self.log_scale += float(scale.double().log().sum())
        self.couplings.append(
            Coupling(
                into=first.weight[:, :passive].T.to(self.dtype).contiguous(),
                code=table.to(self.dtype),
                out=(0.1 * second.weight).T.to(self.dtype).contiguous(),
                bias=(0.1 * second.bias).to(self.dtype),
                mix=scale if is_last else (turn * scale).T.to(self.dtype).contiguous(),
                shift=offset if is_last else (turn @ offset).to(self.dtype),
            )
        )

    @property
    def bytes_per_fiber(self) -> int:
        """Memory that a fiber needs while it is decoded, intermediate results included."""
        return 4 * (4 * self.channels + 2 * self.couplings[0].into.shape[1])

    def log_likelihood(self, fibers: Tensor, start: int = 0) -> Tensor:
        """(B, p, C) fibers at positions start .. start + p -> (B, p) log p per dimension."""
        batch, count, channels = fibers.shape
        u = fibers.reshape(-1, channels).float().clone()
        active = channels // 2
        passive = channels - active
        log_det = u.new_full((len(u),), self.log_scale)
        for index, part in enumerate(self.couplings):
            hidden = (u[:, :passive].to(self.dtype) @ part.into).view(batch, count, -1)
            code = part.code if len(part.code) == 1 else part.code[start : start + count]
            hidden = hidden.add_(code).relu_().view(len(u), -1)
            a = torch.addmm(part.bias, hidden, part.out).float()
            s = a[:, :active].tanh_().mul_(self.clamp)
            log_det += s.sum(1)
            u[:, passive:].mul_(s.exp_()).add_(a[:, active:])
            if index < len(self.couplings) - 1:
                u = torch.addmm(part.shift, u.to(self.dtype), part.mix).float()
        last = self.couplings[-1]
        square = u.mul_(last.mix).add_(last.shift).square_().sum(1)
        q = (log_det - square / 2) / channels - math.log(2 * math.pi) / 2
        return q.view(batch, count)

    def decode(self, features: Tensor, limit_mb: float) -> Tensor:
        """(B, C, h, w) features -> (B, h, w) log p per dimension.

        All fibers go at once, in chunks whose intermediate results take about `limit_mb`.
        """
        batch, channels, height, width = features.shape
        fibers = features.permute(0, 2, 3, 1).reshape(batch, height * width, channels)
        room = max(1, int(limit_mb * 1e6 / self.bytes_per_fiber))
        positions = min(room, height * width)
        images = max(1, room // positions)
        q = fibers.new_empty(batch, height * width, dtype=torch.float32)
        for start in range(0, height * width, positions):
            here = slice(start, start + positions)
            for first in range(0, batch, images):
                some = slice(first, first + images)
                q[some, here] = self.log_likelihood(fibers[some, here], start)
        return q.view(batch, height, width)


class Scorer:
    """Encoder and fused decoders of a trained method: images to likelihoods of each level."""

    def __init__(
        self,
        encoder: nn.Module,
        decoders: Sequence[SequenceINN],
        condition: int,
        clamp: float,
        precision: str,
        limit_mb: float,
    ) -> None:
        self.dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        self.encoder = encoder if precision == "float32" else _reduced(encoder, self.dtype)
        self.decoders = decoders
        self.condition = condition
        self.clamp = clamp
        self.limit_mb = limit_mb
        self.fused: dict[tuple[int, int, int], FusedDecoder] = {}

    def features(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) -> one (B, C, h, w) for each level."""
        if self.dtype == torch.float32:
            return list(self.encoder(images))
        with torch.autocast(images.device.type, self.dtype):
            return list(self.encoder(images.to(self.dtype)))

    def log_likelihoods(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) -> one (B, h, w) float32 log p per dimension for each level."""
        return self.decode(self.features(images))

    def decode(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Feature maps of each level -> (B, h, w) float32 log p per dimension."""
        return [
            self._decoder(level, x).decode(x, self.limit_mb) for level, x in enumerate(features)
        ]

    def _decoder(self, level: int, features: Tensor) -> FusedDecoder:
        height, width = features.shape[-2:]
        key = (level, height, width)
        if key not in self.fused:
            code = None
            if self.condition:
                code = position_code(self.condition, height, width).flatten(1).T
                code = code.to(features.device)
            decoder = FusedDecoder(self.decoders[level], code, self.clamp, self.dtype)
            self.fused[key] = decoder
        return self.fused[key]


def _reduced(encoder: nn.Module, dtype: torch.dtype) -> nn.Module:
    """A copy with convolutions and linear layers in `dtype`, the rest left to autocast."""
    encoder = copy.deepcopy(encoder)
    for module in encoder.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.to(dtype)
    return encoder


def probability_map(
    levels: Sequence[Tensor], maxima: Tensor, image_size: tuple[int, int]
) -> Tensor:
    """Sum over levels of exp(q - maximum), brought to the image size (CFLOW-AD, section 3.4).

    Args:
        levels: (B, h, w) log p per dimension of each level.
        maxima: (L,) the values that count as probability one.
        image_size: (height, width) of the result.

    Returns:
        (B, height, width) float64, low where a pixel is unlikely.
    """
    total = torch.zeros((), dtype=torch.float64)
    for q, top in zip(levels, maxima, strict=True):
        p = (q.double() - top.to(q.device)).exp()[:, None]
        p = functional.interpolate(p, size=image_size, mode="bilinear", align_corners=True)
        total = total.to(p.device) + p[:, 0]
    return total
