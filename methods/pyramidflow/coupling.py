"""The pyramid coupling blocks (PyramidFlow, arXiv:2303.02595, section 3) and their parts.

A block changes one level, y = W (exp(s) x + t), where s and t come from the neighbouring levels
by two convolutions, s is freed of its mean (volume normalisation), and |det W| = 1. The formulas
and constants are those of the published code (gasharper/PyramidFlow at 6977d5a).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from bench.blocks.reversible import Coupling

from .affine import scale_and_shift
from .doubled import doubled_conv, phase_kernels

if TYPE_CHECKING:
    from collections.abc import Sequence

VolumeNormKind = Literal["cvn", "svn", "none"]

SLOPE = 0.01
MOMENTUM = 0.1


class VolumeNorm(nn.Module):
    """Takes the mean out of log-scales, so that their sum, the log-determinant, is zero.

    "cvn" averages over images and channels, at every pixel; "svn" over images and pixels, in
    every channel. Evaluation uses running means, which have their final shape from the start.
    """

    running_mean: Tensor

    def __init__(
        self, kind: VolumeNormKind, channels: int, size: tuple[int, int], updates: int
    ) -> None:
        super().__init__()
        self.dims: tuple[int, ...] = {"cvn": (0, 1), "svn": (0, 2, 3), "none": ()}[kind]
        # Several updates with one mean are one update with a larger share of it.
        self.share = 1 - (1 - MOMENTUM) ** updates
        shape = {"cvn": (1, 1, *size), "svn": (1, channels, 1, 1), "none": (1, 1, 1, 1)}[kind]
        self.register_buffer("running_mean", torch.zeros(shape), persistent=kind != "none")

    def fixed_mean(self) -> Tensor | None:
        """The mean to subtract, or None in training: that of the batch."""
        return None if self.training and self.dims else self.running_mean

    def observe(self, mean: Tensor) -> None:
        """Blend a batch mean into the running one; without its graph, which would never end."""
        if self.training and self.dims:
            self.running_mean.lerp_(mean.detach(), self.share)


class InvertibleConv(nn.Module):
    """A learned invertible mixing of channels with |det W| = 1, as a PLU product.

    W = P (tril(l) + I) (triu(u) + diag(sign * exp(s - mean(s)))). A fresh W is orthogonal.
    """

    permutation: Tensor
    sign: Tensor
    unit: Tensor

    def __init__(self, channels: int, generator: torch.Generator) -> None:
        super().__init__()
        normal = torch.randn(channels, channels, dtype=torch.float64, generator=generator)
        p, lower, upper = torch.linalg.lu(torch.linalg.qr(normal).Q)
        diagonal = upper.diagonal()
        self.lower = nn.Parameter(lower.float())
        self.upper = nn.Parameter(upper.float())
        self.log_diagonal = nn.Parameter(diagonal.abs().log().float())
        self.register_buffer("sign", diagonal.sign().float())
        self.register_buffer("permutation", p.argmax(1))
        self.register_buffer("unit", torch.eye(channels), persistent=False)

    def weight(self) -> Tensor:
        """W, (C, C)."""
        lower, upper = self._factors()
        return (lower @ upper).index_select(0, self.permutation)

    def inverse_weight(self) -> Tensor:
        """The inverse of W, computed in float64 so that chains of blocks invert well.

        By the factors themselves: a general inverse factorises again, and on a GPU waits to see
        whether the matrix was singular.
        """
        lower, upper = (factor.double() for factor in self._factors())
        half = torch.linalg.solve_triangular(lower, self.unit.double(), upper=False)
        inverse: Tensor = torch.linalg.solve_triangular(upper, half, upper=True)
        return inverse.index_select(1, self.permutation).to(self.lower.dtype)

    def _factors(self) -> tuple[Tensor, Tensor]:
        """L and U of W = P L U, (C, C) each."""
        scale = self.sign * (self.log_diagonal - self.log_diagonal.mean()).exp()
        return self.lower.tril(-1) + self.unit, self.upper.triu(1) + self.unit * scale


def mix(x: Tensor, weight: Tensor) -> Tensor:
    """A 1x1 convolution by a (C, C) matrix; (B, C, H, W), same shape."""
    return functional.conv2d(x, weight[:, :, None, None])


def same_conv(x: Tensor, weight: Tensor, stride: int = 1) -> Tensor:
    """A convolution without bias, zeros outside, that keeps the size (divided by `stride`)."""
    return functional.conv2d(x, weight, padding=weight.shape[-1] // 2, stride=stride)


def every(x: Tensor, step: int) -> Tensor:
    """The top left pixel of each cell of step x step: nearest neighbour to a smaller size."""
    return x[..., ::step, ::step] if step > 1 else x


class PyramidCoupling(Coupling):
    """What the three kinds of blocks share: the affine transform, its network and its inverse.

    Args:
        channels: C of every level.
        inputs: number of levels that condition the block; the network sees inputs * C channels.
        kernel: odd side of both convolutions.
        size: (height, width) at which the network works.
        norm: kind of volume normalisation.
        updates: updates of the running mean for each forward pass.

    Attributes:
        decimation: size of the network's output over that of the level changed.
    """

    decimation = 1

    def __init__(
        self,
        channels: int,
        inputs: int,
        kernel: int,
        size: tuple[int, int],
        norm: VolumeNormKind,
        updates: int,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        hidden = 2 * channels
        self.first = nn.Parameter(torch.empty(hidden, inputs * channels, kernel, kernel))
        nn.init.kaiming_uniform_(self.first, a=math.sqrt(5), generator=generator)
        # Zero, so that a fresh block only mixes channels.
        self.last = nn.Parameter(torch.zeros(hidden, hidden, kernel, kernel))
        self.norm = VolumeNorm(norm, channels, size, updates)
        self.conv = InvertibleConv(channels, generator)

    def kernels(self) -> tuple[Tensor, ...]:
        """The first convolution's weights, in the form that `hidden` takes."""
        return (self.first,)

    def hidden(self, kernels: Sequence[Tensor], *sources: Tensor) -> Tensor:
        """The first convolution of the conditioning levels, before its activation."""
        raise NotImplementedError

    def coefficients(self, *sources: Tensor) -> tuple[Tensor, ...]:
        """(scale, shift, mean): the affine parameters, and the mean that was normalised away."""
        hidden = functional.leaky_relu_(self.hidden(self.kernels(), *sources), SLOPE)
        scale, shift, mean = scale_and_shift(
            same_conv(hidden, self.last), self.norm.dims, self.norm.fixed_mean()
        )
        return every(scale, self.decimation), every(shift, self.decimation), mean

    def couple(self, x: Tensor, coefficients: Sequence[Tensor]) -> Tensor:
        """y = W (scale * x + shift)."""
        scale, shift, _ = coefficients
        return mix(torch.addcmul(shift, scale, x), self.conv.weight())

    def uncouple(self, y: Tensor, coefficients: Sequence[Tensor]) -> Tensor:
        """x = (W^-1 y - shift) / scale."""
        scale, shift, _ = coefficients
        return (mix(y, self.conv.inverse_weight()) - shift) / scale

    def log_scales(self, coefficients: Sequence[Tensor]) -> Sequence[Tensor]:
        """log scale; the mixing by W adds nothing, since |det W| = 1."""
        return (coefficients[0].log(),)

    def observe(self, coefficients: Sequence[Tensor]) -> None:
        self.norm.observe(coefficients[2])


