"""The teacher: patches of the normal pictures, its losses, and its training."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from bench.api import IMAGENET_MEAN, IMAGENET_STD, MethodError
from bench.blocks.on_device import constant

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .network import PatchNetwork

_SCALE = tuple((2 * torch.tensor(IMAGENET_STD)).tolist())
_SHIFT = tuple((2 * torch.tensor(IMAGENET_MEAN) - 1).tolist())


def to_half(images: Tensor) -> Tensor:
    """ImageNet-normalised pixels to mean 0.5 and deviation 0.5: from -1, black, to 1, white."""
    scale, shift = (constant(numbers, images).view(3, 1, 1) for numbers in (_SCALE, _SHIFT))
    return images * scale + shift


@dataclass(frozen=True)
class PatchSampler:
    """Draws one patch of a picture; given as `augment` to `Images.batches`.

    Attributes:
        patch: side in pixels.
        flip: mirror each axis with probability one half.
        degrees: largest rotation of the patch about its centre; black comes in at the corners.
        shift: of a second view, in pixels on each axis; None: one view.
        noise: deviation of the second view's Gaussian noise, in units of the range -1 to 1.
    """

    patch: int
    flip: bool = True
    degrees: float = 180.0
    shift: int | None = None
    noise: float = 0.0

    def __call__(self, image: Tensor, generator: torch.Generator) -> Tensor:
        """(3, H, W), ImageNet-normalised -> (3, p, p) from -1 to 1; (6, p, p) for two views."""
        room = (image.shape[-2] - self.patch, image.shape[-1] - self.patch)
        corner = [_whole(0, side, generator) for side in room]
        views = [self._cut(image, corner)]
        if self.shift is not None:
            moved = [
                min(max(c + _whole(-self.shift, self.shift, generator), 0), side)
                for c, side in zip(corner, room, strict=True)
            ]
            second = self._cut(image, moved)
            views.append(second + self.noise * torch.randn(second.shape, generator=generator))
        both = torch.cat(views)
        if self.flip:
            for axis in (-1, -2):
                if float(torch.rand((), generator=generator)) < 0.5:
                    both = both.flip(axis)
        angle = (2 * float(torch.rand((), generator=generator)) - 1) * math.radians(self.degrees)
        return rotate(both, angle) if self.degrees else both

    def _cut(self, image: Tensor, corner: list[int]) -> Tensor:
        top, left = corner
        return to_half(image[:, top : top + self.patch, left : left + self.patch])


def _whole(low: int, high: int, generator: torch.Generator) -> int:
    """Uniform on low .. high, both included."""
    return int(torch.randint(low, high + 1, (), generator=generator))


def rotate(patch: Tensor, angle: float) -> Tensor:
    """(C, p, p) from -1 to 1, turned by `angle` radians, nearest pixel, black outside."""
    cosine, sine = math.cos(angle), math.sin(angle)
    turn = torch.tensor([[[cosine, -sine, 0.0], [sine, cosine, 0.0]]])
    grid = affine_grid(turn, [1, *patch.shape], align_corners=False)
    # Outside is zero, which is grey: one more channel says where that is.
    known = torch.cat([patch, torch.ones_like(patch[:1])])[None]
    turned = grid_sample(known, grid, mode="nearest", align_corners=False)[0]
    return turned[:-1] - (1 - turned[-1:])


def distillation(output: Tensor, target: Tensor) -> Tensor:
    """Mean over the batch of the squared distance of (B, C) outputs to their targets."""
    return (output - target).square().sum(1).mean()


def compactness(output: Tensor) -> Tensor:
    """Sum of the squared correlations between the descriptors of the batch, each pair once.

    As the re-implementation has it: the correlation runs over the C entries of two descriptors. It
    is not averaged, and so grows with the square of the batch; one descriptor has none, 0.
    """
    centred = output - output.mean(1, keepdim=True)
    standard = centred / output.std(1, keepdim=True)
    correlation = standard @ standard.T / (output.shape[1] - 1)
    return correlation.triu(1).square().sum()


def metric_learning(anchor: Tensor, positive: Tensor, margin: float) -> Tensor:
    """Triplet loss with the nearest other descriptor of the batch as negative (section 3.1).

    Args:
        anchor: (B, C) descriptors of patches.
        positive: (B, C) of second views of the same patches.
        margin: by which squared distances to negatives should exceed those to positives.

    Returns:
        a scalar; 0 for one patch, which has no negative.
    """
    if len(anchor) == 1:
        return anchor.new_zeros(())
    near = (anchor - positive).square().sum(1)
    others = torch.stack([pairwise(anchor, anchor), pairwise(positive, anchor)]).amin(0)
    others = others.masked_fill(
        torch.eye(len(anchor), dtype=torch.bool, device=near.device), math.inf
    )
    return (margin + near - others.amin(1)).clamp(min=0).mean()


def pairwise(a: Tensor, b: Tensor) -> Tensor:
    """(A, B) squared distances of (A, C) and (B, C)."""
    return (a[:, None] - b[None]).square().sum(2)


@dataclass(frozen=True)
class TeacherLoss:
    """Weights of the teacher's losses; distillation has 1."""

    compactness: float = 1.0
    metric: float = 0.0
    margin: float = 1.0


