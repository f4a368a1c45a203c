"""DifferNet: likelihood of a picture's mean features under a flow, over rotations (WACV 2021)."""

from __future__ import annotations

import copy
import hashlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from torch import nn
from torch.nn import functional

from bench.api import Method, MethodError, Prediction, nearest
from bench.blocks.seeded import drawn_from
from bench.blocks.smoothing import gaussian_smooth

from .flow import VectorFlow, negative_log_likelihoods
from .rotation import rotate, rotate_back

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor

    from bench.api import Images, Run

CHOICES = {"test_angles": ("fixed", "random"), "maps": ("gradient", "none")}

# Sides that are tried to say how small an image may be.
_MOST = 512


@dataclass
class DifferNet(Method):
    """A normalising flow over spatial means of features at several image sizes.

    Attributes:
        backbone: timm's or torchvision's name; AlexNet is the published one.
        layer: module whose output is averaged; of AlexNet the last of the convolutional part.
        scales: image sizes: whole, half, quarter, ...
        blocks: coupling blocks of the flow.
        hidden: width of the couplings' three hidden layers.
        clamp: bound of a coupling's log-scales.
        rotations: copies of each picture in a training step, at random angles.
        test_rotations: copies of each test picture.
        test_angles: "fixed": multiples of 360 degrees over their number; "random": drawn for each
            picture by its pixels and the run's seed. As published they are new at every evaluation.
        meta_epochs, sub_epochs: a figure is given after `sub_epochs` passes over the images.
        batch: pictures in a step; the last one may be smaller.
        lr, betas, eps, weight_decay: of Adam; the decay is added to the gradient.
        maps: "gradient": of the loss with respect to the copies at fixed angles, turned back;
            "none": image scores alone.
        sigma: of the maps' smoothing, in pixels of the input.
        chunk: copies at a time; memory grows with it, and no score depends on it.
        input_size: side of the input, where the protocol leaves it to the method.
    """

    version: ClassVar[int] = 1
    paper: ClassVar[str] = (
        "Rudolph, Wandt, Rosenhahn: Same Same But DifferNet: Semi-Supervised Defect Detection "
        "with Normalizing Flows. WACV 2021, arXiv:2008.12577"
    )

    backbone: str = "alexnet.tv_in1k"
    layer: str = "features.12"
    scales: int = 3
    blocks: int = 8
    hidden: int = 2048
    clamp: float = 3.0
    rotations: int = 4
    test_rotations: int = 64
    test_angles: Literal["fixed", "random"] = "fixed"
    meta_epochs: int = 24
    sub_epochs: int = 8
    batch: int = 24
    lr: float = 2e-4
    betas: tuple[float, float] = (0.8, 0.8)
    eps: float = 1e-4
    weight_decay: float = 1e-5
    maps: Literal["gradient", "none"] = "gradient"
    sigma: float = 3.0
    chunk: int = 8
    input_size: int = 448

    def __post_init__(self) -> None:
        for name, choices in CHOICES.items():
            value = getattr(self, name)
            if value not in choices:
                raise MethodError(f"differnet: {name}={value!r}; {nearest(str(value), choices)}")
        counts = ("scales", "blocks", "hidden", "rotations", "test_rotations", "meta_epochs")
        more = ("sub_epochs", "batch", "chunk", "input_size", "clamp", "lr", "eps")
        for name in (*counts, *more):
            if not getattr(self, name) > 0:
                raise MethodError(f"differnet: {name}={getattr(self, name)} must be above 0")
        for name in ("weight_decay", "sigma"):
            if getattr(self, name) < 0:
                raise MethodError(f"differnet: {name}={getattr(self, name)} must not be below 0")
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise MethodError(f"differnet: betas={self.betas} must be two numbers in [0, 1)")

    @property
    def epochs(self) -> int:
        """How often `fit` yields."""
        return self.meta_epochs

    @property
    def needs_gradients(self) -> bool:  # type: ignore[override]
        """For the maps only."""
        return self.maps == "gradient"

    def prepare(self, run: Run) -> None:
        """Encoder and flow.

        Raises:
            MethodError: images that are too small for the network at the coarsest scale.
        """
        self.encoder = run.backbone(self.backbone, (self.layer,))
        self._check_size(run.image_size, run.device)
        channels = self.encoder.channels[0]
        length = channels * self.scales
        if length < 2:
            raise MethodError(f"differnet: {self.layer} has one channel, and a flow needs two")
        with drawn_from(run.generator("differnet flow")):
            self.flow = VectorFlow(length, self.blocks, self.hidden, self.clamp).to(run.device)
        self.flow.eval()
        self._angle_seed = run.generator("differnet test angles").initial_seed()

    def fit(self, train: Images, run: Run) -> Iterator[Mapping[str, float]]:
        """Train the flow; yield the loss of each meta epoch.

        Raises:
            MethodError: a loss that is not finite.
        """
        generator = run.generator("differnet rotations")
        optimiser = self.optimiser()
        for meta in range(self.meta_epochs):
            losses: list[float] = []
            self.flow.train()
            for sub in range(self.sub_epochs):
                steps = [
                    self.step(self._copies(images, generator), optimiser)
                    for images in train.batches(self.batch, shuffle=True)
                ]
                losses += self._checked(steps, meta * self.sub_epochs + sub + 1)
            self.flow.eval()
            yield {"loss": sum(losses) / len(losses)}

    def predict(self, images: Tensor) -> Prediction:
        if self.maps == "none":
            return Prediction(None, self.raw(images).square().mean((1, 2)))
        maps, scores = zip(
            *(self.explain(image, self.fixed_angles()) for image in images), strict=True
        )
        if self.test_angles == "random":
            return Prediction(torch.stack(maps), self.raw(images).square().mean((1, 2)))
        return Prediction(torch.stack(maps), torch.stack(scores))

    def raw(self, images: Tensor) -> Tensor:
        """(B, n, d) latents of the test copies of each image."""
        with torch.no_grad():
            return torch.stack([self._latents(image) for image in images])

    def explain(self, image: Tensor, degrees: Tensor) -> tuple[Tensor, Tensor]:
        """The map of a picture and its score, from copies at these angles.

        A few copies at a time, so that memory does not grow with their number.

        Args:
            image: (3, H, W).
            degrees: (n,).

        Returns:
            (H, W) squared mean over copies and channels of the smoothed gradients' absolute
            values, and the mean square of the latents.
        """
        total = torch.zeros_like(image[0])
        squares = total.new_zeros(())
        for some in self._chunks(degrees):
            gradients, latents = self.gradients(rotate(image, some), len(degrees))
            squares += latents.square().mean(1).sum()
            for gradient, angle in zip(gradients, some, strict=True):
                turned = rotate_back(gradient, float(angle))
                total += gaussian_smooth(turned, self.sigma).abs().mean(0)
        return (total / len(degrees)).square(), squares / len(degrees)

    def gradients(self, copies: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Gradients of the loss of `count` copies with respect to some of them, and latents."""
        with torch.enable_grad():
            copies = copies.detach().requires_grad_()
            latents, log_dets = self.flow(self.vectors(copies))
            loss = negative_log_likelihoods(latents, log_dets).sum() / count
            # Of the copies alone: the gradients of the parameters are never computed.
            (gradients,) = torch.autograd.grad(loss, copies)
        return gradients, latents.detach()

    def vectors(self, copies: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, d): spatial means of the features at all scales."""
        height, width = copies.shape[-2:]
        means = []
        for scale in range(self.scales):
            size = (height >> scale, width >> scale)
            # Nearest neighbour without antialiasing, as published: aliasing is part of them.
            smaller = functional.interpolate(copies, size=size) if scale else copies
            means.append(self.encoder(smaller)[0].mean((2, 3)))
        return torch.cat(means, 1)

    def optimiser(self) -> torch.optim.Optimizer:
        """Adam over the flow; the encoder is never trained."""
        betas = (self.betas[0], self.betas[1])
        return torch.optim.Adam(
            self.flow.parameters(),
            lr=self.lr,
            betas=betas,
            eps=self.eps,
            weight_decay=self.weight_decay,
        )

    def step(self, copies: Tensor, optimiser: torch.optim.Optimizer) -> Tensor:
        """One update on (N, 3, H, W) copies; the loss before it, without its graph."""
        with torch.no_grad():
            vectors = self.vectors(copies)
        loss = negative_log_likelihoods(*self.flow(vectors)).mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        return loss.detach()

    def fixed_angles(self) -> Tensor:
        """(n,) degrees of the test copies: the circle in equal steps."""
        count = self.test_rotations
        return torch.arange(count, dtype=torch.float64) * 360 / count

    def random_angles(self, image: Tensor) -> Tensor:
        """(n,) degrees uniform in [-180, 180), the same for the same pixels and run's seed.

        Drawn by the picture, so that its score does not depend on those before it.
        """
        digest = hashlib.sha256(self._angle_seed.to_bytes(8, "little"))
        digest.update(image.detach().cpu().contiguous().numpy().tobytes())
        seed = int.from_bytes(digest.digest()[:8], "little") >> 1
        return _uniform((self.test_rotations,), torch.Generator().manual_seed(seed))

    def _latents(self, image: Tensor) -> Tensor:
        is_fixed = self.test_angles == "fixed"
        degrees = self.fixed_angles() if is_fixed else self.random_angles(image)
        parts = [self.flow(self.vectors(rotate(image, some)))[0] for some in self._chunks(degrees)]
        return torch.cat(parts)

    def _chunks(self, degrees: Tensor) -> Iterator[Tensor]:
        return (degrees[i : i + self.chunk] for i in range(0, len(degrees), self.chunk))

    def _copies(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """`rotations` copies of each image at random angles, an image's own side by side."""
        degrees = _uniform((len(images), self.rotations), generator)
        return torch.cat([rotate(x, angles) for x, angles in zip(images, degrees, strict=True)])

    def _checked(self, losses: list[Tensor], epoch: int) -> list[float]:
        """The losses of an epoch as numbers; once for all steps, since each would wait."""
        values: list[float] = torch.stack(losses).tolist()
        for step, value in enumerate(values, 1):
            if not math.isfinite(value):
                raise MethodError(
                    f"differnet: the loss is {value} in epoch {epoch}, step {step} of "
                    f"{len(values)}; lower lr ({self.lr:g}), or check the weights and the images"
                )
        return values

    def _check_size(self, size: tuple[int, int], device: torch.device) -> None:
        coarsest = [side >> (self.scales - 1) for side in size]
        if min(coarsest) and _runs(self.encoder, (coarsest[0], coarsest[1]), device):
            return
        meta = copy.deepcopy(self.encoder).to("meta")
        sides = range(1, _MOST + 1)
        least = next((s for s in sides if _runs(meta, (s, s), torch.device("meta"))), None)
        ways = "choose another layer or backbone"
        if least is not None:
            ways = f"give at least {least << (self.scales - 1)} pixels, or lower scales"
        raise MethodError(
            f"differnet: images of {size[0]}x{size[1]} pixels are {coarsest[0]}x{coarsest[1]} at "
            f"the coarsest of {self.scales} scales, too small for {self.layer} of "
            f"{self.backbone}; {ways}"
        )


def _runs(encoder: nn.Module, size: tuple[int, int], device: torch.device) -> bool:
    """Whether the network has an output for images of that size."""
    with torch.no_grad():
        try:
            found = encoder(torch.zeros(1, 3, *size, device=device))[0]
        except (RuntimeError, MethodError):
            return False
    return bool(min(found.shape[-2:]) > 0)


def _uniform(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Angles uniform in [-180, 180)."""
    return torch.rand(shape, generator=generator, dtype=torch.float64) * 360 - 180