class UpCoupling(PyramidCoupling):
    """Changes the finest level, from the next one brought to its size."""

    target = 0
    sources = (1,)

    def kernels(self) -> tuple[Tensor, ...]:
        return phase_kernels(self.first)

    def hidden(self, kernels: Sequence[Tensor], *sources: Tensor) -> Tensor:
        return doubled_conv(sources[0], kernels, self.first.shape[-1])


class DownCoupling(PyramidCoupling):
    """Changes the coarsest level, from the finer one.

    The network works at the finer size and its results are decimated, volume normalisation
    included: with "svn" the log-scales that remain need not sum to zero, as in the code.
    """

    decimation = 2

    def __init__(self, source: int, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        self.target, self.sources = source + 1, (source,)

    def hidden(self, kernels: Sequence[Tensor], *sources: Tensor) -> Tensor:
        return same_conv(sources[0], kernels[0])


class DualCoupling(PyramidCoupling):
    """Changes a level between two others, from both: the paper's reverse parallel block.

    The network sees the finer level decimated beside the coarser one doubled. Convolution is
    linear in its input channels, so each half goes its own way.
    """

    def __init__(self, source: int, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        self.target, self.sources = source + 1, (source, source + 2)

    def kernels(self) -> tuple[Tensor, ...]:
        fine, coarse = self.first.chunk(2, dim=1)
        return (fine, *phase_kernels(coarse))

    def hidden(self, kernels: Sequence[Tensor], *sources: Tensor) -> Tensor:
        fine, coarse = sources
        own = same_conv(every(fine, 2), kernels[0])
        return own.add_(doubled_conv(coarse, kernels[1:], self.first.shape[-1]))
