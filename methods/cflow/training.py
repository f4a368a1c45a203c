"""Updates of the decoders on random fibers of an image batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

from bench.api import IMAGENET_MEAN, IMAGENET_STD, MethodError
from bench.blocks.position import position_code

from .decoder import fiber_loss, log_likelihood

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor, nn


class Trainer:
    """One Adam for all decoders; each update trains one decoder on `fibers` random fibers."""

    def __init__(
        self,
        decoders: Sequence[nn.Module],
        condition: int,
        fibers: int,
        steps: str,
        permute: Callable[[int], Tensor],
    ) -> None:
        """`permute(n)`: a permutation of 0 .. n - 1; `steps`: `Cflow.optimizer_steps`."""
        self.decoders = decoders
        self.condition = condition
        self.fibers = fibers
        self.permute = permute
        # With gradients of None, Adam passes a parameter over; with zeros it still moves it by
        # its momentum.
        self.set_to_none = steps == "own"
        trained = [p for d in decoders for p in d.parameters() if p.requires_grad]
        self.optimizer = torch.optim.Adam(trained, fused=True)
        self.codes: dict[tuple[int, int], Tensor] = {}
        self.batches = 0

    def update(self, features: Sequence[Tensor], rate: float, epoch: int = 1) -> Tensor:
        """Train on (B, C, h, w) feature maps, level by level.

        Args:
            rate: of learning.
            epoch: number of the meta epoch, for messages.

        Returns:
            (steps,) losses in the order of the updates.

        Raises:
            MethodError: fewer fibers than an update needs, or a loss that is not finite.
        """
        self.require_fibers(features)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        losses = []
        for level, x in enumerate(features):
            losses.append(self._level(level, x))
            self._require_finite(level, losses[-1], epoch)
        self.batches += 1
        return torch.cat(losses)

    def require_fibers(self, features: Sequence[Tensor]) -> None:
        """Refuse a batch in which a level has no full update.

        Raises:
            MethodError: names the level and the numbers.
        """
        for level, x in enumerate(features):
            if x.dim() != 4:
                raise MethodError(
                    f"cflow: level {level} of the backbone gives {tuple(x.shape)} and not a "
                    "feature map; choose another backbone, such as resnet18"
                )
            batch, _, height, width = x.shape
            if batch * height * width < self.fibers:
                raise MethodError(
                    f"cflow: level {level} has {batch} x {height} x {width} = "
                    f"{batch * height * width} fibers in a batch, fewer than fibers="
                    f"{self.fibers} of one update; raise batch, raise the image size, or lower "
                    "fibers or levels"
                )

    def _level(self, level: int, features: Tensor) -> Tensor:
        _, channels, height, width = features.shape
        fibers = features.permute(0, 2, 3, 1).reshape(-1, channels)
        order = self.permute(len(fibers)).to(fibers.device)
        codes = self._codes(height, width, fibers.device) if self.condition else None
        losses = []
        for start in range(0, len(fibers) - self.fibers + 1, self.fibers):
            chosen = order[start : start + self.fibers]
            code = None if codes is None else codes[chosen % (height * width)]
            losses.append(self._step(level, fibers[chosen], code))
        return torch.stack(losses)

    def _codes(self, height: int, width: int, device: torch.device) -> Tensor:
        """(height * width, P) position codes, kept for the next batch."""
        if (height, width) not in self.codes:
            code = position_code(self.condition, height, width).flatten(1).T
            self.codes[height, width] = code.to(device)
        return self.codes[height, width]

    def _step(self, level: int, fibers: Tensor, code: Tensor | None) -> Tensor:
        decoder = self.decoders[level]
        z, log_det = decoder(fibers) if code is None else decoder(fibers, [code])
        loss = fiber_loss(log_likelihood(z, log_det)).mean()
        self.optimizer.zero_grad(set_to_none=self.set_to_none)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return loss.detach()

    def _require_finite(self, level: int, losses: Tensor, epoch: int) -> None:
        # Once for all updates of a level: a check at each one would wait for the device.
        bad = (~losses.isfinite()).nonzero()
        if len(bad):
            step = int(bad[0])
            rate = self.optimizer.param_groups[0]["lr"]
            raise MethodError(
                f"cflow: the loss is {float(losses[step])} at level {level}, image batch "
                f"{self.batches}, update {step} in meta epoch {epoch} (lr {rate:.3g}); lower lr "
                "or clamp, or check that the backbone's features are finite"
            )


def rotate(image: Tensor, generator: torch.Generator, degrees: float) -> Tensor:
    """Turn a normalised (3, H, W) image by a uniform angle in [-degrees, degrees].

    Nearest neighbour about the centre, corners black before normalisation, as the published
    reader does. Pillow turns a picture of pixel indices, so that the result is its own exactly.
    """
    angle = (2 * torch.rand((), generator=generator, dtype=torch.float64).item() - 1) * degrees
    height, width = image.shape[-2:]
    numbers = np.arange(1, height * width + 1, dtype=np.int32).reshape(height, width)
    turned = Image.fromarray(numbers).rotate(angle, Image.Resampling.NEAREST)
    source = torch.from_numpy(np.array(turned, dtype=np.int64)).flatten()
    mean, std = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
    black = (-mean / std).to(image)[:, None]
    # Index 0 is what Pillow fills the corners with.
    return torch.cat([black, image.flatten(1)], 1)[:, source].view_as(image)
