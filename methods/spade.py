"""SPADE: nearest features among those of the nearest training images (Cohen and Hoshen, 2020)."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from torch.nn.functional import interpolate

from bench.api import Method, MethodError, Prediction
from bench.blocks.nearest import Search, nearest
from bench.blocks.smoothing import upsample_and_smooth

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch import Tensor

    from bench.api import Images, Run

# The common implementation compares with this many vectors at a time, and drops what is left over.
_PUBLISHED_BLOCK = 100


@dataclass
class SPADE(Method):
    """Distance of each cell to the nearest one in the nearest training images.

    Attributes:
        backbone: timm's name; WideResNet-50-2 is the published one.
        layers: timm's layer indices; for a ResNet 1, 2, 3 are the first three stages.
        pooled_layer: the layer whose mean over all cells finds the nearest images.
        neighbours: nearest training images; 50 in the paper, 5 in the common implementation.
        feature_neighbours: nearest cells whose distances are averaged.
        image_score: mean "distance" to the nearest images, or mean of "squared" distances.
        combine: "mean" averages the distances of the layers; "joined" joins the layers on the
            finest one's grid, bilinearly, before the distance.
        drop_rest: leave out what the common implementation loses: it compares with 100 vectors at
            a time and drops the last incomplete hundred.
        sigma: of the smoothing, in pixels of the input.
        smoothing_border: "edge" repeats the edge sample, as SciPy does by default; "mirror" does
            not.
        batch: training images at a time; changes no score.
        memory_mb: a larger gallery lies in a file of the run's own; changes no score.
        input_size: side of the input, where the protocol leaves it to the method.
    """

    version: ClassVar[int] = 1
    paper: ClassVar[str] = (
        "Cohen, Hoshen: Sub-Image Anomaly Detection with Deep Pyramid Correspondences. 2020, "
        "arXiv:2005.02357"
    )

    backbone: str = "wide_resnet50_2.tv_in1k"
    layers: tuple[int, ...] = (1, 2, 3)
    pooled_layer: int = 4
    neighbours: int = 50
    feature_neighbours: int = 1
    image_score: Literal["distance", "squared"] = "distance"
    combine: Literal["mean", "joined"] = "mean"
    drop_rest: bool = False
    sigma: float = 4.0
    smoothing_border: Literal["edge", "mirror"] = "edge"
    batch: int = 8
    memory_mb: int = 2000
    input_size: int = 224

    def prepare(self, run: Run) -> None:
        """Load the backbone and look at the sizes of its maps."""
        for name in ("neighbours", "feature_neighbours"):
            if getattr(self, name) < 1:
                raise MethodError(f"{name} = {getattr(self, name)}; it must be at least 1")
        self.extractor = run.backbone(self.backbone, (*self.layers, self.pooled_layer))
        with torch.no_grad():
            images = torch.zeros(1, 3, *run.image_size, device=run.device)
            *features, _ = self.extractor(images)
        self._shapes = [_Shape(*feature.shape[1:]) for feature in features]
        self._check_galleries()

    def fit(self, train: Images, run: Run) -> Iterator[Mapping[str, float]]:
        """One pass over the images, whose features are kept; the only epoch."""
        if len(train) < self.neighbours:
            raise MethodError(
                f"neighbours = {self.neighbours}, but there are {len(train)} training images; "
                f"choose 1 to {len(train)}"
            )
        with torch.no_grad():
            self._fit(train, run)
        yield {}

    def predict(self, images: Tensor) -> Prediction:
        *features, last = self.extractor(images)
        scores, index = self._nearest_images(last)
        size = (images.shape[-2], images.shape[-1])
        distances = self._distances(features, index)
        # All linear, so layers are averaged last: each is brought to size and smoothed at once.
        maps = [upsample_and_smooth(d, size, self.sigma, self.smoothing_border) for d in distances]
        return Prediction(torch.stack(maps).mean(0), scores)

    def raw(self, images: Tensor) -> list[Tensor]:
        """(B, h, w) distances of each layer on its own grid; of joined layers one."""
        *features, last = self.extractor(images)
        return self._distances(features, self._nearest_images(last)[1])

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        missing = {"pooled", "gallery"} - set(state)
        if missing:
            raise MethodError(f"saved state has no {', '.join(sorted(missing))}; not a SPADE model")
        numbers = sum(shape.numbers for shape in self._shapes)
        if state["gallery"].shape[1] != numbers:
            raise MethodError(
                f"saved state has {state['gallery'].shape[1]} features of each image, these "
                f"settings give {numbers}; use the layers and the image size of the fit"
            )
        super().load_state(state)

    def _check_galleries(self) -> None:
        for shape in self._shapes:
            whole = self.neighbours * shape.cells
            kept = whole - whole % _PUBLISHED_BLOCK if self.drop_rest else whole
            if kept < self.feature_neighbours:
                raise MethodError(
                    f"{self.neighbours} neighbours have {whole} cells of {shape.rows}x"
                    f"{shape.columns} maps, of which {kept} are compared with, fewer than "
                    f"feature_neighbours = {self.feature_neighbours}; raise neighbours or set "
                    "drop_rest to false"
                )

    def _fit(self, train: Images, run: Run) -> None:
        self.gallery = self._room(len(train), run)
        pooled = []
        seen = 0
        for images in train.batches(self.batch):
            *features, last = self.extractor(images)
            rows = torch.cat([_by_column(feature).flatten(1) for feature in features], 1)
            if not rows.sum().isfinite() or not last.sum().isfinite():
                raise MethodError(
                    f"features of training images {seen} to {seen + len(images) - 1} are not "
                    "finite; check the weights and the images"
                )
            self.gallery[seen : seen + len(images)] = rows
            pooled.append(last.mean((2, 3)))
            seen += len(images)
        self.pooled = torch.cat(pooled)

    def _room(self, images: int, run: Run) -> Tensor:
        """(images, numbers of all layers) for the features of all training images."""
        shape = (images, sum(shape.numbers for shape in self._shapes))
        if 4 * shape[0] * shape[1] > self.memory_mb * 10**6:
            return run.scratch("gallery", shape)
        return torch.empty(shape, device=run.device)

    def _nearest_images(self, last: Tensor) -> tuple[Tensor, Tensor]:
        """(B,) image scores and (B, neighbours) training images, nearest first."""
        found = nearest(last.mean((2, 3)), self.pooled, self.neighbours)
        squares = found.squares if self.image_score == "squared" else found.squares.sqrt()
        return squares.mean(1), found.index

    def _distances(self, features: Sequence[Tensor], index: Tensor) -> list[Tensor]:
        """(B, h, w) mean distance of each cell to its nearest ones, by layer.

        Args:
            features: (B, C, h, w) of each layer.
            index: (B, neighbours) training images.
        """
        if self.combine == "joined":
            features = [join(features)]
        queries = [feature.permute(0, 2, 3, 1).flatten(1, 2) for feature in features]
        searches = [[Search(one, self.feature_neighbours) for one in layer] for layer in queries]
        # Neighbours repeat between test images: each is brought to the device once for a batch.
        users: dict[int, list[tuple[int, int]]] = defaultdict(list)
        for image, row in enumerate(index.tolist()):
            for rank, neighbour in enumerate(row):
                users[neighbour].append((image, rank))
        for neighbour, uses in users.items():
            for layer, cells in zip(searches, self._cells(neighbour), strict=True):
                for image, rank in uses:
                    layer[image].add(cells[: self._compared(rank, len(cells))])
        return [
            torch.stack([search.result().squares.sqrt().mean(1) for search in layer]).view(
                len(feature), *feature.shape[2:]
            )
            for layer, feature in zip(searches, features, strict=True)
        ]

    def _cells(self, image: int) -> list[Tensor]:
        """(h w, C) features of a training image by layer, on the network's device, by column."""
        row = self.gallery[image].to(self.pooled.device)
        parts = torch.split(row, [shape.numbers for shape in self._shapes])
        if self.combine == "joined":
            pairs = zip(parts, self._shapes, strict=True)
            maps = [part.view(s.columns, s.rows, s.channels).permute(2, 1, 0) for part, s in pairs]
            return [_by_column(join([feature[None] for feature in maps]))[0].flatten(0, 1)]
        return [
            part.view(-1, shape.channels) for part, shape in zip(parts, self._shapes, strict=True)
        ]

    def _compared(self, rank: int, cells: int) -> int:
        """How many of the cells of the neighbour of that rank are compared with."""
        if not self.drop_rest:
            return cells
        whole = self.neighbours * cells
        return max(0, min(cells, whole - whole % _PUBLISHED_BLOCK - rank * cells))


@dataclass(frozen=True)
class _Shape:
    """Of one layer's map."""

    channels: int
    rows: int
    columns: int

    @property
    def cells(self) -> int:
        return self.rows * self.columns

    @property
    def numbers(self) -> int:
        return self.channels * self.cells


def join(features: Sequence[Tensor]) -> Tensor:
    """(B, C_l, h_l, w_l) of each layer -> (B, sum of C_l, h, w) on the finest grid, bilinearly."""
    size = (max(f.shape[2] for f in features), max(f.shape[3] for f in features))
    up = [interpolate(f, size=size, mode="bilinear", align_corners=False) for f in features]
    return torch.cat(up, 1)


def _by_column(feature: Tensor) -> Tensor:
    """(B, C, h, w) -> (B, w, h, C).

    The order of the common implementation, which decides what `drop_rest` loses.
    """
    return feature.permute(0, 3, 2, 1)
