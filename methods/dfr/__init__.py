"""DFR: reconstruction error of regional VGG features by a small autoencoder (Shi et al., 2021)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from torch.nn import functional

from bench.api import Method, MethodError, Prediction, nearest
from bench.blocks.kept import KeptFeatures

from .autoencoder import Autoencoder, Trainer, energy, latent_dimension
from .regional import Aggregation, Modules, Taps, are_activations, deepest_block

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor

    from bench.api import Images, Run

CHOICES = {"padding": ("reflect", "zeros"), "upsample": ("bilinear", "nearest")}


@dataclass
class DFR(Method):
    """Squared error of an autoencoder over the positions of a grid of deep features.

    Attributes:
        backbone: a VGG of timm's, with or without batch norm; the published one is VGG19. Any
            other network where `layers` names modules.
        layers: activations that are joined, relu{block}_{number}, in any order; or modules of the
            backbone, as "blocks.2", with `padding` "zeros".
        padding: of the convolutions: "reflect", as published, or "zeros", as the weights were
            trained. Reflected layers are tapped behind the next convolution's padding.
        kernel: side of the cells that features are averaged over, in pixels of the input.
        stride: of these cells; a quarter of the input is the published grid.
        upsample: how feature maps are brought to the size of the input before that.
        latent: channels of the code; 0: as many principal components as `latent_variance` needs.
        latent_variance: share of the variance of the first images' features.
        latent_images: how many images that is decided on, the first in sorted order.
        batch_norm: in the autoencoder.
        freeze_dead_biases: leave alone the biases whose gradient is rounding noise. The same in
            exact arithmetic, and repeatable in float32; the published code trains them.
        epochs: passes over the training images; the code's default is 150, a note in it says 700.
        batch: images in a step; the last one may be smaller.
        lr: of Adam, constant.
        keep_features: compute the features of the training images once; False: at each step again,
            as published, and with another draw of their order.
        keep_mb: features that are kept lie in memory up to this many 10^6 bytes, else in a file.
        input_size: side of the input, where the protocol leaves it to the method.
    """

    version: ClassVar[int] = 1
    paper: ClassVar[str] = (
        "Shi, Yang, Qi: Unsupervised anomaly segmentation via deep feature reconstruction. "
        "Neurocomputing 424 (2021), arXiv:2012.07122"
    )

    backbone: str = "vgg19.tv_in1k"
    layers: tuple[str, ...] = (
        "relu1_1",
        "relu1_2",
        "relu2_1",
        "relu2_2",
        "relu3_1",
        "relu3_2",
        "relu3_3",
        "relu3_4",
        "relu4_1",
        "relu4_2",
        "relu4_3",
        "relu4_4",
    )
    padding: Literal["reflect", "zeros"] = "reflect"
    kernel: int = 4
    stride: int = 4
    upsample: Literal["bilinear", "nearest"] = "bilinear"
    latent: int = 0
    latent_variance: float = 0.9
    latent_images: int = 10
    batch_norm: bool = True
    freeze_dead_biases: bool = True
    epochs: int = 150
    batch: int = 4
    lr: float = 1e-4
    keep_features: bool = True
    keep_mb: int = 2048
    input_size: int = 256

    def __post_init__(self) -> None:
        for name, choices in CHOICES.items():
            value = getattr(self, name)
            if value not in choices:
                raise MethodError(f"dfr: {name}={value!r}; {nearest(str(value), choices)}")
        for name in ("kernel", "stride", "latent_images", "epochs", "batch", "lr", "input_size"):
            if not getattr(self, name) > 0:
                raise MethodError(f"dfr: {name}={getattr(self, name)} must be above 0")
        for name in ("latent", "keep_mb"):
            if getattr(self, name) < 0:
                raise MethodError(f"dfr: {name}={getattr(self, name)} must not be below 0")
        if not 0 < self.latent_variance < 1:
            raise MethodError(f"dfr: latent_variance={self.latent_variance} is not in (0, 1)")

    def prepare(self, run: Run) -> None:
        """Load the backbone; the autoencoder too, where its size is known."""
        self.taps = self._taps(run)
        cell = (self.kernel, self.kernel), (self.stride, self.stride)
        self.aggregation = Aggregation(run.image_size, *cell, self.upsample)
        if self.latent:
            self.autoencoder = self._autoencoder(self.latent, run)
        self._run = run

    def fit(self, train: Images, run: Run) -> Iterator[Mapping[str, float]]:
        """Train the autoencoder; yield the loss of each epoch.

        Raises:
            MethodError: features that do not vary, or a loss that is not finite.
        """
        if not self.latent:
            first = islice(train.batches(1), self.latent_images)
            vectors = (self.features(x).flatten(2)[0].T for x in first)
            latent = latent_dimension(vectors, self.latent_variance)
            self.autoencoder = self._autoencoder(latent, run)
        if self.freeze_dead_biases:
            self.autoencoder.freeze_dead_biases()
        trainer = Trainer(self.autoencoder, self.lr)
        passes = self._passes(train, run)
        for epoch in range(1, self.epochs + 1):
            yield {"loss": trainer.epoch(next(passes), epoch)}

    def predict(self, images: Tensor) -> Prediction:
        error = self.raw(images)
        size = (images.shape[-2], images.shape[-1])
        maps = functional.interpolate(error[:, None], size, mode="bilinear", align_corners=True)
        return Prediction(maps[:, 0], maps.flatten(1).amax(1))

    def raw(self, images: Tensor) -> Tensor:
        """(B, h, w) errors on the grid of the features."""
        with torch.no_grad():
            return energy(self.autoencoder, self.features(images))

    def features(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) images -> (B, C, h, w) regional features."""
        with torch.no_grad():
            taps = self.taps(images)
            return self.aggregation([taps[name] for name in self.taps.names])

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take over a state; the code has as many channels as the state says."""
        # The last layer of the encoder, whose number depends on the batch norms before it.
        code = [k for k in state if k.startswith("autoencoder.encoder.") and k.endswith("weight")]
        if not code:
            raise MethodError("saved state has no autoencoder; not a DFR model")
        latent = len(state[max(code)])
        if self.latent not in (0, latent):
            raise MethodError(f"saved state has latent={latent}, the settings say {self.latent}")
        self.autoencoder = self._autoencoder(latent, self._run)
        super().load_state(state)

    def _taps(self, run: Run) -> Taps | Modules:
        if not self.layers:
            raise MethodError("dfr: layers is empty; name some, as relu1_1")
        if not are_activations(self.layers):
            if self.padding != "zeros":
                raise MethodError(
                    f"dfr: layers {tuple(self.layers)} are not all relu{{block}}_{{number}} of a "
                    "VGG, as relu1_1; modules of other networks need padding = 'zeros'"
                )
            return Modules(run.backbone(self.backbone, self.layers), self.layers)
        block = deepest_block(self.layers)
        smallest = 2 * 2 ** (block - 1)
        if min(run.image_size) < smallest:
            height, width = run.image_size
            raise MethodError(
                f"dfr: images of {height}x{width} pixels leave block {block} of {self.backbone} "
                f"less than 2x2; give at least {smallest} pixels, or layers of earlier blocks"
            )
        # timm counts a VGG's blocks from 0; nothing behind the last one needed is built.
        network = run.backbone(self.backbone, (block - 1,))
        return Taps(network.net, self.layers, self.padding)

    def _autoencoder(self, latent: int, run: Run) -> Autoencoder:
        made = Autoencoder(
            sum(self.taps.channels), latent, self.batch_norm, run.generator("dfr autoencoder")
        )
        return made.to(run.device).eval()

    def _passes(self, train: Images, run: Run) -> Iterator[Iterator[Tensor]]:
        """Features of the training images in batches of a new order, epoch after epoch."""
        if not self.keep_features:
            while True:
                yield (self.features(x) for x in train.batches(self.batch, shuffle=True))
        kept = KeptFeatures(train, self.features, self.batch, self.keep_mb, run)
        order = run.generator("dfr order")
        while True:
            yield kept.batches(self.batch, order)
