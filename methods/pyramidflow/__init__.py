"""Pyramid normalizing flow trained on pairs of normal images, compared with a latent template."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, get_args

import torch
from torch import Tensor, nn

from bench.api import Images, Method, MethodError, Prediction, Run, nearest
from bench.blocks.layout import fast_layout
from bench.blocks.readings import Readings

from .augment import AUGMENTATIONS
from .coupling import VolumeNormKind
from .flow import FlowShape, PyramidFlowNet
from .folded import FoldedFlow
from .loss import anomaly_maps, fourier_loss, pair_differences, zero_differences
from .pyramid import decompose, level_sizes
from .stem import BackboneStem, LinearStem

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# Images per pass when the template is averaged; the result does not depend on it.
_TEMPLATE_BATCH = 4


class Template(nn.Module):
    """The latents that normal images are expected to have, one buffer for each level."""

    def __init__(self, channels: int, sizes: list[tuple[int, int]]) -> None:
        super().__init__()
        for level, size in enumerate(sizes):
            self.register_buffer(f"level{level}", torch.zeros(1, channels, *size))

    def levels(self) -> list[Tensor]:
        """(1, C, h_l, w_l), finest first."""
        return list(self.buffers())


@dataclass
class PyramidFlow(Method):
    """PyramidFlow with or without an encoder (CVPR 2023, arXiv:2303.02595).

    Defaults are those of the published code for the variant without encoder.

    Attributes:
        stem: "none" (a frozen random 1x1 convolution: the fully normalizing flow), or a timm
            network whose first stage is used, as "resnet18.tv_in1k".
        channels: width of the flow; with a network as stem, that of its first stage.
        levels: levels of the pyramid.
        stacks: repetitions of the coupling blocks.
        kernel: side of the couplings' convolutions, odd.
        volume_norm: "cvn", "svn", or "none" (ablation).
        epochs: passes over the training images.
        batch: images per step, at least 2; an incomplete last batch is dropped.
        lr: learning rate of Adam, constant.
        beta1: decay of Adam's first moment.
        beta2: decay of Adam's second moment.
        eps: added to Adam's denominator.
        weight_decay: added to the gradient (the coupled kind).
        clip: largest norm of all gradients together.
        save_memory: recompute activations in the backward pass; same numbers, a third slower.
        running_mean_updates: updates of volume normalisation's running means in each step. The
            published code makes 3 with its memory saving on (the default) and 1 with it off;
            here it does not depend on `save_memory`. 1 is what the paper writes down.
        augment: "none" or "flips_rot90".
        input_size: used where the protocol leaves the size to the method; the published code
            takes 256 without an encoder and 1024 with one.
        fourier_loss: False: mean squared difference in space (ablation).
        latent_template: False: zero latents in place of the other image and of the template
            (ablation).
        pyramid_difference: False: compose the latents first, then subtract (ablation).
        adapt_stem_norm: batch norms of the stem follow the training images, as published.
    """

    version: ClassVar[int] = 1
    min_train: ClassVar[int] = 2
    paper: ClassVar[str] = (
        "Lei, Hu, Wang, Liu: PyramidFlow: High-Resolution Defect Contrastive Localization using"
        " Pyramid Normalizing Flow, CVPR 2023, arXiv:2303.02595"
    )

    stem: str = "none"
    channels: int = 16
    levels: int = 4
    stacks: int = 4
    kernel: int = 7
    volume_norm: Literal["cvn", "svn", "none"] = "cvn"
    epochs: int = 15
    batch: int = 2
    lr: float = 2e-4
    beta1: float = 0.5
    beta2: float = 0.9
    eps: float = 1e-4
    weight_decay: float = 1e-5
    clip: float = 1.0
    save_memory: bool = True
    running_mean_updates: int = 3
    augment: Literal["none", "flips_rot90"] = "none"
    input_size: int = 256
    fourier_loss: bool = True
    latent_template: bool = True
    pyramid_difference: bool = True
    adapt_stem_norm: bool = True

    def prepare(self, run: Run) -> None:
        """Make stem, flow and an empty template.

        Raises:
            MethodError: a field that cannot be used, or a size that the pyramid cannot divide.
        """
        self._check_fields()
        generator = run.generator("pyramidflow/init")
        if self.stem == "none":
            self.encoder: LinearStem | BackboneStem = LinearStem(self.channels, generator)
        else:
            self.encoder = BackboneStem(run.backbone(self.stem, layers=(1,)), self.adapt_stem_norm)
        size = self._feature_size(run.image_size)
        shape = FlowShape(
            channels=self.encoder.channels,
            levels=self.levels,
            stacks=self.stacks,
            kernel=self.kernel,
            norm=self._norm_kind(),
            size=size,
            updates=self.running_mean_updates,
        )
        self.flow = PyramidFlowNet(shape, generator)
        self.template = Template(shape.channels, level_sizes(size, self.levels))
        self._readings: Readings[tuple[str, Tensor]] = Readings(run.device)
        # The images that the template is still to be computed from.
        self._pending: Images | None = None
        # The flow with fixed weights, made at the first prediction after training.
        self._folded: FoldedFlow | None = None
        for module in self.modules():
            module.to(run.device).eval()

    def fit(self, train: Images, run: Run) -> Iterator[Mapping[str, float]]:
        """Train on pairs of images; the template follows when `predict` first asks for it.

        After the last epoch the template is computed at once, so that its time counts as fitting.

        Raises:
            MethodError: too few images for a batch, or numbers that stop being finite.
        """
        if len(train) < self.batch:
            raise MethodError(
                f"pyramidflow: {len(train)} training images make no batch of {self.batch};"
                f" set batch to between 2 and {len(train)}, or give more images"
            )
        optimiser = self.optimiser()
        augment = AUGMENTATIONS[self.augment]
        step = 0
        for epoch in range(self.epochs):
            self.training_mode(True)
            figures = []
            for images in train.batches(self.batch, shuffle=True, drop_last=True, augment=augment):
                step += 1
                place = f"epoch {epoch + 1}, step {step}"
                figures.append(self.step(images, optimiser, place))
            self._check(self._readings.flush())
            self.training_mode(False)
            self.remember(train)
            if epoch == self.epochs - 1:
                self._update_template()
            losses: list[float] = torch.stack(figures)[:, 0].tolist()
            yield {"loss": sum(losses) / len(losses)}

    def predict(self, images: Tensor) -> Prediction:
        """Maps at the resolution of the features; the score is the maximum of the map."""
        self._update_template()
        with torch.no_grad():
            latents = self.latents(images)
            maps = anomaly_maps(latents, self.template.levels(), in_pyramid=self.pyramid_difference)
        return Prediction(maps=maps)

    def state(self) -> dict[str, Tensor]:
        """Weights, running means and the template, which is computed first if it is due."""
        self._update_template()
        return super().state()

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take over a state that `state` returned; the images it came from are not needed."""
        super().load_state(state)
        self._pending, self._folded = None, None

    def pyramid(self, images: Tensor) -> list[Tensor]:
        """The feature pyramid of (B, 3, H, W) images, without gradients."""
        with torch.no_grad():
            features = self.encoder(images)
            layout = fast_layout(features.device)
            return decompose(features.contiguous(memory_format=layout), self.levels)

    def latents(self, images: Tensor) -> list[Tensor]:
        """The latent pyramid of (B, 3, H, W) images in evaluation mode."""
        if self._folded is None:
            self._folded = FoldedFlow(self.flow)
        return self._folded(self.pyramid(images))

    def loss(self, latents: list[Tensor]) -> Tensor:
        """The training loss of a batch."""
        differences = pair_differences if self.latent_template else zero_differences
        maps = differences(latents, in_pyramid=self.pyramid_difference)
        return fourier_loss(maps) if self.fourier_loss else maps.mean()

    def optimiser(self) -> torch.optim.Optimizer:
        """Adam over the flow; the stem is never trained.

        On a GPU in one kernel, which leaves out a step that is not finite.
        """
        return torch.optim.Adam(
            self.flow.parameters(),
            lr=self.lr,
            betas=(self.beta1, self.beta2),
            eps=self.eps,
            weight_decay=self.weight_decay,
            fused=self._readings.lag > 0,
        )

    def step(self, images: Tensor, optimiser: torch.optim.Optimizer, place: str) -> Tensor:
        """One optimiser step on a batch: (2,) the loss, and the gradient norm before clipping.

        Args:
            place: of the step in the training, for messages: "epoch 1, step 2".

        Raises:
            MethodError: a loss or gradient that is not finite, in this step or, on a GPU, in the
                one before; names the block and the place.
        """
        optimiser.zero_grad(set_to_none=True)
        loss = self._backward(images)
        norm = nn.utils.clip_grad_norm_(self.flow.parameters(), self.clip)
        figures = torch.stack([loss, norm])
        self._check(self._readings.put(figures, (place, images)))
        if optimiser.defaults["fused"]:
            # As torch's gradient scaler says it: with 1 the parameters stay as they are.
            optimiser.found_inf = (~figures.isfinite().all()).float()  # type: ignore[attr-defined]
        optimiser.step()
        return figures

    def _backward(self, images: Tensor) -> Tensor:
        """The loss of a batch, without its graph; its gradients are added to the parameters'."""
        loss = self.loss(self.flow(self.pyramid(images), self.save_memory))
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def remember(self, train: Images) -> None:
        """Set the images of the template, which is computed when it is first needed."""
        self._pending = train

    def _check(self, readings: list[tuple[list[float], tuple[str, Tensor]]]) -> None:
        """Refuse what is not finite: say which block and place, whose parameters are still there.

        Raises:
            MethodError: names them.
        """
        for (loss, norm), (place, images) in readings:
            if math.isfinite(loss) and math.isfinite(norm):
                continue
            if math.isfinite(loss):
                what, where = f"gradient norm {norm}", self._bad_gradient(images)
            else:
                what, where = f"loss {loss}", self.flow.first_bad_block(self.pyramid(images))
            raise MethodError(
                f"pyramidflow: {what} in {place}, first at {where};"
                f" lower lr ({self.lr:g}) or clip ({self.clip:g}), or look at the training images"
            )

    def _bad_gradient(self, images: Tensor) -> str:
        """Which block's gradient stops being finite; clipping has spread it, so once more."""
        self.flow.zero_grad(set_to_none=True)
        self._backward(images)
        bad = [
            number
            for number, block in enumerate(self.flow.chain())
            if any(p.grad is not None and not p.grad.isfinite().all() for p in block.parameters())
        ]
        # Gradients run backwards: the last bad block is the first that broke.
        return f"block {bad[-1]} (gradient)" if bad else "the sum of their squares"

    def training_mode(self, mode: bool) -> None:
        """Stem and flow into training or evaluation mode."""
        self.encoder.train(mode)
        self.flow.train(mode)
        self._folded = None

    @torch.no_grad()
    def _update_template(self) -> None:
        """Average the latents of all training images, without augmentation, if it is due."""
        if self._pending is None:
            return
        train, self._pending = self._pending, None
        if not self.latent_template:
            return
        self.training_mode(False)
        levels = self.template.levels()
        sums = [torch.zeros_like(level, dtype=torch.float64) for level in levels]
        for images in train.batches(_TEMPLATE_BATCH):
            for total, latent in zip(sums, self.latents(images), strict=True):
                total += latent.sum(0, keepdim=True, dtype=torch.float64)
        for level, total in zip(levels, sums, strict=True):
            level.copy_(total / len(train))

    def _norm_kind(self) -> VolumeNormKind:
        for kind in get_args(VolumeNormKind):
            if kind == self.volume_norm:
                return kind  # type: ignore[no-any-return]
        known = nearest(self.volume_norm, get_args(VolumeNormKind))
        raise MethodError(f"pyramidflow: unknown volume_norm {self.volume_norm!r}; {known}")

    def _check_fields(self) -> None:
        limits = {
            "channels": 3,
            "levels": 2,
            "stacks": 1,
            "kernel": 1,
            "epochs": 1,
            "batch": 2,
            "running_mean_updates": 1,
        }
        for name, least in limits.items():
            if getattr(self, name) < least:
                raise MethodError(
                    f"pyramidflow: {name} = {getattr(self, name)}, but at least {least} is needed"
                )
        for name in ("lr", "eps", "clip"):
            if not getattr(self, name) > 0:
                raise MethodError(f"pyramidflow: {name} = {getattr(self, name)} must be above 0")
        for name in ("beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise MethodError(f"pyramidflow: {name} = {getattr(self, name)} is not in [0, 1)")
        if self.weight_decay < 0:
            raise MethodError(f"pyramidflow: weight_decay = {self.weight_decay} is below 0")
        if self.kernel % 2 == 0:
            choices = f"{self.kernel - 1} or {self.kernel + 1}"
            raise MethodError(f"pyramidflow: kernel = {self.kernel} is even; take {choices}")
        if self.augment not in AUGMENTATIONS:
            known = nearest(self.augment, AUGMENTATIONS)
            raise MethodError(f"pyramidflow: unknown augment {self.augment!r}; {known}")
        self._norm_kind()

    def _feature_size(self, image_size: tuple[int, int]) -> tuple[int, int]:
        """(height, width) of the features, which every level must halve without rest."""
        stride, divisor = self.encoder.stride, 2 ** (self.levels - 1)
        step = stride * divisor
        if all(side % step == 0 for side in image_size):
            return image_size[0] // stride, image_size[1] // stride
        near = [max(step, round(side / step) * step) for side in image_size]
        # The lowest set bit of a number is the largest power of two that divides it.
        unit = min((side // stride) & -(side // stride) for side in image_size)
        most = unit.bit_length() if all(side % stride == 0 for side in image_size) else 0
        advice = f", or set levels to at most {most}" if most >= 2 else ""
        raise MethodError(
            f"pyramidflow: {self.levels} levels need sides that {step} divides, got"
            f" {image_size[0]} x {image_size[1]}; resize to {near[0]} x {near[1]}{advice}"
        )
