"""STFPM: distance of a student's features to a teacher's, learned on normal images alone."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, normalize

from bench.api import Method, MethodError, Prediction, nearest
from bench.blocks.kept import KeptFeatures
from bench.blocks.smoothing import upsample_and_smooth

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from bench.api import Images, Run

_FROM_RUN = -1
_KEEP = ("best", "last")


@dataclass
class STFPM(Method):
    """Distance between the features of a frozen teacher and of a student (arXiv:2103.04257).

    Attributes:
        backbone: timm's name; the published one is ResNet18.
        layers: timm's layer indices; for a ResNet 1, 2, 3 are the first three stages.
        epochs: passes over the training part; 100 is the code's default and the paper's number,
            the README's command has 200.
        batch: images in a step; the last, smaller batch is kept.
        lr, momentum, weight_decay: of plain stochastic gradient descent, constant.
        loss_scale: factor of the loss; 1 in the code, 0.5 in the paper. It acts as the rate does.
        validation: share of the normal images that the student does not see.
        split_seed: seed of NumPy's legacy generator that draws them, as the code does.
            -1: drawn from the run's seed.
        keep: the student with the smallest map on the validation images, or that of the last epoch.
        grid: side of the grid on which the levels' distances are multiplied; 64 in the code.
            0: at the input size, as in the paper.
        features_mb: teacher features of the training images held in memory, in MB; beyond that
            they lie in a file of the run's. Changes no score.
        input_size: side of the input, where the protocol leaves it to the method.
    """

    version: ClassVar[int] = 1
    paper: ClassVar[str] = (
        "Wang, Han, Ding, Huang: Student-Teacher Feature Pyramid Matching for Anomaly Detection. "
        "BMVC 2021, arXiv:2103.04257"
    )
    min_train: ClassVar[int] = 5

    backbone: str = "resnet18.tv_in1k"
    layers: tuple[int, ...] = (1, 2, 3)
    epochs: int = 100
    batch: int = 32
    lr: float = 0.4
    momentum: float = 0.9
    weight_decay: float = 1e-4
    loss_scale: float = 1.0
    validation: float = 0.2
    split_seed: int = 0
    keep: Literal["best", "last"] = "best"
    grid: int = 64
    features_mb: int = 2048
    input_size: int = 256

    def __post_init__(self) -> None:
        if self.keep not in _KEEP:
            raise MethodError(f"stfpm: keep={self.keep!r}; {nearest(self.keep, _KEEP)}")
        for name in ("epochs", "batch", "lr", "loss_scale", "input_size"):
            if getattr(self, name) <= 0:
                raise MethodError(f"stfpm: {name}={getattr(self, name)} must be above 0")
        for name in ("momentum", "weight_decay", "grid", "features_mb"):
            if getattr(self, name) < 0:
                raise MethodError(f"stfpm: {name}={getattr(self, name)} must not be below 0")
        if not 0 < self.validation < 1:
            raise MethodError(
                f"stfpm: validation={self.validation} must be a share between 0 and 1; with "
                "keep='last' a small one leaves nearly all images for training"
            )

    def prepare(self, run: Run) -> None:
        """Load the teacher; draw the student."""
        self.teacher = run.backbone(self.backbone, self.layers)
        self.student = run.network(self.backbone, self.layers).eval()
        draw_student(self.student, run.generator("stfpm student"))

    def fit(self, train: Images, run: Run) -> Iterator[Mapping[str, float]]:
        """Train the student; yield loss and validation error after each epoch.

        Raises:
            MethodError: images too small for the batch norm of the student, or a loss that is not
                finite.
        """
        rest, held_out = self._split(train)
        seen, unseen = self._kept(rest, run), self._kept(held_out, run)
        trained = copy.deepcopy(self.student)
        optimizer = torch.optim.SGD(
            trained.parameters(), self.lr, self.momentum, weight_decay=self.weight_decay
        )
        order = run.generator("stfpm order")
        smallest = math.inf
        for epoch in range(self.epochs):
            losses = [
                train_step(trained, images, targets, optimizer, self.loss_scale)
                for images, *targets in seen.batches(self.batch, order)
            ]
            loss = float(torch.stack(losses).mean())
            error = self._validation_error(trained, unseen)
            if not math.isfinite(loss + error):
                raise MethodError(
                    f"stfpm: loss {loss}, validation error {error} in epoch {epoch + 1}; choose a "
                    f"smaller lr than {self.lr}"
                )
            if self.keep == "last" or error < smallest:
                smallest = error
                self.student.load_state_dict(trained.state_dict())
            yield {"loss": loss, "validation_error": error}

    def predict(self, images: Tensor) -> Prediction:
        size = (images.shape[-2], images.shape[-1])
        maps = upsample_and_smooth(self.raw(images).double(), size, sigma=0).float()
        return Prediction(maps, maps.amax((1, 2)))

    def raw(self, images: Tensor) -> Tensor:
        """(B, grid, grid) products of the levels' distances; with grid 0 at the input size."""
        targets = unit_features(self.teacher, images)
        return self._product(level_distances(self.student, images, targets), images)

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """The inverse of `state`.

        Raises:
            MethodError: a state without teacher or student, or of another backbone.
        """
        missing = [
            part
            for part in ("teacher", "student")
            if not any(name.startswith(f"{part}.") for name in state)
        ]
        if missing:
            raise MethodError(f"stfpm: saved state has no {' and no '.join(missing)}; not STFPM's")
        super().load_state(state)

    def _split(self, train: Images) -> tuple[Images, Images]:
        seed = None if self.split_seed == _FROM_RUN else self.split_seed
        return train.hold_out(self.validation, "stfpm validation", seed)

    def _kept(self, images: Images, run: Run) -> KeptFeatures[list[Tensor]]:
        """Images with the teacher's unit features: without augmentation they never change."""
        return KeptFeatures(
            images,
            lambda batch: [batch, *unit_features(self.teacher, batch)],
            self.batch,
            self.features_mb,
            run,
        )

    @torch.no_grad()
    def _validation_error(self, trained: nn.Module, unseen: KeptFeatures[list[Tensor]]) -> float:
        """Mean of the map over all validation images and positions."""
        trained.eval()
        total, count = 0.0, 0
        for images, *targets in unseen.batches(self.batch):
            product = self._product(level_distances(trained, images, targets), images)
            total += float(product.sum(dtype=torch.float64))
            count += product.numel()
        return total / count

    def _product(self, distances: Sequence[Tensor], images: Tensor) -> Tensor:
        size = (self.grid, self.grid) if self.grid else (images.shape[-2], images.shape[-1])
        return product_map(distances, size)


