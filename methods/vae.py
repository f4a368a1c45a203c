"""A plain variational auto-encoder on patches; this project's own, see docs/methods/vae.md."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from torch.nn import functional

from bench.api import Method, MethodError, Prediction
from bench.blocks.autoencoder import AutoEncoder, initialise
from bench.blocks.on_device import sent
from bench.blocks.patch_training import PatchTraining
from bench.blocks.patches import RandomPatch, Tiling
from bench.blocks.pixels import unnormalised
from bench.blocks.smoothing import gaussian_smooth
from bench.blocks.ssim import Window, ssim_map

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor

    from bench.api import Images, Run

WIDTHS = (1, 1, 1, 2, 2, 4, 2, 1)
"""Of the encoder's layers, in multiples of the first: those of AE-SSIM."""
NORM_WIDTHS = (1, 1, 2, 2, 4, 4, 4, 0.25)
"""With batch norm: those of FAVAE's code, where the first is 128."""


@dataclass
class Vae(Method):
    """Squared error of patches decoded from the mean of their latent Gaussian.

    Attributes:
        patch: side of the patches: 64, 128 (textures), 256 (objects), 512, ...
        latent: dimensions of the Gaussian; 100 for textures, 500 for objects.
        width: channels of the first layer; the others are its multiples.
        batch_norm: FAVAE's network: norms after every layer but the latent and the output one,
            transposed convolutions throughout the decoder, and its widths (width 128).
        init: torch's default weights, or Keras'.
        reconstruction: squared error (a Gaussian likelihood of variance 1/2) or binary
            cross-entropy, summed over a patch.
        kl_weight: of the divergence from the standard Gaussian, beside that sum.
        epochs: at most; passes of `patches_per_epoch` random patches.
        batch: patches of an update.
        lr: of Adam; FAVAE has 5e-3 with batch norm.
        weight_decay: coupled with the gradient.
        patches_per_epoch: drawn anew in each epoch.
        validation: share of the training images that only watch; 0.2 in FAVAE.
        patience: epochs without improvement on them before training ends.
        rotate_probability, rotate_degrees, flip_horizontal, flip_vertical: of the patches.
        stride: from one patch of a test image to the next; overlapping ones are averaged.
        map: squared difference summed over channels, or 1 - SSIM.
        window: side of SSIM's uniform window, in pixels.
        sigma: of the map's smoothing, in pixels; 0: none.
        input_size: side of the input, where the protocol leaves it to the method.
    """

    version: ClassVar[int] = 1
    paper: ClassVar[str] = (
        "Kingma, Welling: Auto-Encoding Variational Bayes. ICLR 2014, arXiv:1312.6114; the "
        "published anomaly rows called VAE are other models"
    )

    patch: int = 128
    latent: int = 100
    width: int = 32
    batch_norm: bool = False
    init: Literal["torch", "glorot"] = "torch"
    reconstruction: Literal["mse", "bce"] = "mse"
    kl_weight: float = 1.0
    epochs: int = 100
    batch: int = 64
    lr: float = 5e-4
    weight_decay: float = 1e-5
    patches_per_epoch: int = 10000
    validation: float = 0.0
    patience: int = 20
    rotate_probability: float = 0.3
    rotate_degrees: float = 45.0
    flip_horizontal: float = 0.3
    flip_vertical: float = 0.3
    stride: int = 32
    map: Literal["l2", "ssim"] = "l2"
    window: int = 11
    sigma: float = 4.0
    input_size: int = 256

    def prepare(self, run: Run) -> None:
        """Build the network; images must be at least a patch."""
        self._training()
        if not self.lr > 0:
            raise MethodError(f"vae: lr = {self.lr}; it must be positive")
        self._uniform()
        self.tiling = Tiling(run.image_size, self.patch, self.stride)
        factors = NORM_WIDTHS if self.batch_norm else WIDTHS
        widths = [int(self.width * factor) for factor in factors]
        self.network = AutoEncoder(
            self.patch, 3, widths, self.latent, code=2 * self.latent, norm=self.batch_norm
        )
        initialise(self.network, self.init, run.generator("vae weights"))
        self.network.to(run.device).eval()

    def fit(self, train: Images, run: Run) -> Iterator[Mapping[str, float]]:
        """Train on random patches; yield the mean loss of a patch in each epoch."""
        optimizer = self.optimizer()
        generator = run.generator("vae noise")

        def update(patches: Tensor) -> Tensor:
            noise = torch.randn(len(patches), self.latent, generator=generator)
            loss = self.patch_loss(patches, sent(noise, patches.device))
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            return loss.detach().double() / len(patches)

        def mean_loss(patches: Tensor) -> Tensor:
            return self.patch_loss(patches) / len(patches)

        yield from self._training().run(self.network, train, update, mean_loss)

    def optimizer(self) -> torch.optim.Adam:
        """Of all parameters of the network."""
        return torch.optim.Adam(self.network.parameters(), self.lr, weight_decay=self.weight_decay)

    def patch_loss(self, patches: Tensor, noise: Tensor | None = None) -> Tensor:
        """Loss of (B, 3, patch, patch) patches in [0, 1], summed over all of them.

        Args:
            noise: (B, latent) standard normal numbers; None: the mean is decoded.
        """
        mu, logvar = self.gaussian(patches)
        found = self.network.decode(mu if noise is None else sample(mu, logvar, noise))
        return vae_loss(patches, found, mu, logvar, self.reconstruction, self.kl_weight)

    def gaussian(self, patches: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance, (B, latent) each."""
        mu, logvar = self.network.encode(patches).chunk(2, dim=1)
        return mu, logvar

    def predict(self, images: Tensor) -> Prediction:
        maps = gaussian_smooth(self.raw(images), self.sigma)
        return Prediction(maps, maps.amax((1, 2)))

    def raw(self, images: Tensor) -> Tensor:
        """(B, H, W) maps before smoothing; image by image, so that memory does not grow."""
        pixels = unnormalised(images)
        found = torch.stack([self.reconstruct(image) for image in pixels])
        return self.residual(pixels, found)

    def reconstruct(self, image: Tensor) -> Tensor:
        """(3, H, W) in [0, 1] -> the mean of the reconstructions of the patches that cover it."""
        mu, _ = self.gaussian(self.tiling.cut(image))
        return self.tiling.join(self.network.decode(mu))

    def residual(self, pixels: Tensor, found: Tensor) -> Tensor:
        """(B, H, W) difference of (B, C, H, W) pixels in [0, 1] and their reconstruction."""
        if self.map == "l2":
            return (pixels - found).square().sum(1)
        similarity = ssim_map(pixels.double(), found.double(), self._uniform())
        return (1 - similarity.mean(1)).float()

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
            "vae",
            augment,
            self.epochs,
            self.patches_per_epoch,
            self.batch,
            self.validation,
            self.patience,
        )


def sample(mu: Tensor, logvar: Tensor, noise: Tensor) -> Tensor:
    """Points of the Gaussians of mean `mu` and log variance `logvar` (Kingma and Welling 2014)."""
    return mu + (logvar / 2).exp() * noise


def vae_loss(
    pixels: Tensor,
    found: Tensor,
    mu: Tensor,
    logvar: Tensor,
    reconstruction: Literal["mse", "bce"],
    kl_weight: float,
) -> Tensor:
    """Reconstruction error and divergence, both summed over batch, channels and positions.

    With means in place of sums over pixels the divergence would weigh 49152 times as much for
    128-pixel patches of three channels.
    """
    if reconstruction == "mse":
        error = functional.mse_loss(found, pixels, reduction="sum")
    else:
        error = functional.binary_cross_entropy(found, pixels, reduction="sum")
    divergence = 0.5 * (logvar.exp() + mu.square() - 1 - logvar).sum()
    return error + kl_weight * divergence
