"""CS-Flow: likelihood of deep features at three scales under one cross-scale flow (WACV 2022)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from torch import nn
from torch.nn import functional

from bench.api import Method, MethodError, Prediction, nearest
from bench.blocks.kept import KeptFeatures
from bench.blocks.seeded import drawn_from

from .encoder import features_of, set_padding
from .flow import LIMIT, SCALES, CrossScaleFlow, channel_means, flow_loss, image_scores

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch import Tensor

    from bench.api import Images, Run

CHOICES = {
    "padding": ("0.7.1", "0.7.0", "0.6.3", "own"),
    "maps": ("scale0", "mean", "product"),
}


@dataclass
class CSFlow(Method):
    """A normalising flow over the feature maps of an image at three sizes.

    Attributes:
        backbone: timm's name; EfficientNet-B5 is the published one.
        layer: module whose output is used; "blocks.5" is the last stage but one.
        padding: of an EfficientNet's convolutions of stride 2, as the releases 0.7.1 (the newest),
            0.7.0 and 0.6.3 of efficientnet_pytorch have it; "own": as timm's network.
        blocks: coupling blocks of the flow.
        hidden: channels inside the couplings.
        clamp: bound of a coupling's log-scales.
        kernel: side of the convolutions, odd; that of the last block is `last_kernel`.
        last_kernel: odd.
        meta_epochs, sub_epochs: a figure is given after `sub_epochs` passes over the images.
        batch: images in a step; the last one may be smaller.
        lr, eps, weight_decay: of Adam; the decay is added to the gradient.
        clip: largest norm of all gradients together.
        save_memory: recompute activations in the backward pass; same numbers, a third slower.
        maps: "scale0": squares of the finest latents, as in the published pictures; "mean" of the
            three scales; "product" of them, as anomalib has it. Image scores do not depend on it.
        keep_mb: features of the training images beyond that many 10^6 bytes lie in a file.
        input_size: side of the input, where the protocol leaves it to the method.
    """

    version: ClassVar[int] = 1
    paper: ClassVar[str] = (
        "Rudolph, Wehrbein, Rosenhahn, Wandt: Fully Convolutional Cross-Scale-Flows for "
        "Image-based Defect Detection. WACV 2022, arXiv:2110.02855"
    )

    backbone: str = "tf_efficientnet_b5.aa_in1k"
    layer: str = "blocks.5"
    padding: Literal["0.7.1", "0.7.0", "0.6.3", "own"] = "0.7.1"
    blocks: int = 4
    hidden: int = 1024
    clamp: float = 3.0
    kernel: int = 3
    last_kernel: int = 5
    meta_epochs: int = 4
    sub_epochs: int = 60
    batch: int = 16
    lr: float = 2e-4
    eps: float = 1e-4
    weight_decay: float = 1e-5
    clip: float = 1.0
    save_memory: bool = True
    maps: Literal["scale0", "mean", "product"] = "scale0"
    keep_mb: int = 2048
    input_size: int = 768

    def __post_init__(self) -> None:
        for name, choices in CHOICES.items():
            value = getattr(self, name)
            if value not in choices:
                raise MethodError(f"csflow: {name}={value!r}; {nearest(str(value), choices)}")
        counts = ("blocks", "hidden", "meta_epochs", "sub_epochs", "batch", "input_size")
        for name in (*counts, "clamp", "lr", "eps", "clip"):
            if not getattr(self, name) > 0:
                raise MethodError(f"csflow: {name}={getattr(self, name)} must be above 0")
        for name in ("weight_decay", "keep_mb"):
            if getattr(self, name) < 0:
                raise MethodError(f"csflow: {name}={getattr(self, name)} must not be below 0")
        for name in ("kernel", "last_kernel"):
            if getattr(self, name) < 1 or getattr(self, name) % 2 == 0:
                raise MethodError(f"csflow: {name}={getattr(self, name)} must be odd, as 3 or 5")

    @property
    def epochs(self) -> int:
        """How often `fit` yields."""
        return self.meta_epochs

    def prepare(self, run: Run) -> None:
        """Encoder and flow.

        Raises:
            MethodError: sides that the encoder cannot halve twice, or no EfficientNet to pad.
        """
        self.encoder = run.backbone(self.backbone, (self.layer,))
        set_padding(self.encoder.net, self.padding)
        self._check_size(run.image_size, self.encoder.strides[0])
        channels = self.encoder.channels[0]
        if channels < 2:
            raise MethodError(f"csflow: {self.layer} has one channel, and a flow needs two")
        kernels = [*[self.kernel] * (self.blocks - 1), self.last_kernel]
        with drawn_from(run.generator("csflow flow")):
            self.flow = CrossScaleFlow(channels, self.hidden, kernels, self.clamp).to(run.device)
        self.flow.eval()

    def fit(self, train: Images, run: Run) -> Iterator[Mapping[str, float]]:
        """Train the flow; yield the loss of each meta epoch.

        Raises:
            MethodError: a loss that is not finite, or latents at the clamp.
        """
        # Nothing is augmented, so the encoder runs once for each image.
        kept = KeptFeatures(train, self.features, self.batch, self.keep_mb, run)
        order = run.generator("csflow order")
        optimiser = self.optimiser()
        for meta in range(self.meta_epochs):
            losses: list[float] = []
            self.flow.train()
            for sub in range(self.sub_epochs):
                steps = [self.step(x, optimiser) for x in kept.batches(self.batch, order)]
                epoch = meta * self.sub_epochs + sub + 1
                losses += self._checked(
                    [loss for loss, _, _ in steps], [m for _, _, m in steps], epoch
                )
            self.flow.eval()
            yield {"loss": sum(losses) / len(losses)}

    def predict(self, images: Tensor) -> Prediction:
        means = self.raw(images)
        scores = image_scores(means)
        if self.maps == "scale0":
            return Prediction(means[0], scores)
        size = (images.shape[-2], images.shape[-1])
        return Prediction(combined(means, size, self.maps), scores)

    def raw(self, images: Tensor) -> list[Tensor]:
        """(B, h, w) at each scale: mean square of the latents over channels."""
        with torch.no_grad():
            latents, _ = self.flow(self.features(images))
            return channel_means(latents)

    def features(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) images -> (B, C, h, w) of each size, finest first."""
        return features_of(self.encoder, images)

    def optimiser(self) -> torch.optim.Optimizer:
        """Adam over the flow; the encoder is never trained."""
        return torch.optim.Adam(
            self.flow.parameters(), lr=self.lr, eps=self.eps, weight_decay=self.weight_decay
        )

    def step(
        self, features: Sequence[Tensor], optimiser: torch.optim.Optimizer
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One update on a batch.

        Returns:
            the loss, the gradient norm before clipping, and the largest latent, without graphs.
        """
        latents, log_dets = self.flow(features, save_memory=self.save_memory)
        loss = flow_loss(latents, log_dets)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(self.flow.parameters(), self.clip)
        optimiser.step()
        largest = torch.stack([z.detach().abs().amax() for z in latents]).amax()
        return loss.detach(), norm, largest

    def _checked(self, losses: list[Tensor], largest: list[Tensor], epoch: int) -> list[float]:
        """The losses of an epoch as numbers; once for all steps, since each would wait."""
        values, tops = torch.stack(losses).tolist(), torch.stack(largest).tolist()
        for step, (value, top) in enumerate(zip(values, tops, strict=True), 1):
            where = f"in epoch {epoch}, step {step} of {len(values)}"
            if not math.isfinite(value):
                raise MethodError(
                    f"csflow: the loss is {value} {where}; lower lr ({self.lr:g}) or clip "
                    f"({self.clip:g}), or check the weights and the images"
                )
            if self.save_memory and top >= LIMIT:
                raise MethodError(
                    f"csflow: latents reach the clamp of {LIMIT:g} {where}, where activations "
                    f"cannot be recomputed; lower lr ({self.lr:g}), or set save_memory = false"
                )
        return values

    def _check_size(self, size: tuple[int, int], stride: int | None) -> None:
        step = (stride or 1) * 2 ** (SCALES - 1)
        if all(side % step == 0 for side in size):
            return
        near = [max(step, round(side / step) * step) for side in size]
        raise MethodError(
            f"csflow: {self.layer} of {self.backbone} needs sides that {step} divides, got "
            f"{size[0]} x {size[1]}; resize to {near[0]} x {near[1]}"
        )


def combined(means: Sequence[Tensor], size: tuple[int, int], how: str) -> Tensor:
    """The maps of all scales brought to one size bilinearly, and their mean or product.

    Args:
        means: (B, h, w) of each scale.
        size: (height, width) of the result.
        how: "mean" or "product".
    """
    brought = torch.stack(
        [functional.interpolate(m[:, None], size, mode="bilinear")[:, 0] for m in means]
    )
    return brought.mean(0) if how == "mean" else brought.prod(0)
