"""PaDiM: a Gaussian over pretrained features at each image position (Defard et al., 2021)."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import torch

from bench.api import Method, MethodError, Prediction
from bench.blocks.gaussian import PositionMoments, full_factor, low_rank_factor, mahalanobis
from bench.blocks.smoothing import upsample_and_smooth

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch import Tensor

    from bench.api import Images, Run

_FROM_RUN = -1


@dataclass
class PaDiM(Method):
    """Mahalanobis distance of each patch embedding to the Gaussian of its position.

    Attributes:
        backbone: timm's name; the published ones are ResNet18 and WideResNet-50-2.
        layers: timm's layer indices; for a ResNet 1, 2, 3 are the first three stages.
        dimensions: channels kept, drawn at random; 100 (ResNet18) and 550 (WideResNet) published.
        index_seed: seed of Python's generator that draws them; 1024 gives the channels of the
            implementation that most later work took over. -1: drawn from the run's seed.
        epsilon: added to the diagonal of the covariance.
        covariance: "lowrank" is exact and smaller where images are fewer than `dimensions`;
            "auto" takes it there.
        sigma: of the smoothing, in pixels of the input.
        smoothing_border: "edge" repeats the edge sample, as SciPy does by default; "mirror" does
            not, as anomalib does.
        batch: training images at a time; changes no score.
        input_size: side of the input, where the protocol leaves it to the method.
    """

    version: ClassVar[int] = 1
    paper: ClassVar[str] = (
        "Defard, Setkov, Loesch, Audigier: PaDiM: a Patch Distribution Modeling Framework for "
        "Anomaly Detection and Localization. ICPR Workshops 2021, arXiv:2011.08785"
    )
    min_train: ClassVar[int] = 2

    backbone: str = "resnet18.tv_in1k"
    layers: tuple[int, ...] = (1, 2, 3)
    dimensions: int = 100
    index_seed: int = 1024
    epsilon: float = 0.01
    covariance: Literal["auto", "full", "lowrank"] = "auto"
    sigma: float = 4.0
    smoothing_border: Literal["edge", "mirror"] = "edge"
    batch: int = 32
    input_size: int = 256

    def prepare(self, run: Run) -> None:
        """Load the backbone and draw the channels."""
        if not self.epsilon > 0:
            raise MethodError(f"epsilon = {self.epsilon}; it must be positive, 0.01 is published")
        self.extractor = run.backbone(self.backbone, self.layers)
        total = sum(self.extractor.channels)
        if not 0 < self.dimensions <= total:
            raise MethodError(
                f"dimensions = {self.dimensions}, but layers {tuple(self.layers)} of "
                f"{self.backbone} have {total} channels; choose 1 to {total}"
            )
        self.keep(draw_channels(total, self.dimensions, self.index_seed, run))

    def keep(self, index: Tensor) -> None:
        """Use these channels, numbered through the layers; before `fit`."""
        self.index = index
        # Sorted and split by layer: the order does not change the distance.
        ordered = index.cpu().sort().values
        start = 0
        self._kept: list[Tensor] = []
        for width in self.extractor.channels:
            inside = ordered[(ordered >= start) & (ordered < start + width)]
            self._kept.append((inside - start).to(index.device))
            start += width

    def fit(self, train: Images, run: Run) -> Iterator[Mapping[str, float]]:
        """One pass over the images; the only epoch."""
        with torch.no_grad():
            self._fit(train)
        yield {}

    def predict(self, images: Tensor) -> Prediction:
        distances = self.raw(images)
        size = (images.shape[-2], images.shape[-1])
        maps = upsample_and_smooth(distances, size, self.sigma, self.smoothing_border)
        return Prediction(maps, maps.amax((1, 2)))

    def raw(self, images: Tensor) -> Tensor:
        """(B, h, w) distances on the grid of the finest layer."""
        embedding = self._embed(images)
        height, width = embedding.shape[:2]
        if (height, width) != tuple(self.mean.shape[:2]):
            raise MethodError(
                f"images give a {height}x{width} grid, but the model was fitted on "
                f"{self.mean.shape[0]}x{self.mean.shape[1]}; use the image size of the fit"
            )
        distances = mahalanobis(
            embedding.flatten(0, 1),
            self.mean.flatten(0, 1),
            self.factor.flatten(0, 1),
            self.epsilon,
        )
        return distances.reshape(-1, height, width)

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        missing = {"index", "mean", "factor"} - set(state)
        if missing:
            raise MethodError(f"saved state has no {', '.join(sorted(missing))}; not a PaDiM model")
        if state["mean"].shape[-1] != self.dimensions:
            raise MethodError(
                f"saved state keeps {state['mean'].shape[-1]} dimensions, the settings say "
                f"{self.dimensions}"
            )
        super().load_state(state)
        self.keep(self.index)

    def _fit(self, train: Images) -> None:
        low_rank = self._is_low_rank(len(train))
        moments: PositionMoments | None = None
        kept: Tensor | None = None
        seen = 0
        height = width = 0
        for images in train.batches(self.batch):
            embedding = self._embed(images)
            if not embedding.sum().isfinite():
                raise MethodError(
                    f"features of training images {seen} to {seen + len(images) - 1} are not "
                    "finite; check the weights and the images"
                )
            height, width = embedding.shape[:2]
            features = embedding.flatten(0, 1)
            if low_rank:
                if kept is None:
                    kept = features.new_empty(len(features), len(train), self.dimensions)
                kept[:, seen : seen + len(images)] = features
            else:
                moments = moments or PositionMoments(
                    len(features), self.dimensions, features.device
                )
                moments.add(features)
            seen += len(images)
        if kept is not None:
            mean, factor = low_rank_factor(kept, self.epsilon)
        elif moments is not None:
            mean, factor = moments.mean, full_factor(moments, self.epsilon)
        else:
            raise MethodError("no training images; PaDiM needs at least 2")
        self.mean = mean.float().reshape(height, width, -1)
        self.factor = factor.reshape(height, width, *factor.shape[1:])

    def _is_low_rank(self, count: int) -> bool:
        if self.covariance == "lowrank" and count > self.dimensions:
            raise MethodError(
                f"covariance = 'lowrank' with {count} training images and {self.dimensions} "
                "dimensions; it needs at most as many images as dimensions, use 'auto' or 'full'"
            )
        return self.covariance != "full" and count <= self.dimensions

    def _embed(self, images: Tensor) -> Tensor:
        return align(
            [f.index_select(1, k) for f, k in zip(self.extractor(images), self._kept, strict=True)]
        )


def draw_channels(total: int, count: int, seed: int, run: Run) -> Tensor:
    """`count` distinct channels of `total`, in the order drawn, on the run's device."""
    if seed == _FROM_RUN:
        drawn = torch.randperm(total, generator=run.generator("padim channels"))[:count]
    else:
        drawn = torch.tensor(random.Random(seed).sample(range(total), count))
    return drawn.to(run.device)


def align(features: Sequence[Tensor]) -> Tensor:
    """Coarse maps repeated over the cells of the finest one, and joined.

    Args:
        features: (B, C_l, h_l, w_l) for each layer.

    Returns:
        (h, w, B, sum of C_l) on the grid of the finest layer, positions first.

    Raises:
        MethodError: where the cells of a layer do not tile those of the finest one.
    """
    height = max(f.shape[2] for f in features)
    width = max(f.shape[3] for f in features)
    batch = len(features[0])
    joined = features[0].new_empty(height, width, batch, sum(f.shape[1] for f in features))
    start = 0
    for feature in features:
        rows, columns = feature.shape[2:]
        if height % rows or width % columns:
            sizes = ", ".join(f"{f.shape[2]}x{f.shape[3]}" for f in features)
            raise MethodError(
                f"feature maps of {sizes} do not tile each other; choose an image size that is a "
                "multiple of the coarsest layer's stride, or other layers"
            )
        stop = start + feature.shape[1]
        cells = joined.view(rows, height // rows, columns, width // columns, batch, -1)
        cells[..., start:stop] = feature.permute(2, 3, 0, 1)[:, None, :, None]
        start = stop
    return joined
