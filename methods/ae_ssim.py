"""AE-SSIM: an auto-encoder trained for structural similarity (Bergmann et al., 2018)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from torch.nn import functional

from bench.api import Method, MethodError, Prediction
from bench.blocks.autoencoder import AutoEncoder, initialise
from bench.blocks.on_device import constant
from bench.blocks.patch_training import PatchTraining
from bench.blocks.patches import RandomPatch, Tiling
from bench.blocks.pixels import unnormalised
from bench.blocks.ssim import Window, ssim_map

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor

    from bench.api import Images, Run

WIDTHS = (1, 1, 1, 2, 2, 4, 2, 1)
"""Of the encoder's layers, in multiples of the first."""
_GREY = (0.299, 0.587, 0.114)


@dataclass
class AeSsim(Method):
    """What the auto-encoder of normal patches does not reproduce, by structural similarity.

    Attributes:
        patch: side of the patches: 64, 128 (textures), 256 (objects), 512, ...
        latent: numbers that stand for a patch; 100 for textures, 500 for objects.
        width: channels of the first layer; the others are its multiples 1, 2 and 4.
        output: what follows the last layer; "linear" in the paper, "sigmoid" in the code.
        init: Keras' default weights, or torch's.
        grey: read images as one grey channel, as the code does for grid, screw and zipper.
        loss: 1 - SSIM, with `l1_weight` times the absolute difference, or the squared difference.
        l1_weight: of the absolute difference, in loss and map "ssim_l1".
        window: side of SSIM's window, in pixels; Gaussian in the loss, uniform in the map.
        sigma: of the Gaussian window.
        epochs: at most; passes of `patches_per_epoch` random patches.
        batch: patches of an update.
        lr: of Adam at the first update.
        lr_decay: the rate is lr / (1 + lr_decay t) after t updates, as in the code.
        weight_decay: coupled with the gradient; 1e-5 in the paper.
        epsilon: of Adam, added to the uncorrected root as in Keras.
        patches_per_epoch: drawn anew in each epoch.
        validation: share of the training images that only watch; 0.2 in the code.
        patience: epochs without improvement on them before training ends.
        rotate_probability, rotate_degrees, flip_horizontal, flip_vertical: of the patches.
        stride: from one patch of a test image to the next.
        average: overlapping reconstructions, or the maps of overlapping patches.
        map: 1 - SSIM, absolute difference, their sum as in the loss, or squared difference.
        quantise: round the reconstruction down to 8 bits before it is compared.
        border: pixels from the image's edge where the map counts `border_weight` times.
        border_weight: see `border`; 1: no frame.
        input_size: side of the input, where the protocol leaves it to the method.
    """

    version: ClassVar[int] = 1
    paper: ClassVar[str] = (
        "Bergmann, Loewe, Fauser, Sattlegger, Steger: Improving Unsupervised Defect Segmentation "
        "by Applying Structural Similarity to Autoencoders. VISAPP 2019, arXiv:1807.02011"
    )

    patch: int = 128
    latent: int = 100
    width: int = 32
    output: Literal["sigmoid", "linear"] = "sigmoid"
    init: Literal["glorot", "torch"] = "glorot"
    grey: bool = False
    loss: Literal["ssim", "ssim_l1", "l2"] = "ssim"
    l1_weight: float = 1.0
    window: int = 11
    sigma: float = 1.5
    epochs: int = 200
    batch: int = 128
    lr: float = 2e-4
    lr_decay: float = 1e-5
    weight_decay: float = 0.0
    epsilon: float = 1e-7
    patches_per_epoch: int = 10000
    validation: float = 0.0
    patience: int = 20
    rotate_probability: float = 0.3
    rotate_degrees: float = 45.0
    flip_horizontal: float = 0.3
    flip_vertical: float = 0.3
    stride: int = 32
    average: Literal["recon", "residual"] = "recon"
    map: Literal["ssim", "l1", "ssim_l1", "l2"] = "ssim"
    quantise: bool = True
    border: int = 5
    border_weight: float = 0.2
    input_size: int = 256

    def prepare(self, run: Run) -> None:
        """Build the network; images must be at least a patch."""
        self._training()
        if not self.lr > 0:
            raise MethodError(f"ae_ssim: lr = {self.lr}; it must be positive")
        if not 0 <= 2 * self.border < min(run.image_size):
            raise MethodError(
                f"ae_ssim: border = {self.border} leaves nothing of {run.image_size[0]}x"
                f"{run.image_size[1]} pixels, or is negative; 5 is published"
            )
        self._gaussian(), self._uniform()
        self.tiling = Tiling(run.image_size, self.patch, self.stride)
        widths = [self.width * factor for factor in WIDTHS]
        self.network = AutoEncoder(
            self.patch, 1 if self.grey else 3, widths, self.latent, output=self.output
        )
        initialise(self.network, self.init, run.generator("ae_ssim weights"))
        self.network.to(run.device).eval()

    def fit(self, train: Images, run: Run) -> Iterator[Mapping[str, float]]:
        """Train on random patches; yield the mean loss of each epoch."""
        optimizer = KerasAdam(self.network, self.lr, self.lr_decay, self.weight_decay, self.epsilon)

        def update(patches: Tensor) -> Tensor:
            loss = self.patch_loss(patches)
            optimizer.step(loss)
            return loss.detach()

        yield from self._training().run(self.network, train, update, self.patch_loss)

    def patch_loss(self, patches: Tensor) -> Tensor:
        """Loss of (B, 3, patch, patch) patches in [0, 1], averaged over everything."""
        patches = self._channels(patches)
        found = self.network(patches)
        if self.loss == "l2":
            return functional.mse_loss(found, patches)
        loss = 1 - ssim_map(patches, found, self._gaussian()).mean()
        if self.loss == "ssim_l1":
            loss = loss + self.l1_weight * (patches - found).abs().mean()
        return loss

    def predict(self, images: Tensor) -> Prediction:
        maps = self.raw(images)
        return Prediction(maps, maps.amax((1, 2)))

    def raw(self, images: Tensor) -> Tensor:
        """(B, H, W) maps; image by image, so that no image's sums depend on the others."""
        pixels = self._channels(unnormalised(images))
        return torch.stack([self._map(image) for image in pixels])

    def reconstruct(self, image: Tensor) -> Tensor:
        """(C, H, W) in [0, 1] -> the mean of the reconstructions of the patches that cover it."""
        return self.tiling.join(self.network(self.tiling.cut(image)))

    def residual(self, pixels: Tensor, found: Tensor) -> Tensor:
        """(B, H, W) difference of (B, C, H, W) pixels in [0, 1] and their reconstruction."""
        # SSIM's differences of squares near 255^2 need double precision.
        pixels, found = (255 * pixels.double()).round(), 255 * found.double()
        if self.quantise:
            found = found.clamp(0, 255).floor()
        if self.map == "l2":
            return ((pixels - found) / 255).square().mean(1).float()
        total = pixels.new_zeros(pixels.shape[0], *pixels.shape[-2:])
        if self.map != "l1":
            total = 1 - ssim_map(pixels, found, self._uniform(), value_range=255.0).mean(1)
        if self.map != "ssim":
            weight = self.l1_weight if self.map == "ssim_l1" else 1.0
            total = total + weight * (pixels - found).abs().mean(1) / 255
        return total.float()

    def _map(self, image: Tensor) -> Tensor:
        """(C, H, W) in [0, 1] -> (H, W)."""
        if self.average == "recon":
            residual = self.residual(image[None], self.reconstruct(image)[None])[0]
        else:
            patches = self.tiling.cut(image)
            residual = self.tiling.join(self.residual(patches, self.network(patches))[:, None])[0]
        return residual * self._frame().to(residual.device)

    def _gaussian(self) -> Window:
        return Window(self.window, self.sigma, summed="float64")

    def _uniform(self) -> Window:
        return Window(self.window, sigma=None, border="edge", is_sample=True)

    def _training(self) -> PatchTraining:
        augment = RandomPatch(
            self.patch,
            self.rotate_probability,
            self.rotate_degrees,
            self.flip_horizontal,
            self.flip_vertical,
        )
        return PatchTraining(
            "ae_ssim",
            augment,
            self.epochs,
            self.patches_per_epoch,
            self.batch,
            self.validation,
            self.patience,
        )

    def _frame(self) -> Tensor:
        """(H, W) weights of the map."""
        weights = torch.full(self.tiling.size, self.border_weight)
        height, width = self.tiling.size
        weights[self.border : height - self.border, self.border : width - self.border] = 1
        return weights

    def _channels(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, 1, H, W) in steps of 8 bits where images are read as grey."""
        if not self.grey:
            return pixels
        grey = (pixels * constant(_GREY, pixels).view(3, 1, 1)).sum(1, keepdim=True)
        return (255 * grey).round() / 255


class KerasAdam:
    """Adam as Keras has it: epsilon beside the uncorrected root, and a rate that decays."""

    def __init__(
        self,
        network: torch.nn.Module,
        lr: float,
        lr_decay: float,
        weight_decay: float,
        epsilon: float,
    ) -> None:
        self.lr, self.lr_decay, self.epsilon = lr, lr_decay, epsilon
        self.optimizer = torch.optim.Adam(network.parameters(), lr, weight_decay=weight_decay)
        self.steps = 0

    @property
    def rate(self) -> float:
        """Of the next step."""
        return self.lr / (1 + self.lr_decay * self.steps)

    def step(self, loss: Tensor) -> None:
        """One update down the gradient of `loss`."""
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        rate = self.rate
        self.steps += 1
        for group in self.optimizer.param_groups:
            # torch divides the root by sqrt(1 - beta2^t) before it adds epsilon; Keras does not.
            group["lr"] = rate
            group["eps"] = self.epsilon / math.sqrt(1 - group["betas"][1] ** self.steps)
        self.optimizer.step()
