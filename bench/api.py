"""What a plugin may import: the types of a method and of a data set. No torch at run time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path  # noqa: TC003 - dataclass fields of plugins are resolved at run time
from typing import TYPE_CHECKING, ClassVar, Literal

from bench.errors import BenchError, ConfigError, DataError, MethodError, nearest
from bench.state import load_into, modules_of, state_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    import torch
    from torch import Tensor, nn

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "Auxiliary",
    "BenchError",
    "ConfigError",
    "DataError",
    "Dataset",
    "ImageFolder",
    "Images",
    "MaskRule",
    "Method",
    "MethodError",
    "Prediction",
    "Run",
    "Sample",
    "Split",
    "nearest",
]

Split = Literal["train", "test"]
MaskRule = Literal["nonzero", ">=128", "auto"]
"""Which pixels of a mask file are anomalous; "auto": by the values of the file, "nonzero" where
none reaches 128 (0 and 1, class indices), else ">=128" (0 and 255, perhaps with grey edges)."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Sample:
    """One image of one category and split.

    Attributes:
        image: the file.
        label: 0 normal, 1 anomalous; from the data set, never from the mask.
        defect: the defect type; "good" for a normal image.
        mask: None for a normal image, or where no mask is known. An anomalous image without a
            mask stays in the image metrics, leaves the pixel metrics, and is counted in the row.
            A folder: a pixel is anomalous where one of its masks says so.
        group: one physical part, photographed several times; never on both sides of a split.
        mask_rule: which pixels of the mask file are anomalous.
        mask_index: which mask of a file that holds those of a whole video: (T, H, W), as .npy.
        bits: of an image file of 16 bits, how many the data have, as those of a 12-bit camera.
    """

    image: Path
    label: int
    defect: str
    mask: Path | None = None
    group: str | None = None
    mask_rule: MaskRule = "nonzero"
    mask_index: int | None = None
    bits: int = 16


class Dataset(ABC):
    """Says which images, masks and labels exist; reads no pixel itself.

    Subclasses are dataclasses. The first field is `root`; further fields are the options of the
    data set, with literal defaults, and are set by `[datasets.NAME]` or `--set NAME.key=value`.
    """

    version: ClassVar[int] = 1  # bump it when `samples()` changes meaning
    paper: ClassVar[str] = ""  # citation, as one line
    licence: ClassVar[str] = ""  # of the images, as one line
    source: ClassVar[str] = ""  # where a user gets the images
    caution: ClassVar[str] = ""
    """Why its scores do not compare with published ones, as one sentence without a full stop."""
    shows_people: ClassVar[bool] = False
    """The images are personal data: the pages of the leaderboard never show them."""
    generated: ClassVar[bool] = False
    """Made by `prepare` in the cache folder, instead of lying in a folder of the user's."""
    every_category: ClassVar[Sequence[str]] = ()
    """Of a generated data set, the categories under any options; empty: the options decide."""

    root: Path

    @abstractmethod
    def categories(self) -> Sequence[str]:
        """Names of the categories, in the order of the published tables.

        Raises:
            DataError: if the folder is missing or is not this data set.
        """

    @abstractmethod
    def samples(self, category: str, split: Split) -> Sequence[Sample]:
        """The images of one category and split, sorted by path.

        Raises:
            DataError: if files are missing, surplus or ambiguous; the message names them.
        """

    def prepare(self, categories: Sequence[str]) -> None:  # noqa: B027 - most need nothing
        """Make the files of these categories, where the data set is generated."""

    def fingerprint(self, category: str) -> str | None:
        """Identity of a generated category; None: the harness hashes the files themselves."""
        return None

    def expected(self) -> Mapping[str, Mapping[str, int]]:
        """Published counts by category ("train", "good", "anomalous"); empty where none are."""
        return {}


@dataclass(frozen=True)
class Prediction:
    """Anomaly maps of a batch, image scores, or both; higher is more anomalous.

    Attributes:
        maps: (B, H, W), any resolution; or (B, L, h, w) until `Method.finish` has run. None: the
            method scores images alone, and the pixel metrics of its rows are undefined.
        scores: (B,) image scores; None: the maximum of the map.

    Raises:
        MethodError: neither maps nor scores.
    """

    maps: Tensor | None
    scores: Tensor | None = None

    def __post_init__(self) -> None:
        if self.maps is None and self.scores is None:
            raise MethodError("a prediction has neither maps nor scores; give at least one of them")

    def require_scores(self) -> Tensor:
        """The image scores; a MethodError where there are none."""
        if self.scores is None:
            raise MethodError("the prediction has no image scores, only maps")
        return self.scores

    def require_maps(self) -> Tensor:
        """The maps; a MethodError where there are none."""
        if self.maps is None:
            raise MethodError("the prediction has no maps, only image scores")
        return self.maps


