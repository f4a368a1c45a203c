"""VT-ADL: a transformer's tokens scored by a mixture density network (Mishra et al., 2021)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from torch.nn import functional

from bench.api import Method, MethodError, Prediction
from bench.blocks.on_device import sent
from bench.blocks.pixels import unnormalised
from bench.blocks.smoothing import gaussian_smooth
from bench.blocks.ssim import Window, ssim_map

from .autoencoder import IMAGE, AutoEncoder, initialise
from .mixture import Mixture

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor

    from bench.api import Images, Run

_ZEROS = Window(border="zeros")


@dataclass
class VtAdl(Method):
    """Negative log-likelihood of each patch's token in a mixture that depends on it.

    Images of another size than 512 are resized to it.

    Attributes:
        patch: side of the patches, a divisor of 512.
        dim: of the tokens, a multiple of `heads`.
        depth, heads, mlp: layers of the transformer, their heads, and the width of their inner
            network.
        width: channels of the decoder's first layer; 16 is published.
        gaussians: of the mixture; 150 in the paper, 10 in the released code.
        noise: standard deviation of what is added to the tokens in training.
        mse_weight, ssim_weight: of the reconstruction's losses beside the mixture's.
        epochs, batch, lr, weight_decay: of Adam; decay coupled with the gradient.
        accumulate: gradients of the mixture network are never cleared, as in the released code.
        keep: the epoch with the smallest mean training loss, as published, or the last one.
        likelihood: of the mixture; "weighted" is the released code's, see `Mixture.scores`.
        ssim_sign: of the similarity in the image score: "published" adds it, so that a better
            reconstruction raises the score; "corrected" subtracts it.
        sigma: of the map's smoothing, in pixels of 512; 0: none.
        input_size: side of the input, where the protocol leaves it to the method.
    """

    version: ClassVar[int] = 1
    paper: ClassVar[str] = (
        "Mishra, Verk, Fornasier, Piciarelli, Foresti: VT-ADL: A Vision Transformer Network for "
        "Image Anomaly Detection and Localization. ISIE 2021, arXiv:2104.10036"
    )

    patch: int = 64
    dim: int = 512
    depth: int = 6
    heads: int = 8
    mlp: int = 1024
    width: int = 16
    gaussians: int = 150
    noise: float = 0.2
    mse_weight: float = 5.0
    ssim_weight: float = 0.5
    epochs: int = 400
    batch: int = 8
    lr: float = 1e-4
    weight_decay: float = 1e-4
    accumulate: bool = True
    keep: Literal["best", "last"] = "best"
    likelihood: Literal["weighted", "mixture"] = "weighted"
    ssim_sign: Literal["published", "corrected"] = "published"
    sigma: float = 4.0
    input_size: int = 512

    def prepare(self, run: Run) -> None:
        """Build the auto-encoder and the mixture network."""
        for name in ("dim", "depth", "mlp", "gaussians", "epochs", "batch"):
            if getattr(self, name) < 1:
                raise MethodError(f"vtadl: {name} = {getattr(self, name)}; it must be at least 1")
        if not self.lr > 0 or self.noise < 0 or self.sigma < 0:
            raise MethodError(
                f"vtadl: lr = {self.lr}, noise = {self.noise}, sigma = {self.sigma}; lr must be "
                "positive, the others at least 0"
            )
        self.autoencoder = AutoEncoder(
            self.patch, self.dim, self.depth, self.heads, self.mlp, self.width
        )
        self.mixture = Mixture(self.dim, self.gaussians)
        for name, network in (("autoencoder", self.autoencoder), ("mixture", self.mixture)):
            initialise(network, run.generator(f"vtadl {name}"))
            network.to(run.device).eval()

    def fit(self, train: Images, run: Run) -> Iterator[Mapping[str, float]]:
        """Train both networks; yield the losses of each epoch."""
        optimizer = self.optimizer()
        generator = run.generator("vtadl noise")
        best, kept = math.inf, self.state()
        for epoch in range(1, self.epochs + 1):
            self.autoencoder.train()
            self.mixture.train()
            total, seen = torch.zeros(4, device=run.device), 0
            for images in train.batches(self.batch, shuffle=True):
                shape = (len(images), (IMAGE // self.patch) ** 2, self.dim)
                noise = self.noise * torch.randn(shape, generator=generator)
                noise = sent(noise, images.device)
                total += len(images) * self.update(optimizer, self.pixels(images), noise)
                seen += len(images)
            self.autoencoder.eval()
            self.mixture.eval()
            mse, ssim, mixture, loss = (total / seen).tolist()
            if not math.isfinite(loss):
                raise MethodError(
                    f"vtadl: the loss of epoch {epoch} is {loss}; training diverged, choose a "
                    "lower lr or fewer gaussians"
                )
            if self.keep == "best" and loss < best:
                best, kept = loss, {name: value.clone() for name, value in self.state().items()}
            if self.keep == "best" and epoch == self.epochs:
                self.load_state(kept)
            yield {"loss": loss, "mse": mse, "ssim": -ssim, "mixture_loss": mixture}

    def optimizer(self) -> torch.optim.Adam:
        """One for both networks."""
        parameters = [*self.autoencoder.parameters(), *self.mixture.parameters()]
        return torch.optim.Adam(parameters, self.lr, weight_decay=self.weight_decay)

    def update(self, optimizer: torch.optim.Optimizer, pixels: Tensor, noise: Tensor) -> Tensor:
        """One step on (B, 3, 512, 512) pixels in [0, 1].

        Args:
            noise: (B, N, dim), added to the tokens; what follows sees the noisy ones.

        Returns:
            (4,) squared error, negative similarity, mixture's loss and their weighted sum.
        """
        tokens = self.autoencoder.transformer(pixels) + noise
        found = self.autoencoder.decode(tokens)
        mse = functional.mse_loss(found, pixels)
        ssim = ssim_map(pixels, found, _ZEROS).mean()
        mixture = self.mixture.scores(tokens, self.likelihood).sum(1).mean()
        loss = self.mse_weight * mse - self.ssim_weight * ssim + mixture
        self.autoencoder.zero_grad()
        if not self.accumulate:
            self.mixture.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return torch.stack([mse, -ssim, mixture, loss]).detach()

    def predict(self, images: Tensor) -> Prediction:
        """Maps of 512 x 512; the image score also has the decoded image's error and similarity."""
        pixels = self.pixels(images)
        tokens = self.autoencoder.transformer(pixels)
        scores = self.mixture.scores(tokens, self.likelihood)
        found = self.autoencoder.decode(tokens)
        return Prediction(self.maps(scores), self.image_scores(scores, pixels, found))

    def raw(self, images: Tensor) -> Tensor:
        """(B, N) scores of the tokens; the decoder is not needed for them."""
        tokens = self.autoencoder.transformer(self.pixels(images))
        return self.mixture.scores(tokens, self.likelihood)

    def pixels(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) normalised -> (B, 3, 512, 512) in [0, 1]."""
        pixels = unnormalised(images)
        if pixels.shape[-2:] == (IMAGE, IMAGE):
            return pixels
        square = (IMAGE, IMAGE)
        return functional.interpolate(pixels, square, mode="bilinear", antialias=True).clamp(0, 1)

    def maps(self, scores: Tensor) -> Tensor:
        """(B, N) scores of the tokens -> (B, 512, 512)."""
        side = IMAGE // self.patch
        grid = scores.view(-1, 1, side, side)
        maps = functional.interpolate(grid, (IMAGE, IMAGE), mode="bilinear", align_corners=True)
        return gaussian_smooth(maps[:, 0], self.sigma)

    def image_scores(self, scores: Tensor, pixels: Tensor, found: Tensor) -> Tensor:
        """(B,): squared error, plus or minus similarity, plus the largest score of a token."""
        mse = (pixels - found).square().mean((1, 2, 3))
        ssim = ssim_map(pixels, found, _ZEROS).mean((1, 2, 3))
        sign = 1 if self.ssim_sign == "published" else -1
        return mse + sign * ssim + scores.amax(1)
