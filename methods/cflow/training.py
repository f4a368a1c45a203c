"""Updates of the decoders on random fibers of an image batch."""

from __future__ import annotations

from functools import partial
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

from bench.api import IMAGENET_MEAN, IMAGENET_STD, MethodError
from bench.blocks.on_device import sent
from bench.blocks.position import position_code

from .decoder import fiber_loss
from .graph import CapturedUpdate
from .likelihood import log_likelihoods

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor, nn


class Trainer:
    """Adam for the decoders; each update trains one decoder on `fibers` random fibers.

    On a GPU an update is a CUDA graph, unless it moves the other decoders as well ("all").
    """

    def __init__(
        self,
        decoders: Sequence[nn.Module],
        condition: int,
        fibers: int,
        steps: str,
        permute: Callable[[int], Tensor],
        *,
        graphs: bool = True,
    ) -> None:
        """
        Args:
            steps: `Cflow.optimizer_steps`.
            permute: `permute(n)` is a permutation of 0 .. n - 1.
            graphs: False: kernel by kernel on a GPU too.
        """
        self.decoders = decoders
        self.condition = condition
        self.fibers = fibers
        self.permute = permute
        device = next(decoders[0].parameters()).device
        self.graphs = graphs and steps == "own" and device.type == "cuda"
        # Zeros in place of no gradients: Adam then moves the other decoders by their momentum.
        self.set_to_none = steps == "own"
        groups = [[p for p in d.parameters() if p.requires_grad] for d in decoders]
        if steps == "own":
            self.optimizers = [self._adam(group, device) for group in groups]
        else:
            self.optimizers = [self._adam(list(chain(*groups)), device)] * len(groups)
        self.codes: dict[tuple[int, int], Tensor] = {}
        self.captured: dict[tuple[int, int, int], CapturedUpdate] = {}
        self.batches = 0

    def _adam(self, parameters: list[nn.Parameter], device: torch.device) -> torch.optim.Adam:
        if not self.graphs:
            return torch.optim.Adam(parameters, fused=True)
        # A graph reads the rate where it lies.
        rate = torch.zeros((), device=device)
        return torch.optim.Adam(parameters, lr=rate, fused=True, capturable=True)

    def _set_rate(self, rate: float) -> None:
        self.rate = rate
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                if self.graphs:
                    group["lr"].fill_(rate)
                else:
                    group["lr"] = rate

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
        self._set_rate(rate)
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
        order = sent(self.permute(len(fibers)), fibers.device)
        places = order % (height * width)
        step = self._update_of(level, height, width, fibers.device)
        losses = []
        for start in range(0, len(fibers) - self.fibers + 1, self.fibers):
            chosen = slice(start, start + self.fibers)
            losses.append(step(fibers[order[chosen]], places[chosen]))
        return torch.stack(losses)

    def _update_of(
        self, level: int, height: int, width: int, device: torch.device
    ) -> Callable[[Tensor, Tensor], Tensor]:
        """What updates a decoder by fibers at their positions."""
        codes = self._codes(height, width, device) if self.condition else None
        step = partial(self._step, level, codes)
        if not self.graphs:
            return step
        key = (level, height, width)
        if key not in self.captured:
            self.captured[key] = CapturedUpdate(step, self.optimizers[level], device)
        return self.captured[key]

    def _codes(self, height: int, width: int, device: torch.device) -> Tensor:
        """(height * width, P) position codes, kept for the next batch."""
        if (height, width) not in self.codes:
            code = position_code(self.condition, height, width).flatten(1).T
            self.codes[height, width] = code.to(device)
        return self.codes[height, width]

    def _step(self, level: int, codes: Tensor | None, fibers: Tensor, positions: Tensor) -> Tensor:
        optimizer = self.optimizers[level]
        q = log_likelihoods(self.decoders[level], fibers, codes, positions)
        loss = fiber_loss(q).mean()
        optimizer.zero_grad(set_to_none=self.set_to_none)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return loss.detach()

    def _require_finite(self, level: int, losses: Tensor, epoch: int) -> None:
        # Once for all updates of a level: a check at each one would wait for the device.
        bad = (~losses.isfinite()).nonzero()
        if len(bad):
            step = int(bad[0])
            raise MethodError(
                f"cflow: the loss is {float(losses[step])} at level {level}, image batch "
                f"{self.batches}, update {step} in meta epoch {epoch} (lr {self.rate:.3g}); lower "
                "lr or clamp, or check that the backbone's features are finite"
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