class Images(ABC):
    """The training images of one category, as `Method.fit` sees them: pixels, and nothing else."""

    image_size: tuple[int, int]
    """(height, width) of the tensors."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def batches(
        self,
        size: int,
        *,
        shuffle: bool = False,
        drop_last: bool = False,
        augment: Callable[[Tensor, torch.Generator], Tensor] | None = None,
    ) -> Iterator[Tensor]:
        """Yield (B, 3, H, W) float32 tensors on the run's device, ImageNet-normalised.

        Args:
            size: images per batch; the last batch is smaller unless `drop_last`.
            shuffle: a new order at every call, seeded by the run and the number of calls so far.
            augment: applied to each (3, H, W) normalised image on the CPU with a seeded generator.
        """

    def hold_out(
        self, share: float, purpose: str, seed: int | None = None
    ) -> tuple[Images, Images]:
        """(the rest, a part for validation or calibration), both in the order of the images.

        Args:
            share: in (0, 1); of n images, share * n rounded up are held out (`n_held_out`).
            purpose: names the draw ("validation"), which the run's seed decides too.
            seed: draw as scikit-learn's `train_test_split(random_state=seed)` does, whatever the
                run's seed: the split of a published code.

        Raises:
            MethodError: a share that leaves one of the two without an image.
        """
        raise MethodError(f"{type(self).__name__} cannot hold images out")


ImageFolder = str
"""Annotation of a field that names a folder of auxiliary pictures: `textures: ImageFolder = ""`.

The digest of the files, not the path, is part of the cell; `Run.auxiliary` reads them. Inside the
method the field holds "NAME@<digest>", or "" where no folder was named."""


class Auxiliary(ABC):
    """Pictures beside the training images, from a folder that a field names."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def pictures(self, indices: Sequence[int], size: tuple[int, int]) -> Tensor:
        """(B, 3, H, W) float32 in [0, 1] on the run's device, resized bilinearly, antialiased.

        Args:
            indices: B numbers from 0 to `len(self) - 1`.
            size: (height, width); both sides are forced.

        Raises:
            DataError: a picture that cannot be read.
        """


if TYPE_CHECKING:

    class Backbone(nn.Module):
        """A network up to the last of some layers; a name for annotations, not at run time.

        Attributes:
            channels: of each layer, in the order given.
            strides: input pixels for each cell of a layer; of a named module None where the network
                takes one image size alone.
            net: the library's network.
        """

        channels: list[int]
        strides: list[int | None]
        net: nn.Module

        def __call__(self, images: Tensor) -> list[Tensor]:
            """(B, 3, H, W) -> (B, C_l, H_l, W_l) of each layer, in the order given."""


class Run(ABC):
    """What the harness offers a method: device, seeds, networks with recorded weights, room.

    A run made by hand, in a test or a benchmark, may offer less: what is not abstract here.
    """

    device: torch.device
    seed: int
    image_size: tuple[int, int]
    """(height, width) of every image that the method will see."""

    @abstractmethod
    def generator(self, purpose: str) -> torch.Generator:
        """A CPU generator seeded from SHA-256 of (seed, purpose): the same for the same purpose."""

    @abstractmethod
    def backbone(self, name: str, layers: Sequence[int] | Sequence[str]) -> Backbone:
        """A pretrained feature extractor, frozen, in evaluation mode; its weights are recorded.

        Args:
            name: timm's name, with or without a tag ("resnet18.tv_in1k"); torchvision's where timm
                has no such network or weights ("alexnet.tv_in1k").
            layers: timm's `out_indices`: for a ResNet 0 is the first activation (stride 2) and
                1 to 4 are the stages (strides 4 to 32). Or names of modules ("features.4",
                "blocks.5.2.bn3"), whose outputs are returned; of a module that runs several times
                the last one. The network runs no further than the last of them, and what lies
                behind it is left out.

        Raises:
            MethodError: unknown name, a layer that does not exist or whose output is no feature
                map, weights that cannot be had or do not fit; the message names the ways out.
        """

    def network(self, name: str, layers: Sequence[int] | Sequence[str]) -> Backbone:
        """The same architecture without weights, to be trained: a student, an encoder of one's own.

        Its weights are drawn as its library draws them, by the run's seed and the number of calls
        so far: two students differ, and the same run has the same two. timm draws the last norm of
        a residual branch as zero. Training mode, gradients on; no weights are recorded.

        Args, Raises: as `backbone`.
        """
        raise MethodError(f"{type(self).__name__} offers no networks")

    def module(self, network: nn.Module, name: str) -> nn.Module:
        """Record a frozen network that the method built itself, whatever its weights are.

        It is returned on the run's device, in evaluation mode, without gradients. The row's
        `weights` holds its name ("alexnet from a file of mine") and the hash of its state as it is
        now, so load its weights before; its parameters count, and its time is that of an encoder.
        """
        raise MethodError(f"{type(self).__name__} records no modules")

    def scratch(self, name: str, shape: Sequence[int], dtype: torch.dtype | None = None) -> Tensor:
        """A tensor of zeros (float32) on the CPU that lies in a file: for state larger than memory.

        The file is the run's own and goes with it, also where the run fails. A tensor attribute of
        the method is state, in this memory or in that, and counts in `state_mb`.

        Args:
            name: what the tensor holds ("gallery"), for messages.

        Raises:
            MethodError: the disk has no room for it; the message gives both sizes.
        """
        raise MethodError(f"{type(self).__name__} offers no scratch")

    def auxiliary(self, field: str) -> Auxiliary:
        """The pictures of the folder that a field of type `ImageFolder` names; asked for in `fit`.

        Raises:
            MethodError: the field names no folder.
        """
        raise MethodError(f"{type(self).__name__} offers no auxiliary pictures")


