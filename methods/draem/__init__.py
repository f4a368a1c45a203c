"""DRAEM: a network redraws pictures without synthetic anomalies, another finds the difference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from torch.nn import functional

from bench.api import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    ImageFolder,
    Method,
    MethodError,
    Prediction,
)
from bench.blocks.layout import fast_layout
from bench.blocks.on_device import constant, sent

from .networks import STRIDE, Discrimination, Reconstruction, initialise
from .procedural import ProceduralTextures
from .synthesis import Settings, Synthesis, as_bytes
from .training import Trainer, rate

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from bench.api import Auxiliary, Images, Run

    from .synthesis import Textures


@dataclass
class Draem(Method):
    """Discriminatively trained reconstruction of synthetic anomalies (arXiv:2108.07610).

    Attributes:
        textures: folder of pictures that anomalies are made of, the published source being the
            Describable Textures Dataset; "": procedural textures.
        procedural: which procedural textures stand in where there is no folder.
        bank: how many of them are drawn, once for each run.
        recon_width, disc_width: channels of the first layer of either network.
        batch: pictures in a step.
        learning_rate: of Adam.
        epochs: passes over the training images.
        drops, drop_factor: after these shares of the epochs the rate is multiplied by the factor.
        anomaly_share, rotate_share, rotate_degrees, operations, max_cells, threshold, beta_max:
            see `Settings`.
        pool: side of the window whose mean, at its largest, is the image score; odd.
        input_size: side of the input, where the protocol leaves it to the method.
    """

    version: ClassVar[int] = 1
    paper: ClassVar[str] = (
        "Zavrtanik, Kristan, Skocaj: DRAEM - A Discriminatively Trained Reconstruction Embedding "
        "for Surface Anomaly Detection, ICCV 2021, arXiv:2108.07610"
    )

    textures: ImageFolder = ""
    procedural: Literal["procedural-1"] = "procedural-1"
    bank: int = 256
    recon_width: int = 128
    disc_width: int = 64
    batch: int = 8
    learning_rate: float = 1e-4
    epochs: int = 700
    drops: tuple[float, ...] = (0.8, 0.9)
    drop_factor: float = 0.2
    anomaly_share: float = 0.5
    rotate_share: float = 0.3
    rotate_degrees: float = 90.0
    operations: int = 3
    max_cells: int = 5
    threshold: float = 0.5
    beta_max: float = 0.8
    pool: int = 21
    input_size: int = 256

    def __post_init__(self) -> None:
        counts = ("bank", "recon_width", "disc_width", "batch", "epochs", "pool", "input_size")
        for name in (*counts, "learning_rate", "drop_factor"):
            if getattr(self, name) <= 0:
                raise MethodError(f"draem: {name} = {getattr(self, name)} must be above 0")
        for name in ("anomaly_share", "rotate_share", "beta_max"):
            if not 0 <= getattr(self, name) <= 1:
                raise MethodError(f"draem: {name} = {getattr(self, name)} must be from 0 to 1")
        for name, most in (("operations", 10), ("max_cells", 5)):
            if not 0 <= getattr(self, name) <= most:
                raise MethodError(f"draem: {name} = {getattr(self, name)} must be from 0 to {most}")
        if not all(0 < share <= 1 for share in self.drops):
            raise MethodError(f"draem: drops = {self.drops} must be shares of the epochs, 0 to 1")
        if self.pool % 2 == 0:
            raise MethodError(f"draem: pool = {self.pool} must be odd")

    def prepare(self, run: Run) -> None:
        """Both networks, freshly initialised.

        Raises:
            MethodError: sides that the networks cannot halve five times.
        """
        height, width = run.image_size
        if height % STRIDE or width % STRIDE:
            raise MethodError(
                f"draem: images of {height} x {width} pixels; both sides must be multiples of "
                f"{STRIDE}, as 256 is"
            )
        generator = run.generator("draem weights")
        self.reconstruction = Reconstruction(self.recon_width)
        self.discrimination = Discrimination(self.disc_width)
        for network in (self.reconstruction, self.discrimination):
            initialise(network, generator)
            # A step is 1.15 times as fast on a CPU in its layout, with the same weights.
            network.to(memory_format=fast_layout(run.device)).to(run.device).eval()

    def fit(self, train: Images, run: Run) -> Iterator[Mapping[str, float]]:
        """Train both networks; yield losses and rate after each epoch.

        Raises:
            MethodError: a loss that is not finite; names the epoch.
        """
        synthesis = Synthesis(
            self._textures(train.image_size, run), self._settings, run.generator("draem anomalies")
        )
        trainer = Trainer(self.reconstruction, self.discrimination, self.learning_rate)
        for epoch in range(self.epochs):
            lr = rate(self.learning_rate, epoch, self.epochs, self.drops, self.drop_factor)
            trainer.set_rate(lr)
            self.reconstruction.train()
            self.discrimination.train()
            losses = []
            for images in train.batches(self.batch, shuffle=True):
                samples = synthesis(as_bytes(images, IMAGENET_MEAN, IMAGENET_STD))
                losses.append(
                    trainer.step(
                        sent(samples.pictures, run.device),
                        sent(samples.altered, run.device),
                        sent(samples.mask, run.device),
                    )
                )
            self.reconstruction.eval()
            self.discrimination.eval()
            yield self._figures(epoch, torch.stack(losses)) | {"lr": lr}

    def predict(self, images: Tensor) -> Prediction:
        """Probability of an anomaly at each pixel; the score is the largest mean over a window.

        Outside the image the probability counts as 0, as published: borders are damped.
        """
        maps = self.raw(images).softmax(1)[:, 1]
        means = functional.avg_pool2d(maps[:, None], self.pool, stride=1, padding=self.pool // 2)
        return Prediction(maps, means.amax((1, 2, 3)))

    def raw(self, images: Tensor) -> Tensor:
        """(B, 2, H, W) logits."""
        mean, std = (constant(m, images).view(3, 1, 1) for m in (IMAGENET_MEAN, IMAGENET_STD))
        pictures = images * std + mean
        redrawn = self.reconstruction(pictures)
        logits: Tensor = self.discrimination(torch.cat([redrawn, pictures], 1))
        return logits

    def state(self) -> dict[str, Tensor]:
        """As `Method.state`; channels-last weights are made contiguous, as files want them."""
        return {name: value.contiguous() for name, value in super().state().items()}

    @property
    def _settings(self) -> Settings:
        return Settings(
            anomaly_share=self.anomaly_share,
            rotate_share=self.rotate_share,
            rotate_degrees=self.rotate_degrees,
            operations=self.operations,
            max_cells=self.max_cells,
            threshold=self.threshold,
            beta_max=self.beta_max,
        )

    def _textures(self, size: tuple[int, int], run: Run) -> Textures:
        if not self.textures:
            return ProceduralTextures(self.bank, size, run.generator("draem textures"))
        return _Folder(run.auxiliary("textures"), size)

    def _figures(self, epoch: int, losses: Tensor) -> dict[str, float]:
        """Mean losses of an epoch from (steps, 3) of its steps."""
        bad = (~losses.isfinite().all(1)).nonzero()
        if len(bad):
            step = int(bad[0])
            values = ", ".join(f"{value:.3g}" for value in losses[step].tolist())
            raise MethodError(
                f"draem: the losses are {values} in epoch {epoch + 1}, step {step + 1} of "
                f"{len(losses)}; lower learning_rate = {self.learning_rate}"
            )
        l2, ssim, focal = losses.mean(0).tolist()
        return {"loss": l2 + ssim + focal, "l2": l2, "ssim": ssim, "focal": focal}


class _Folder:
    """The pictures of a folder at one size, aspect ratio not kept."""

    def __init__(self, found: Auxiliary, size: tuple[int, int]) -> None:
        self.found = found
        self.size = size

    def __len__(self) -> int:
        return len(self.found)

    def pictures(self, index: list[int]) -> NDArray[np.uint8]:
        unit = self.found.pictures(index, self.size).cpu()
        pixels: NDArray[np.uint8] = (
            (unit * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()
        )
        return pixels