@dataclass
class TeacherTrainer:
    """Adam on one teacher.

    Attributes:
        target: (B, 3, p, p) patches -> (B, outputs) of the network that is distilled.
        masks: (batch, length) -> (batch, length) dropout factors; None: no dropout.
        is_decoded: whether the losses beside distillation see the decoder's output.
    """

    network: PatchNetwork
    target: Callable[[Tensor], Tensor]
    loss: TeacherLoss
    masks: Callable[[int, int], Tensor] | None
    is_decoded: bool
    optimizer: torch.optim.Optimizer

    def step(self, patches: Tensor) -> Tensor:
        """One update by (B, 3, p, p) patches, or (B, 6, p, p) with their second views.

        Returns:
            (2,) distillation and compactness before the update.
        """
        first = patches[:, :3]
        with torch.no_grad():
            target = self.target(first)
        embedded, output = self._describe(first)
        descriptor = output if self.is_decoded else embedded
        distilled, compact = distillation(output, target), compactness(descriptor)
        total = distilled + self.loss.compactness * compact
        if self.loss.metric:
            both = self._describe(patches[:, 3:])
            second = both[1] if self.is_decoded else both[0]
            total = total + self.loss.metric * metric_learning(descriptor, second, self.loss.margin)
        self.optimizer.zero_grad()
        total.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return torch.stack([distilled, compact]).detach()

    def _describe(self, patches: Tensor) -> tuple[Tensor, Tensor]:
        embedded = self.network.embed_patches(patches)
        if self.masks is None:
            return embedded, self.network.decoded(embedded)
        count = len(patches)
        embedded = embedded * self.masks(count, self.network.embedding)
        output = self.network.decoded(embedded)
        return embedded, output * self.masks(count, output.shape[1])


def train_teacher(
    trainer: TeacherTrainer, epochs: Iterable[Iterable[Tensor]], keep: str
) -> PatchNetwork:
    """Train over epochs of patch batches.

    Args:
        keep: "best": the weights after the epoch of the smallest summed loss; as published, the
            first epoch does not count. "last": those of the last epoch.

    Returns:
        the teacher, its weights not to be trained any more.

    Raises:
        MethodError: a loss that is not finite.
    """
    kept = copy.deepcopy(trainer.network.state_dict())
    smallest = math.inf
    for number, batches in enumerate(epochs):
        losses = torch.stack([trainer.step(patches) for patches in batches])
        total = sum(sum(pair) for pair in losses.tolist())
        if not math.isfinite(total):
            raise MethodError(
                f"uninformed_students: the loss of the teacher for patches of "
                f"{trainer.network.patch} pixels is {total} in epoch {number + 1}; choose a "
                "smaller teacher_lr"
            )
        if keep == "last" or number == 0 or total < smallest:
            kept = copy.deepcopy(trainer.network.state_dict())
            smallest = total if number else math.inf
    trainer.network.load_state_dict(kept)
    return trainer.network.requires_grad_(False)