class Method(ABC):
    """Learns what normal looks like, and returns an anomaly map and a score for new images.

    Subclasses are dataclasses: their fields, with literal defaults, ARE the hyper-parameters.
    The harness calls `prepare`, then exhausts `fit`, then `predict` batch by batch, then `finish`.
    It sets evaluation mode and disables gradients around `predict`, unless `needs_gradients`.
    """

    version: ClassVar[int] = 1  # bump it when the same parameters would give other numbers
    paper: ClassVar[str] = ""  # citation, as one line
    min_train: ClassVar[int] = 1  # fewest training images; fewer are refused before training
    gpu_share: ClassVar[float] = 1.0  # of a GPU, at most; a number: cells without times share one
    if TYPE_CHECKING:  # a property may be overridden by a field or by another property

        @property
        def epochs(self) -> int | None:
            """How often `fit` yields, for progress; None where nobody knows."""
    else:
        epochs = None
    input_size: int | None = None
    """Side of the square images it was published with, for protocols that ask; a field, or None."""
    needs_gradients: ClassVar[bool] = False
    """Whether `predict` differentiates, with respect to its input or a latent: it then runs with
    gradients, outside inference mode. Such a method freezes the parameters of its modules and
    returns detached maps. May be a property, where a field decides."""

    def prepare(self, run: Run) -> None:  # noqa: B027 - a method without modules needs none
        """Create the modules (backbone, flows). Also called before a saved state is loaded."""

    @abstractmethod
    def fit(self, train: Images, run: Run) -> Iterator[Mapping[str, float]]:
        """Train; yield the epoch's figures ({"loss": ...}) after each epoch.

        The method must be usable by `predict` at every yield. A method without epochs yields once.
        """

    @abstractmethod
    def predict(self, images: Tensor) -> Prediction:
        """Anomaly maps or scores for (B, 3, H, W) images on the run's device.

        An image's map does not depend on the other images of the batch.
        """

    def raw(self, images: Tensor) -> object:
        """The part of `predict` before upsampling, smoothing and aggregation; timed apart."""
        return self.predict(images)

    def finish(self, raw: Prediction) -> Prediction:
        """Called with the predictions of the whole test set, on the CPU.

        One that lets a test image change the score of another sets `is_transductive`; it is called
        once. Others are called batch by batch where the maps of the test set do not fit in memory.
        """
        return raw

    @property
    def is_transductive(self) -> bool:
        """Whether scores of an image depend on the other test images; marked in every row.

        `finish` then needs all predictions at once, in memory, however large the test set is.
        """
        return False

    def modules(self) -> Iterable[nn.Module]:
        """The modules whose parameters are counted; default: every module held by the method."""
        return modules_of(self).values()

    def state(self) -> dict[str, Tensor]:
        """Everything that `predict` needs besides code and fields, by name.

        The default: every tensor attribute, and every module's state under "attribute.name".
        """
        return state_of(self)

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """The inverse of `state`, on a method whose `prepare` has run.

        Raises:
            MethodError: if names or shapes do not fit the modules that `prepare` made.
        """
        load_into(self, state)
