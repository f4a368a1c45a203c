"""AnoGAN: the nearest image that a GAN of normal images can generate (Schlegl et al., 2017)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from torch.nn import functional

from bench.api import Method, MethodError, Prediction
from bench.blocks.on_device import sent
from bench.blocks.patches import RandomPatch, Tiling, random_patches
from bench.blocks.pixels import unnormalised

from . import dcgan, plain, residual
from .search import Search
from .wasserstein import Trainer as WassersteinTrainer
from .wasserstein import distances, update_encoder

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor, nn

    from bench.api import Images, Run

_CHANNELS = 3


@dataclass
class AnoGAN(Method):
    """Difference of an image to its nearest generated one, found by search or by an encoder.

    Attributes:
        encoder: f-AnoGAN (2019): an encoder in place of the search, a Wasserstein GAN.
        networks: of f-AnoGAN: "official" residual ones with layer norm in the critic, or the plain
            ones of "a03ki", whose critic has batch norm with epsilon 0.8.
        size: side of the images that the networks see: 16, 32, 64, 128 or 256.
        patches: crops and tiles of `size` in place of whole images resized to it; for textures.
        stride: from one tile to the next; overlapping ones are averaged.
        patches_per_epoch: random crops of an epoch; without `patches` it is a pass over the images.
        latent: dimensions of the standard Gaussian prior.
        width: channels of the discriminator's first and the generator's last layer.
        gan_epochs: of generator and discriminator; the last one counts.
        batch: images of an update.
        lr, critic_lr: of Adam for the generator and for the discriminator or critic.
        beta1, beta2: of both.
        slope: of the discriminator's LeakyReLU; llien's code has 0.01.
        first_norm: batch norm after the discriminator's first layer too, as in llien's code.
        search_steps, search_lr: of Adam on the latent.
        feature_weight: of the discriminator's features beside the image in search and score.
        restarts: starting points, the same for all images; the one that ends lowest counts.
        map: squared or absolute difference, summed over channels.
        critic_steps: of the critic for one of the generator.
        penalty: weight of the critic's gradient penalty.
        penalty_mix: whether real and generated images are mixed by a share for each image
            (published) or for each of its channels (a03ki).
        dropout: of whole channels in a03ki's critic.
        bounded: tanh on the encoder's output.
        kappa: weight of the feature difference in the encoder's loss and in the score.
        encoder_epochs, encoder_lr, encoder_optimizer: of the encoder.
        input_size: side of the input, where the protocol leaves it to the method.
    """

    version: ClassVar[int] = 1
    paper: ClassVar[str] = (
        "Schlegl, Seeboeck, Waldstein, Schmidt-Erfurth, Langs: Unsupervised Anomaly Detection with "
        "Generative Adversarial Networks to Guide Marker Discovery. IPMI 2017, arXiv:1703.05921"
    )

    min_train: ClassVar[int] = 2

    encoder: bool = False
    networks: Literal["official", "a03ki"] = "official"
    size: int = 128
    patches: bool = False
    stride: int = 64
    patches_per_epoch: int = 10000
    latent: int = 64
    width: int = 64
    gan_epochs: int = 50
    batch: int = 64
    lr: float = 2e-4
    critic_lr: float = 2e-4
    beta1: float = 0.5
    beta2: float = 0.999
    slope: float = 0.2
    first_norm: bool = False
    search_steps: int = 300
    search_lr: float = 0.02
    feature_weight: float = 0.1
    restarts: int = 1
    map: Literal["l2", "l1"] = "l2"
    critic_steps: int = 5
    penalty: float = 10.0
    penalty_mix: Literal["image", "channel"] = "image"
    dropout: float = 0.25
    bounded: bool = True
    kappa: float = 1.0
    encoder_epochs: int = 200
    encoder_lr: float = 5e-5
    encoder_optimizer: Literal["rmsprop", "adam"] = "rmsprop"
    input_size: int = 128

    @property
    def epochs(self) -> int:
        """How often `fit` yields; progress shows it."""
        return self.gan_epochs + (self.encoder_epochs if self.encoder else 0)

    @property
    def needs_gradients(self) -> bool:  # type: ignore[override]
        """The search differentiates with respect to the latent; an encoder needs no search."""
        return not self.encoder

    def prepare(self, run: Run) -> None:
        """Build the networks, and draw the points that every search starts from."""
        self._check()
        if self.patches:
            self.tiling = Tiling(run.image_size, self.size, self.stride)
        elif min(run.image_size) < self.size:
            raise MethodError(
                f"anogan: images of {run.image_size[0]}x{run.image_size[1]} pixels are smaller "
                f"than size = {self.size} of the networks; use larger images or a smaller size"
            )
        generator = run.generator("anogan weights")
        if not self.encoder:
            self._build_dcgan(generator)
        elif self.networks == "official":
            self._build_residual(generator)
        else:
            self._build_plain(generator, run.generator("anogan dropout"))
        for network in self.modules():
            network.to(run.device).eval()
        # The same for every image, so that no image's search depends on its place in a batch.
        start = torch.randn(self.restarts, self.latent, generator=run.generator("anogan z"))
        self.start = start.to(run.device)

    def fit(self, train: Images, run: Run) -> Iterator[Mapping[str, float]]:
        """Train the GAN, then the encoder if there is one; yield the losses of each epoch."""
        self._noise = run.generator("anogan noise")
        if not self.encoder:
            yield from self._fit_dcgan(train)
        else:
            yield from self._fit_wasserstein(train)
            yield from self._fit_encoder(train)

    def predict(self, images: Tensor) -> Prediction:
        """Maps at `size`, or of the whole image with `patches`, whose score is that of its worst
        tile.
        """
        maps, scores = self.raw(images)
        if self.patches:
            tiles = len(self.tiling.origins)
            parts = maps.view(-1, tiles, 1, self.size, self.size)
            joined = torch.cat([self.tiling.join(part) for part in parts])
            return Prediction(joined, scores.view(-1, tiles).amax(1))
        return Prediction(maps, scores)

    def raw(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(N, size, size) maps and (N,) scores of the images, or of all their tiles."""
        inputs = self._inputs(images)
        if self.encoder:
            with torch.no_grad():
                found = self.generator(self.inverse(inputs))
                pixels, features = distances(inputs, found, self.discriminator.features)
            scores = pixels + self.kappa * features
        else:
            found, scores = self._search(inputs)
        difference = inputs - found
        maps = difference.square() if self.map == "l2" else difference.abs()
        return maps.sum(1), scores

    def freeze(self) -> None:
        """Evaluation mode, and no gradients but the latent's."""
        for network in self.modules():
            network.eval().requires_grad_(False).zero_grad()

    def _search(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """The generated images that a search ends at, and their scores."""
        self.freeze()  # once more: a saved state was loaded into fresh networks
        search = Search(
            self.generator, self.discriminator.features, self.feature_weight, self.search_lr
        )
        count = self.restarts
        start = self.start.repeat(len(inputs), 1)
        found = search.run(inputs.repeat_interleave(count, 0), start, self.search_steps)
        best = found.score.view(-1, count).argmin(1)
        best = best + count * torch.arange(len(inputs), device=best.device)
        return found.generated[best], found.score[best]

    def _inputs(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) normalised -> (N, 3, size, size) in [-1, 1]: resized, or all tiles."""
        pixels = unnormalised(images)
        if self.patches:
            pixels = torch.cat([self.tiling.cut(image) for image in pixels])
        elif pixels.shape[-2:] != (self.size, self.size):
            square = (self.size, self.size)
            pixels = functional.interpolate(pixels, square, mode="bilinear", antialias=True)
        return 2 * pixels - 1

    def _batches(self, train: Images) -> Iterator[Tensor]:
        """An epoch of (B, 3, size, size) images in [-1, 1]; a last one alone is left out, since a
        batch norm has no statistics of one image.
        """
        if self.patches:
            crop = RandomPatch(self.size)
            batches = random_patches(train, crop, self.patches_per_epoch, self.batch)
        else:
            batches = train.batches(self.batch, shuffle=True)
        for images in batches:
            if len(images) > 1:
                yield 2 * images - 1 if self.patches else self._inputs(images)

    def _latents(self, like: Tensor) -> Tensor:
        drawn = torch.randn(len(like), self.latent, generator=self._noise)
        return drawn.to(like.device)

    def _fit_dcgan(self, train: Images) -> Iterator[dict[str, float]]:
        trainer = dcgan.Trainer(
            self.generator, self.discriminator, self.lr, self.critic_lr, (self.beta1, self.beta2)
        )
        for epoch in range(1, self.gan_epochs + 1):
            self._train(self.generator, self.discriminator)
            losses = [
                trainer.update(images, self._latents(images), self._latents(images))
                for images in self._batches(train)
            ]
            self.freeze()
            real, fake, generator = torch.stack(losses).mean(0).tolist()
            yield self._finite(epoch, {"loss": real + fake, "generator_loss": generator})

    def _fit_wasserstein(self, train: Images) -> Iterator[dict[str, float]]:
        trainer = WassersteinTrainer(
            self.generator,
            self.discriminator,
            self.lr,
            self.critic_lr,
            (self.beta1, self.beta2),
            self.penalty,
        )
        for epoch in range(1, self.gan_epochs + 1):
            self._train(self.generator, self.discriminator)
            critic, generator = [], []
            for index, images in enumerate(self._batches(train)):
                z = self._latents(images)
                critic.append(trainer.update_critic(images, z, self._alpha(images)))
                # The first batch of an epoch too, as in a03ki's code; on the z just used.
                if index % self.critic_steps == 0:
                    generator.append(trainer.update_generator(z))
            self.freeze()
            figures = {
                "critic_loss": float(torch.stack(critic).mean()),
                "generator_loss": float(torch.stack(generator).mean()),
            }
            yield self._finite(epoch, figures)

    def _fit_encoder(self, train: Images) -> Iterator[dict[str, float]]:
        parameters = list(self.inverse.parameters())
        optimizer: torch.optim.Optimizer
        if self.encoder_optimizer == "adam":
            optimizer = torch.optim.Adam(parameters, self.encoder_lr, (self.beta1, self.beta2))
        else:
            # TensorFlow's decay and epsilon.
            optimizer = torch.optim.RMSprop(parameters, self.encoder_lr, alpha=0.9, eps=1e-10)
        update = partial(update_encoder, self.inverse, self.generator, self.discriminator.features)
        for epoch in range(self.gan_epochs + 1, self.epochs + 1):
            self._train(self.inverse)
            losses = [update(optimizer, images, self.kappa) for images in self._batches(train)]
            self.freeze()
            pixels, features = torch.stack(losses).mean(0).tolist()
            figures = {"loss": pixels + self.kappa * features, "image_loss": pixels}
            yield self._finite(epoch, figures)

    def _train(self, *networks: nn.Module) -> None:
        for network in networks:
            network.train().requires_grad_(True)

    def _alpha(self, images: Tensor) -> Tensor:
        """Shares that mix real and generated images."""
        channels = images.shape[1] if self.penalty_mix == "channel" else 1
        drawn = torch.rand(len(images), channels, 1, 1, generator=self._noise)
        return sent(drawn, images.device)

    def _finite(self, epoch: int, figures: dict[str, float]) -> dict[str, float]:
        for name, value in figures.items():
            if not math.isfinite(value):
                raise MethodError(
                    f"anogan: {name} of epoch {epoch} is {value}; training diverged, choose a "
                    "lower lr"
                )
        return figures

    def _build_dcgan(self, generator: torch.Generator) -> None:
        self.generator: nn.Module = dcgan.Generator(self.size, _CHANNELS, self.latent, self.width)
        self.discriminator: dcgan.Discriminator | residual.Critic | plain.Critic = (
            dcgan.Discriminator(
                self.size, _CHANNELS, self.width, self.slope, first_norm=self.first_norm
            )
        )
        for network in self.modules():
            dcgan.initialise(network, generator)

    def _build_residual(self, generator: torch.Generator) -> None:
        sizes = (self.size, _CHANNELS)
        self.generator = residual.Generator(*sizes, self.latent, self.width)
        self.discriminator = residual.Critic(*sizes, self.width, 1, layer_norm=True)
        self.inverse: nn.Module = residual.Critic(
            *sizes, self.width, self.latent, layer_norm=False, bounded=self.bounded
        )
        for network in self.modules():
            residual.initialise(network, generator)

    def _build_plain(self, generator: torch.Generator, drawn: torch.Generator) -> None:
        sizes = (self.size, _CHANNELS)
        wide, narrow = 2 * self.width, max(1, self.width // 4)
        self.generator = plain.Generator(*sizes, self.latent, (wide, wide, self.width))
        widths = (narrow, 2 * narrow, 4 * narrow, 8 * narrow)
        dropout = plain.ChannelDropout(self.dropout, drawn)
        self.discriminator = plain.Critic(*sizes, widths, 1, dropout=dropout)
        self.inverse = plain.Critic(
            *sizes, widths, self.latent, dropout=dropout, bounded=self.bounded
        )
        for network in self.modules():
            plain.initialise(network, generator)

    def _check(self) -> None:
        dcgan.halvings(self.size)
        counts = dict.fromkeys(("latent", "width", "gan_epochs", "restarts", "critic_steps"), 1)
        counts["batch"] = 2  # a batch norm has no statistics of one image
        counts["encoder_epochs"] = int(self.encoder)
        counts["patches_per_epoch"] = 2 * int(self.patches)
        for name, least in counts.items():
            if getattr(self, name) < least:
                raise MethodError(
                    f"anogan: {name} = {getattr(self, name)}; it must be at least {least}"
                )
        for name in ("lr", "critic_lr", "search_lr", "encoder_lr"):
            if not getattr(self, name) > 0:
                raise MethodError(f"anogan: {name} = {getattr(self, name)}; it must be positive")
        if self.search_steps < 0 or not 0 <= self.feature_weight <= 1:
            raise MethodError(
                f"anogan: search_steps = {self.search_steps} and feature_weight = "
                f"{self.feature_weight}; steps are at least 0, the weight is from 0 to 1"
            )
        if not 0 <= self.dropout < 1:
            raise MethodError(f"anogan: dropout = {self.dropout}; it must be from 0 to below 1")
