"""Patch SVDD: distance of each patch to the nearest normal one in an embedding learned for it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from bench.api import IMAGENET_MEAN, IMAGENET_STD, Method, MethodError, Prediction, nearest
from bench.blocks.nearest import nearest as nearest_vectors
from bench.blocks.on_device import constant

from .network import CELL, LARGE, SMALL, WIDTHS, Encoder, PositionClassifier, draw_network
from .sampling import Sampler
from .scoring import cover_map, uncovered
from .training import parameters, train_step

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from bench.api import Images, Run

_COMBINE = ("mult", "sum", "64", "32")
_AT_A_TIME = 8
"""Pictures embedded at once; an image's embedding does not depend on the others."""


@dataclass
class PatchSVDD(Method):
    """Nearest normal patch in an embedding that tells positions apart (arXiv:2006.16067).

    Attributes:
        embedding: length of a patch's vector.
        width: factor of the encoder's published channels; 1 but for a quick look.
        lambda_svdd: weight of the loss that keeps near patches together; 1e-3 in the README's
            example, 1 is the script's default.
        lr: of Adam.
        epochs: how often training is scored, and but for the next field how often it passes.
        untrained_epoch: the first epoch only scores the random encoder, as in the script; the
            choice of a protocol among epochs then includes it.
        repeats: how often an epoch visits each picture; four pairs of patches are drawn each time.
        batch: visits in a step.
        neighbours: nearest patches whose distances are averaged.
        strides: pixels between scored patches of 64 and of 32 pixels; even.
        combine: product or sum of the maps of both sides of patches, or one of them.
        noise, color_shift: deviations of what is added to the patches whose direction is told.
        train_subset: keep every n-th row and column of the training patches; 1: all, as published.
        input_size: side of the input, where the protocol leaves it to the method.
    """

    version: ClassVar[int] = 1
    paper: ClassVar[str] = (
        "Yi, Yoon: Patch SVDD: Patch-level SVDD for Anomaly Detection and Segmentation. "
        "ACCV 2020, arXiv:2006.16067"
    )

    embedding: int = 64
    width: float = 1.0
    lambda_svdd: float = 1e-3
    lr: float = 1e-4
    epochs: int = 300
    untrained_epoch: bool = False
    repeats: int = 100
    batch: int = 64
    neighbours: int = 1
    strides: tuple[int, int] = (16, 4)
    combine: Literal["mult", "sum", "64", "32"] = "mult"
    noise: float = 0.02
    color_shift: float = 0.02
    train_subset: int = 1
    input_size: int = 256

    def __post_init__(self) -> None:
        if self.combine not in _COMBINE:
            raise MethodError(
                f"patchsvdd: combine={self.combine!r}; {nearest(self.combine, _COMBINE)}"
            )
        counts = ("embedding", "epochs", "repeats", "batch", "neighbours", "train_subset")
        for name in (*counts, "width", "lr", "input_size"):
            if getattr(self, name) <= 0:
                raise MethodError(f"patchsvdd: {name}={getattr(self, name)} must be above 0")
        for name in ("lambda_svdd", "noise", "color_shift"):
            if getattr(self, name) < 0:
                raise MethodError(f"patchsvdd: {name}={getattr(self, name)} must not be below 0")
        if len(self.strides) != 2 or any(s <= 0 or s % CELL for s in self.strides):
            raise MethodError(
                f"patchsvdd: strides={tuple(self.strides)}; give two even numbers above 0, for "
                f"patches of {LARGE} and of {SMALL} pixels"
            )

    def prepare(self, run: Run) -> None:
        """Draw the encoder.

        Raises:
            MethodError: images that the patches do not tile.
        """
        for side, stride in zip((LARGE, SMALL), self.strides, strict=True):
            for name, pixels in zip(("height", "width"), run.image_size, strict=True):
                rest = uncovered(pixels, side, stride)
                if rest:
                    raise MethodError(
                        f"patchsvdd: patches of {side} pixels with stride {stride} leave {rest} of "
                        f"{pixels} pixels of the images' {name} uncovered; choose a side of {side} "
                        f"plus a multiple of {stride}, or another stride"
                    )
        self.encoder = Encoder(self.embedding, [max(1, round(w * self.width)) for w in WIDTHS])
        draw_network(self.encoder, run.generator("patchsvdd encoder"))
        self.encoder.to(run.device)
        self.mean_picture = torch.zeros(3, *run.image_size, device=run.device)
        self.gallery_64 = torch.zeros(0, self.embedding, device=run.device)
        self.gallery_32 = torch.zeros(0, self.embedding, device=run.device)

    def fit(self, train: Images, run: Run) -> Iterator[Mapping[str, float]]:
        """Train the encoder; yield the losses after each epoch.

        Raises:
            MethodError: a loss that is not finite, or fewer training patches than neighbours.
        """
        self.mean_picture = mean_picture(train)
        pictures = torch.cat([self._standard(images) for images in train.batches(_AT_A_TIME)])
        sampler = Sampler(pictures, _legacy(run), self.color_shift, self.noise)
        classifiers = {side: self._classifier(side, run) for side in (LARGE, SMALL)}
        optimizer = torch.optim.Adam(parameters(self.encoder, classifiers), self.lr)
        order = run.generator("patchsvdd order")
        if self.untrained_epoch:
            self._fill(pictures)
            yield {}
        for epoch in range(int(self.untrained_epoch), self.epochs):
            visits = torch.randperm(self.repeats * len(pictures), generator=order)
            totals = torch.zeros(3, device=run.device)
            for part in torch.split(visits, self.batch):
                pairs = sampler.batch(part.tolist())
                found = train_step(self.encoder, classifiers, pairs, self.lambda_svdd, optimizer)
                position = torch.stack([*found.position.values()]).sum()
                closeness = torch.stack([*found.closeness.values()]).sum()
                totals += torch.stack([found.total, position, closeness]).detach()
            loss, position_loss, svdd_loss = (totals / math.ceil(len(visits) / self.batch)).tolist()
            if not math.isfinite(loss):
                raise MethodError(
                    f"patchsvdd: loss {loss} in epoch {epoch + 1}; choose a smaller lr than "
                    f"{self.lr}"
                )
            self._fill(pictures)
            yield {"loss": loss, "position": position_loss, "svdd": svdd_loss}

    def predict(self, images: Tensor) -> Prediction:
        size = (images.shape[-2], images.shape[-1])
        large, small = (
            cover_map(distances, side, stride, size)
            for distances, side, stride in zip(
                self.raw(images), (LARGE, SMALL), self.strides, strict=True
            )
        )
        combined = {"mult": large * small, "sum": large + small, "64": large, "32": small}
        maps = combined[self.combine].float()
        return Prediction(maps, maps.amax((1, 2)))

    def raw(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(B, h, w) distances to the nearest training patches, of 64 and of 32 pixels."""
        if images.shape[1:] != self.mean_picture.shape:
            raise MethodError(
                f"patchsvdd: images of {images.shape[-2]}x{images.shape[-1]}, but the model was "
                f"fitted on {self.mean_picture.shape[-2]}x{self.mean_picture.shape[-1]}; use the "
                "image size of the fit"
            )
        large, small = self.encoder.embed_densely(self._standard(images), self.strides)
        return self._distances(large, self.gallery_64), self._distances(small, self.gallery_32)

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """The inverse of `state`.

        Raises:
            MethodError: a state without a gallery, or of another embedding.
        """
        for name in ("gallery_64", "gallery_32"):
            gallery = state.get(name)
            if gallery is None or gallery.shape[1:] != (self.embedding,):
                found = "missing" if gallery is None else f"{tuple(gallery.shape)}"
                raise MethodError(
                    f"patchsvdd: {name} of the saved state is {found}, expected (any, "
                    f"{self.embedding}); it was saved by another method or with another embedding"
                )
        super().load_state(state)

    def _standard(self, images: Tensor) -> Tensor:
        """Pixels from 0 to 1, less the mean training picture; not divided by a deviation."""
        return to_unit(images) - self.mean_picture

    def _classifier(self, side: int, run: Run) -> PositionClassifier:
        classifier = PositionClassifier(self.embedding)
        draw_network(classifier, run.generator(f"patchsvdd classifier {side}"))
        return classifier.to(run.device)

    @torch.no_grad()
    def _fill(self, pictures: Tensor) -> None:
        """Embed the training patches anew."""
        step = self.train_subset
        parts: tuple[list[Tensor], list[Tensor]] = ([], [])
        for images in torch.split(pictures, _AT_A_TIME):
            for part, grid in zip(
                parts, self.encoder.embed_densely(images, self.strides), strict=True
            ):
                part.append(grid[:, ::step, ::step].flatten(0, 2))
        self.gallery_64, self.gallery_32 = (torch.cat(part) for part in parts)
        fewest = min(len(self.gallery_64), len(self.gallery_32))
        if fewest < self.neighbours:
            raise MethodError(
                f"patchsvdd: neighbours={self.neighbours}, but there are {fewest} training "
                f"patches; choose 1 to {fewest}"
            )

    def _distances(self, grid: Tensor, gallery: Tensor) -> Tensor:
        found = nearest_vectors(grid.flatten(0, 2), gallery, self.neighbours)
        return found.squares.sqrt().mean(1).view(grid.shape[:3])


def to_unit(images: Tensor) -> Tensor:
    """ImageNet-normalised pixels to 0 .. 1."""
    mean, std = (constant(m, images).view(3, 1, 1) for m in (IMAGENET_MEAN, IMAGENET_STD))
    return images * std + mean


def mean_picture(train: Images) -> Tensor:
    """(3, H, W) mean of the training pictures at each pixel, from 0 to 1."""
    total: Tensor | float = 0.0
    for images in train.batches(_AT_A_TIME):
        total = total + to_unit(images).sum(0, dtype=torch.float64)
    return (torch.as_tensor(total) / len(train)).float()


def _legacy(run: Run) -> np.random.RandomState:
    """The generator of the published loader, seeded by the run."""
    seed = int(torch.randint(2**31, (), generator=run.generator("patchsvdd draws")))
    return np.random.RandomState(seed)
