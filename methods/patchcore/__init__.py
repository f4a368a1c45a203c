"""PatchCore: distance to the nearest of a few well chosen patches (Roth et al., 2022)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import torch

from bench.api import Method, MethodError, Prediction
from bench.blocks.nearest import nearest
from bench.blocks.smoothing import upsample_and_smooth

from .coreset import approximate_greedy, greedy
from .embedding import PatchEmbedding

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor

    from bench.api import Images, Run
    from bench.blocks.nearest import Neighbours


@dataclass(frozen=True)
class Draws:
    """What the selection draws at random.

    Attributes:
        rows: rows of the training patches: the start points of the approximate selection are the
            first `start_points`, the random selection is the first that it needs.
        projection: (projection, dimensions) matrix that patches are selected under; None: none.
    """

    rows: Tensor
    projection: Tensor | None


@dataclass
class PatchCore(Method):
    """Squared distance of each patch embedding to the nearest one of a memory bank.

    Attributes:
        backbone: timm's name; WideResNet-50-2 is the published one.
        layers: timm's layer indices, the finest first; its cells are those of the map.
        patch: side of a patch in cells; odd.
        neighbourhood: "pooled" pools the numbers of a patch across channels and positions, as the
            authors' code does; "mean" is the average of each channel, and keeps all channels.
        layer_dimensions: numbers that each layer is pooled to, for "pooled".
        dimensions: numbers that the joined layers are pooled to, for "pooled".
        coreset: share of the training patches that is kept; 1.0 keeps all.
        selection: "approximate" is the published one, "greedy" the exact k-centre.
        projection: dimensions of the random projection that patches are selected under.
        start_points: of the approximate selection.
        neighbours: nearest patches whose distances are averaged.
        squared: the authors' code takes squared distances, the paper does not.
        image_score: "max" of the patch scores, as in the code; "paper" is equation 7.
        reweight_neighbours: of the nearest patch, for "paper"; the patch itself counts.
        sigma: of the smoothing, in pixels of the input.
        smoothing_border: "edge" repeats the edge sample, as SciPy does by default; "mirror" does
            not.
        batch: training images at a time; changes no score.
        memory_mb: of training features; more lie in a file of the run's own; changes no score.
        input_size: side of the input, where the protocol leaves it to the method.
    """

    version: ClassVar[int] = 1
    paper: ClassVar[str] = (
        "Roth, Pemula, Zepeda, Schoelkopf, Brox, Gehler: Towards Total Recall in Industrial "
        "Anomaly Detection. CVPR 2022, arXiv:2106.08265"
    )

    backbone: str = "wide_resnet50_2.tv_in1k"
    layers: tuple[int, ...] = (2, 3)
    patch: int = 3
    neighbourhood: Literal["pooled", "mean"] = "pooled"
    layer_dimensions: int = 1024
    dimensions: int = 1024
    coreset: float = 0.1
    selection: Literal["approximate", "greedy", "random"] = "approximate"
    projection: int = 128
    start_points: int = 10
    neighbours: int = 1
    squared: bool = True
    image_score: Literal["max", "paper"] = "max"
    reweight_neighbours: int = 9
    sigma: float = 4.0
    smoothing_border: Literal["edge", "mirror"] = "edge"
    batch: int = 8
    memory_mb: int = 2000
    input_size: int = 224

    def prepare(self, run: Run) -> None:
        """Load the backbone and look at the size of its maps."""
        self._check_fields()
        self.extractor = run.backbone(self.backbone, self.layers)
        channels = self.extractor.channels
        if self.neighbourhood == "pooled":
            widths, total = [self.layer_dimensions] * len(channels), self.dimensions
        else:
            widths, total = list(channels), sum(channels)
        self._embedding = PatchEmbedding(channels, self.patch, widths, total)
        with torch.no_grad():
            grid = self._embed(torch.zeros(1, 3, *run.image_size, device=run.device)).shape
        self._cells = grid[1] * grid[2]

    def fit(self, train: Images, run: Run) -> Iterator[Mapping[str, float]]:
        """One pass over the images, and the selection; the only epoch."""
        with torch.no_grad():
            self._fit(train, run)
        yield {}

    def predict(self, images: Tensor) -> Prediction:
        embedding = self._embed(images)
        found = self._search(embedding)
        scores = self._patch_scores(found).view(embedding.shape[:3])
        size = (images.shape[-2], images.shape[-1])
        maps = upsample_and_smooth(scores, size, self.sigma, self.smoothing_border)
        if self.image_score == "max":
            return Prediction(maps, scores.amax((1, 2)))
        return Prediction(maps, self._reweighted(embedding, found))

    def raw(self, images: Tensor) -> Tensor:
        """(B, h, w) patch scores on the grid of the first layer."""
        embedding = self._embed(images)
        return self._patch_scores(self._search(embedding)).view(embedding.shape[:3])

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        if "memory" not in state:
            raise MethodError("saved state has no memory; not a PatchCore model")
        if state["memory"].shape[1] != self._embedding.dimensions:
            raise MethodError(
                f"saved state has {state['memory'].shape[1]} dimensions, the settings say "
                f"{self._embedding.dimensions}"
            )
        super().load_state(state)

    def _check_fields(self) -> None:
        if not 0 < self.coreset <= 1:
            raise MethodError(
                f"coreset = {self.coreset}; it is a share of the training patches, above 0 and at "
                "most 1"
            )
        for name in ("projection", "start_points", "neighbours", "reweight_neighbours"):
            if getattr(self, name) < 1:
                raise MethodError(f"{name} = {getattr(self, name)}; it must be at least 1")

    def _kept(self, images: int) -> int:
        """How many patches the memory bank has.

        Raises:
            MethodError: none, or fewer than neighbours.
        """
        total = images * self._cells
        kept = int(total * self.coreset)  # cut, as published
        wanted = {"neighbours": self.neighbours}
        if self.image_score == "paper":
            wanted["reweight_neighbours"] = self.reweight_neighbours
        for name, count in wanted.items():
            if kept < count:
                raise MethodError(
                    f"coreset = {self.coreset} keeps {kept} of the {total} patches of {images} "
                    f"training images, fewer than {name} = {count}; raise coreset"
                )
        return kept

    def _fit(self, train: Images, run: Run) -> None:
        kept, total = self._kept(len(train)), len(train) * self._cells
        draws = self._draw(total, run)
        is_greedy = kept < total and self.selection != "random"
        projection = draws.projection if is_greedy else None
        features = self._room(total, run)
        vectors = features
        if projection is not None:
            projection = projection.to(run.device)
            vectors = projection.new_empty(total, len(projection))
        seen = 0
        for images in train.batches(self.batch):
            embedding = self._embed(images).flatten(0, 2)
            if not embedding.sum().isfinite():
                first = seen // self._cells
                raise MethodError(
                    f"features of training images {first} to {first + len(images) - 1} are not "
                    "finite; check the weights and the images"
                )
            rows = slice(seen, seen + len(embedding))
            features[rows] = embedding
            if projection is not None:
                vectors[rows] = embedding @ projection.T
            seen += len(embedding)
        if kept < total:
            features = features[self._select(vectors, kept, draws).to(features.device)]
        self.memory = features.to(run.device)

    def _room(self, total: int, run: Run) -> Tensor:
        """(total, dimensions) for the features of all training patches."""
        shape = (total, self._embedding.dimensions)
        if 4 * shape[0] * shape[1] > self.memory_mb * 10**6:
            return run.scratch("features of the training images", shape)
        return torch.empty(shape, device=run.device)

    def _draw(self, total: int, run: Run) -> Draws:
        """Rows in random order, and a projection as torch initialises a linear layer."""
        rows = torch.randperm(total, generator=run.generator("patchcore rows"))
        width = self._embedding.dimensions
        projection = None
        if self.projection != width:
            generator = run.generator("patchcore projection")
            projection = torch.empty(self.projection, width)
            projection.uniform_(-(width**-0.5), width**-0.5, generator=generator)
        return Draws(rows, projection)

    def _select(self, vectors: Tensor, kept: int, draws: Draws) -> Tensor:
        """(kept,) rows of the vectors, in the order selected."""
        if self.selection == "random":
            return draws.rows[:kept]
        if self.selection == "greedy":
            return greedy(vectors, kept)
        return approximate_greedy(vectors, kept, draws.rows[: self.start_points])

    def _embed(self, images: Tensor) -> Tensor:
        """(B, h, w, dimensions), on the grid of the first layer."""
        return self._embedding(self.extractor(images))

    def _search(self, embedding: Tensor) -> Neighbours:
        return nearest(embedding.flatten(0, 2), self.memory, self.neighbours)

    def _patch_scores(self, found: Neighbours) -> Tensor:
        """(queries,) means over the nearest neighbours."""
        return (found.squares if self.squared else found.squares.sqrt()).mean(1)

    def _reweighted(self, embedding: Tensor, found: Neighbours) -> Tensor:
        """(B,) image scores of the paper: the worst patch's distance, less where its neighbour
        lies among others that are as near to the patch (arXiv:2106.08265, equation 7)."""
        images = torch.arange(len(embedding), device=embedding.device)
        squares = found.squares[:, 0].view(len(embedding), -1)
        worst = squares.argmax(1)
        distance = squares[images, worst].sqrt()
        if self.reweight_neighbours == 1:
            return distance
        patch = embedding.flatten(1, 2)[images, worst]
        neighbour = self.memory[found.index[:, 0].view(len(embedding), -1)[images, worst]]
        around = self.memory[nearest(neighbour, self.memory, self.reweight_neighbours).index]
        others = (around - patch[:, None]).square().sum(2).sqrt()
        return distance * (1 - (distance - others.logsumexp(1)).exp())
