"""CutPaste: embeddings of a network that tells pictures from copies with a pasted patch."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
import torch
from PIL import Image

from bench.api import IMAGENET_MEAN, IMAGENET_STD, Method, MethodError, Prediction
from bench.blocks.on_device import constant, sent

from .augment import Draws, Shapes, change_colours, cut_paste, scar
from .density import fit_gauss, gauss_score, kernel_score, on_sphere
from .localise import enlarge, grad_cam, patch_map, patches
from .network import Classifier, Trainer, initialise, initialise_head

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray
    from torch import Tensor

    from bench.api import Backbone, Images, Run

_CHUNK = 1024
"""Patches that the network sees at once with localise "patch"; changes no score."""


@dataclass
class CutPaste(Method):
    """One-class scores by a Gaussian over self-supervised embeddings (arXiv:2104.04015).

    Attributes:
        variant: which altered copies the network learns to tell apart: both kinds, one of them, or
            "union", where a copy is of either kind with probability one half.
        backbone: timm name of pretrained weights to start from; "none": fresh ones, as published.
        network: timm name of the architecture without a backbone.
        layer: timm's index of the last feature map, whose spatial mean is the embedding.
        steps: of the optimiser; 0: the untrained network, the control.
        steps_per_epoch: steps between two yields; 256 is the paper's epoch. Changes no score.
        batch: pictures in a step; each comes with one or two altered copies.
        pass_items: pictures in a shuffled pass, those of the training set over and over; the last
            incomplete batch of a pass is dropped.
        lr, momentum, weight_decay: of stochastic gradient descent; the rate falls by a cosine.
        freeze_steps: first steps in which the weights of a backbone stand still.
        head_layers, head_width: hidden layers of the projection head.
        projection: width of its last layer.
        area, aspect, scar_width, scar_height, scar_degrees, jitter: see `Shapes`.
        picture_jitter: strength of the change of colours of the whole picture; 0: none.
        density: "gauss": Mahalanobis distance with a Ledoit-Wolf covariance; "kde": kernels.
        bandwidth: of the kernels, on embeddings of length 1.
        localise: "none": image scores alone; "gradcam": maps that explain the classes of altered
            copies; "patch": a network of crops, whose patches are scored one by one.
        patch, stride: side and distance of the patches in pixels, with localise "patch".
        fit_stride: distance of the training patches that the density is fitted on.
        input_size: side of the input, where the protocol leaves it to the method.
    """

    version: ClassVar[int] = 1
    paper: ClassVar[str] = (
        "Li, Sohn, Yoon, Pfister: CutPaste: Self-Supervised Learning for Anomaly Detection and "
        "Localization, CVPR 2021, arXiv:2104.04015"
    )
    min_train: ClassVar[int] = 2

    variant: Literal["3way", "cutpaste", "scar", "union"] = "3way"
    backbone: str = "none"
    network: str = "resnet18"
    layer: int = 4
    steps: int = 10000
    steps_per_epoch: int = 256
    batch: int = 32
    pass_items: int = 3000
    lr: float = 0.03
    momentum: float = 0.9
    weight_decay: float = 3e-5
    freeze_steps: int = 20
    head_layers: int = 1
    head_width: int = 512
    projection: int = 128
    area: tuple[float, float] = (0.02, 0.15)
    aspect: float = 0.3
    scar_width: tuple[float, float] = (2.0, 16.0)
    scar_height: tuple[float, float] = (10.0, 25.0)
    scar_degrees: float = 45.0
    jitter: float = 0.1
    picture_jitter: float = 0.1
    density: Literal["gauss", "kde"] = "gauss"
    bandwidth: float = 1.0
    localise: Literal["none", "gradcam", "patch"] = "none"
    patch: int = 64
    stride: int = 4
    fit_stride: int = 32
    input_size: int = 256

    def __post_init__(self) -> None:
        positive = ("steps_per_epoch", "batch", "head_width", "projection", "lr", "bandwidth")
        for name in (*positive, "patch", "stride", "fit_stride", "input_size"):
            if getattr(self, name) <= 0:
                raise MethodError(f"cutpaste: {name} = {getattr(self, name)} must be above 0")
        for name in ("steps", "freeze_steps", "head_layers", "momentum", "weight_decay"):
            if getattr(self, name) < 0:
                raise MethodError(f"cutpaste: {name} = {getattr(self, name)} must not be below 0")
        for name in ("jitter", "picture_jitter"):
            if not 0 <= getattr(self, name) <= 0.5:
                raise MethodError(f"cutpaste: {name} = {getattr(self, name)} must be in 0 to 0.5")
        if self.pass_items < self.batch:
            raise MethodError(
                f"cutpaste: pass_items = {self.pass_items} holds no batch of {self.batch}; raise it"
            )
        if not 0 < self.area[0] <= self.area[1] < 1 or not 0 < self.aspect <= 1:
            raise MethodError(
                f"cutpaste: area = {self.area} and aspect = {self.aspect}; a patch is a share of "
                "the picture between 0 and 1, and its least aspect ratio at most 1"
            )
        if self.localise == "gradcam" and self.steps == 0:
            raise MethodError(
                "cutpaste: localise = 'gradcam' explains what was learned, and steps = 0 learns "
                "nothing; choose 'none' or 'patch'"
            )
        if self.patch % 2:
            raise MethodError(f"cutpaste: patch = {self.patch} must be even")

    def prepare(self, run: Run) -> None:
        """Encoder and head; pretrained weights are kept where a backbone is named.

        Raises:
            MethodError: images too small for a patch or a scar, or for the patches of the map.
        """
        height, width = self._seen(run.image_size)
        if self.steps:
            self._shapes.require_room(height, width)
        layers = (self.layer,)
        pretrained = self.backbone not in ("none", "")
        encoder = run.backbone(self.backbone, layers) if pretrained else self._fresh(run)
        hidden = (*[self.head_width] * self.head_layers, self.projection)
        self.classifier = Classifier(encoder, encoder.channels[-1], hidden, self._classes)
        generator = run.generator("cutpaste weights")
        if pretrained:
            initialise_head(self.classifier, generator)
        else:
            initialise(self.classifier, generator)
        self.classifier.to(run.device).eval()

    def fit(self, train: Images, run: Run) -> Iterator[Mapping[str, float]]:
        """Train the network, and fit the density after each epoch.

        Raises:
            MethodError: a loss that is not finite; names epoch and step.
        """
        if self.steps == 0:
            self._fit_density(train, epoch=0)
            yield {}
            return
        pictures = _bytes_of(train)
        generator = run.generator("cutpaste pictures")
        order = _order(len(train), self.batch, self.pass_items, generator)
        trainer = Trainer(
            self.classifier,
            steps=self.steps,
            lr=self.lr,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            freeze=0 if self.backbone in ("none", "") else self.freeze_steps,
        )
        labels = torch.arange(self._classes, device=run.device).repeat_interleave(self.batch)
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            for epoch in range(self.epochs):
                self.classifier.train().requires_grad_(True)
                figures = []
                for _ in range(min(self.steps_per_epoch, self.steps - trainer.done)):
                    chosen = [pictures[i] for i in next(order)]
                    seeds = torch.randint(2**62, (self.batch,), generator=generator).tolist()
                    altered = list(pool.map(self._alter, chosen, seeds))
                    figures.append(trainer.step(_inputs(altered, run.device), labels))
                self.classifier.eval()
                yield self._close(epoch, figures, train)

    @torch.no_grad()
    def predict(self, images: Tensor) -> Prediction:
        """Image scores; with localise "gradcam" maps too, with "patch" maps alone."""
        size = (images.shape[-2], images.shape[-1])
        if self.localise == "patch":
            return Prediction(patch_map(self._patch_scores(images), self.patch, self.stride, size))
        features = self.classifier.features(images)
        scores = self._score(features.mean((2, 3)))
        if self.localise == "none":
            return Prediction(None, scores)
        return Prediction(enlarge(self._explain(features), size), scores)

    @property
    def epochs(self) -> int:
        """How often `fit` yields; progress shows it."""
        return max(1, -(-self.steps // self.steps_per_epoch))

    @property
    def needs_gradients(self) -> bool:  # type: ignore[override]
        """True with localise "gradcam"."""
        return self.localise == "gradcam"

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        missing = set(self._statistics) - set(state)
        if missing:
            raise MethodError(
                f"cutpaste: saved state has no {', '.join(sorted(missing))}; it was saved by "
                f"another method or with another density than {self.density!r}"
            )
        super().load_state(state)

    def state(self) -> dict[str, Tensor]:
        """As `Method.state`; channels-last weights are made contiguous, as files want them."""
        return {name: value.contiguous() for name, value in super().state().items()}

    @property
    def _classes(self) -> int:
        return 3 if self.variant == "3way" else 2

    @property
    def _statistics(self) -> tuple[str, ...]:
        """Names of the tensors that make the density."""
        return ("mean", "precision") if self.density == "gauss" else ("known",)

    @property
    def _shapes(self) -> Shapes:
        return Shapes(
            self.area,
            self.aspect,
            self.scar_width,
            self.scar_height,
            self.scar_degrees,
            self.jitter,
        )

    def _fresh(self, run: Run) -> Backbone:
        return run.network(self.network, (self.layer,))

    def _seen(self, size: tuple[int, int]) -> tuple[int, int]:
        """(height, width) of the pictures that the network sees.

        Raises:
            MethodError: images smaller than a patch of the map.
        """
        if self.localise != "patch":
            return size
        if min(size) < self.patch:
            raise MethodError(
                f"cutpaste: images of {size[0]} x {size[1]} pixels are smaller than patch = "
                f"{self.patch}; raise the image size or lower patch"
            )
        return self.patch, self.patch

    def _alter(self, pixels: NDArray[np.uint8], seed: int) -> list[NDArray[np.uint8]]:
        """One picture and its altered copies, in the order of the classes.

        Args:
            pixels: (H, W, 3).
            seed: of all that is drawn for this picture.
        """
        draws = Draws(seed)
        picture = Image.fromarray(pixels)
        height, width = self._seen((picture.height, picture.width))
        if self.localise == "patch":
            top = int(draws.uniform(0, picture.height - height + 1))
            left = int(draws.uniform(0, picture.width - width + 1))
            picture = picture.crop((left, top, left + width, top + height))
        picture = change_colours(picture, draws.jitter(self.picture_jitter))
        copies = [picture]
        is_scar = self.variant == "scar"
        if self.variant == "union":
            is_scar = draws.uniform(0, 1) >= 0.5
        if not is_scar:
            copies.append(cut_paste(picture, self._shapes, draws))
        if is_scar or self.variant == "3way":
            copies.append(scar(picture, self._shapes, draws))
        return [np.asarray(copy) for copy in copies]

    def _close(
        self, epoch: int, figures: list[Mapping[str, Tensor | float]], train: Images
    ) -> dict[str, float]:
        """The means of an epoch, after the density was fitted to its network."""
        losses = torch.stack([torch.as_tensor(f["loss"]) for f in figures])
        bad = (~losses.isfinite()).nonzero()
        if len(bad):
            step = int(bad[0])
            raise MethodError(
                f"cutpaste: the loss is {float(losses[step])} in epoch {epoch + 1}, step "
                f"{step + 1} of {len(losses)}; lower lr = {self.lr}"
            )
        self._fit_density(train, epoch + 1)
        accuracy = torch.stack([torch.as_tensor(f["accuracy"]) for f in figures])
        return {
            "loss": float(losses.mean()),
            "accuracy": float(accuracy.mean()),
            "lr": float(figures[-1]["lr"]),
        }

    @torch.no_grad()
    def _fit_density(self, train: Images, epoch: int) -> None:
        """Fit the density on the unaltered training images, after `epoch` epochs of training."""
        vectors = torch.cat(
            [self._training_vectors(images) for images in train.batches(self.batch)]
        )
        if not vectors.sum().isfinite():
            raise MethodError(
                f"cutpaste: embeddings of training images are not finite after epoch {epoch}; "
                f"lower lr = {self.lr}, or check the weights"
            )
        if self.density == "gauss":
            self.mean, self.precision = fit_gauss(vectors)
        else:
            self.known = vectors

    def _training_vectors(self, images: Tensor) -> Tensor:
        if self.localise == "patch":
            squares = patches(images, self.patch, self.fit_stride)
            return self._embed(squares.flatten(0, 2))
        return self._embed(images)

    def _embed(self, images: Tensor) -> Tensor:
        """(B, C) embeddings of length 1."""
        chunks = torch.split(images, _CHUNK)
        return on_sphere(torch.cat([self.classifier.features(c).mean((2, 3)) for c in chunks]))

    def _score(self, embedding: Tensor) -> Tensor:
        """(B,) scores of (B, C) embeddings of any length."""
        unit = on_sphere(embedding)
        if self.density == "gauss":
            return gauss_score(unit, self.mean, self.precision).float()
        return kernel_score(unit, self.known, self.bandwidth).float()

    def _patch_scores(self, images: Tensor) -> Tensor:
        """(B, rows, columns) score of every patch."""
        scores = []
        for image in images:  # one at a time: 2401 patches of a 256-pixel image take 118 MB
            squares = patches(image[None], self.patch, self.stride)
            vectors = self._embed(squares.flatten(0, 2))
            scores.append(self._score(vectors).view(squares.shape[1:3]))
        return torch.stack(scores)

    def _explain(self, features: Tensor) -> Tensor:
        """(B, h, w) Grad-CAM of the classes of altered copies, on the last feature map."""
        with torch.enable_grad():
            watched = features.detach().requires_grad_(True)
            logits = self.classifier.classify(watched.mean((2, 3)))
            # The class predicted would explain a normal picture by what is normal about it.
            (gradients,) = torch.autograd.grad(logits[:, 1:].sum(), watched)
        return grad_cam(watched.detach(), gradients)


def _bytes_of(train: Images) -> NDArray[np.uint8]:
    """(N, H, W, 3) pixels of all training images, as they were before normalisation."""
    mean, std = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
    parts = []
    for images in train.batches(32):
        pixels = images.cpu().permute(0, 2, 3, 1) * std + mean
        parts.append((pixels * 255).round().clamp(0, 255).to(torch.uint8).numpy())
    return np.concatenate(parts)


def _order(count: int, batch: int, items: int, generator: torch.Generator) -> Iterator[list[int]]:
    """Endless batches of indices below `count`: passes over `items` of them, shuffled."""
    while True:
        drawn = (torch.randperm(items, generator=generator) % count).tolist()
        for start in range(0, items - batch + 1, batch):
            yield drawn[start : start + batch]


def _inputs(altered: list[list[NDArray[np.uint8]]], device: torch.device) -> Tensor:
    """(classes * B, 3, H, W) normalised: all originals first, then all copies of a kind."""
    ordered = np.stack([copies[k] for k in range(len(altered[0])) for copies in altered])
    pixels = sent(torch.from_numpy(ordered), device).permute(0, 3, 1, 2).contiguous().float()
    mean, std = (constant(m, pixels).view(3, 1, 1) for m in (IMAGENET_MEAN, IMAGENET_STD))
    return pixels.div_(255).sub_(mean).div_(std)