def draw_student(network: nn.Module, generator: torch.Generator) -> None:
    """Weights as torchvision draws those of a ResNet: He-normal by fan-out, norms 1 and 0.

    timm's own switches each residual branch off at first by a norm of zero; the published
    student has none.
    """
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                fan_out = module.weight[0, 0].numel() * module.out_channels
                drawn = torch.randn(module.weight.shape, generator=generator)
                module.weight.copy_(drawn * math.sqrt(2 / fan_out))
            elif isinstance(module, nn.BatchNorm2d) and module.affine:
                nn.init.ones_(module.weight)
                nn.init.zeros_(module.bias)


def unit_features(network: nn.Module, images: Tensor) -> list[Tensor]:
    """(B, C_l, h_l, w_l) features of each level, the vector of each position of length 1."""
    return [normalize(feature, dim=1) for feature in network(images)]


def level_distances(student: nn.Module, images: Tensor, targets: Sequence[Tensor]) -> list[Tensor]:
    """Squared distance of the unit vectors of student and teacher (section 3.2 of the paper).

    Args:
        images: (B, 3, H, W).
        targets: the teacher's `unit_features` of these images.

    Returns:
        (B, h_l, w_l) of each level, from 0 (same direction) to 4; the paper's are half of it.
    """
    found = unit_features(student, images)
    return [(s - t).square().sum(1) for s, t in zip(found, targets, strict=True)]


def train_step(
    student: nn.Module,
    images: Tensor,
    targets: Sequence[Tensor],
    optimizer: torch.optim.Optimizer,
    scale: float = 1.0,
) -> Tensor:
    """One update by the sum of the levels' mean distances.

    Returns:
        the loss before the update, as a scalar tensor.

    Raises:
        MethodError: one value for each channel, of which batch norm has no variance.
    """
    student.train()
    if len(images) * min(target[0, 0].numel() for target in targets) == 1:
        raise MethodError(
            f"stfpm: a batch of one image of {images.shape[-2]}x{images.shape[-1]} pixels has one "
            "position in the coarsest layer; choose larger images, another batch or fewer layers"
        )
    distances = level_distances(student, images, targets)
    loss = scale * torch.stack([distance.mean() for distance in distances]).sum()
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return loss.detach()


def product_map(distances: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
    """(B, *size): the levels' (B, h_l, w_l) distances, each resampled bilinearly, multiplied."""
    product = distances[0].new_ones(len(distances[0]), *size)
    for distance in distances:
        product = product * interpolate(
            distance[:, None], size, mode="bilinear", align_corners=False
        ).squeeze(1)
    return product
