"""Students at every pixel: their target, an update, and the two maps that they give."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .network import PatchNetwork

PIXELS = 4096
"""Pixels described at a time: 512 numbers for each of 65 536 pixels would be 134 MB."""


class Moments:
    """Running mean and population variance, in float64, of float32 samples."""

    def __init__(self) -> None:
        self.count = 0
        self.total: Tensor | float = 0.0
        self.squares: Tensor | float = 0.0

    def add(self, samples: Tensor) -> None:
        """(n, ...) samples."""
        wide = samples.double()
        self.count += len(wide)
        self.total = self.total + wide.sum(0)
        self.squares = self.squares + wide.square().sum(0)

    @property
    def mean(self) -> Tensor:
        """Of the samples so far."""
        return torch.as_tensor(self.total) / self.count

    @property
    def variance(self) -> Tensor:
        """Divided by the number of samples."""
        # Rounding can push a tiny variance below zero.
        return (torch.as_tensor(self.squares) / self.count - self.mean.square()).clamp(min=0)


def pixels(embedded: Tensor) -> Tensor:
    """(B, C, H, W) -> (B * H * W, C), row by row."""
    return embedded.permute(0, 2, 3, 1).reshape(-1, embedded.shape[1])


def blocks(flat: Tensor) -> Iterator[Tensor]:
    """(n, C) pixels in blocks of at most `PIXELS`."""
    return iter(torch.split(flat, PIXELS))


def describe(network: PatchNetwork, embedded: Tensor, is_decoded: bool) -> Tensor:
    """(n, C) embeddings -> (n, D) descriptors: the decoder's output, or the embedding itself."""
    return network.decoded(embedded) if is_decoded else embedded


@dataclass(frozen=True)
class Target:
    """What a student learns: the teacher's descriptors, standardised by channel.

    Attributes:
        mean: (D,), over all pixels of the training pictures.
        deviation: (D,), population standard deviation.
    """

    teacher: PatchNetwork
    mean: Tensor
    deviation: Tensor
    is_decoded: bool

    @torch.no_grad()
    def __call__(self, embedded: Tensor) -> Tensor:
        """(n, C) embeddings by the teacher -> (n, D)."""
        return (describe(self.teacher, embedded, self.is_decoded) - self.mean) / self.deviation


def student_step(
    student: PatchNetwork,
    images: Tensor,
    taught: Tensor,
    target: Target,
    optimizer: torch.optim.Optimizer,
) -> Tensor:
    """One update by the mean over pixels of the squared distance to the target.

    The decoder and its gradient are computed block by block, and the convolutions' gradient once
    at the end: the same sum, without the descriptor of every pixel in memory.

    Args:
        images: (B, 3, H, W), from -1 to 1.
        taught: (B * H * W, C) embeddings of these images by the teacher; one pass serves all
            students.

    Returns:
        the loss before the update, as a scalar tensor.
    """
    optimizer.zero_grad()
    embedded = pixels(student.embed_densely(images))
    gradient = torch.empty_like(embedded)
    loss = embedded.new_zeros((), dtype=torch.float64)
    for block, own, slot in zip(
        blocks(taught), blocks(embedded.detach()), blocks(gradient), strict=True
    ):
        own.requires_grad_()
        difference = describe(student, own, target.is_decoded) - target(block)
        part = difference.square().sum() / len(embedded)
        part.backward()  # type: ignore[no-untyped-call]
        slot.copy_(own.grad)  # type: ignore[arg-type]
        loss += part.detach()
    embedded.backward(gradient)  # type: ignore[no-untyped-call]
    optimizer.step()
    return loss


@torch.no_grad()
def error_and_variance(
    students: Sequence[PatchNetwork], images: Tensor, target: Target
) -> tuple[Tensor, Tensor]:
    """How far the students' mean is from the target, and how far they are from each other.

    Args:
        images: (B, 3, H, W), from -1 to 1.

    Returns:
        (B, H, W) each, as `disagreement` has them.
    """
    taught = pixels(target.teacher.embed_densely(images))
    learned = [pixels(student.embed_densely(images)) for student in students]
    errors, variances = [], []
    for block, *own in zip(blocks(taught), *map(blocks, learned), strict=True):
        found = torch.stack(
            [
                describe(student, part, target.is_decoded)
                for student, part in zip(students, own, strict=True)
            ]
        )
        error, variance = disagreement(found, target(block))
        errors.append(error)
        variances.append(variance)
    shape = (len(images), *images.shape[-2:])
    return torch.cat(errors).view(shape), torch.cat(variances).view(shape)


def disagreement(found: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Squared distance of the students' mean to the target, and their variance (section 3.3).

    The variance is the mean squared distance to the students' mean. As a difference of squares, as
    the re-implementation has it, it loses digits where students agree.

    Args:
        found: (M, ..., D) descriptors of M students.
        target: (..., D).

    Returns:
        (...) each, >= 0.
    """
    mean = found.mean(0)
    return (mean - target).square().sum(-1), (found - mean).square().sum(-1).mean(0)
