"""CFLOW-AD: the likelihood of each feature vector under a flow conditioned on its position."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import timm
import torch
from torch import Tensor, nn

from bench.api import Method, MethodError, Prediction, nearest
from bench.blocks.backbone import split_name

from .decoder import make_decoder
from .schedule import Schedule
from .scoring import Scorer, probability_map
from .training import Trainer, rotate

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from bench.api import Backbone, Images, Run

CHOICES = {
    "aggregation": ("train", "test"),
    "optimizer_steps": ("own", "all"),
    "padding": ("zeros", "reflect"),
    "precision": ("float32", "bf16"),
}


@dataclass
class Cflow(Method):
    """Conditional normalising flows on frozen features (arXiv:2107.12571), one for each level.

    Attributes:
        backbone: timm name of the frozen encoder.
        levels: number of feature maps, counted from the deepest.
        layers: names of the modules that give them in place of those, from the shallowest
            ("features.6.block.3.0"); as many as `levels`.
        couplings: blocks of each flow.
        clamp: bound of a block's log-scales.
        conditional: whether the flow sees the position; False is the paper's UFLOW.
        condition: length of the position code, a multiple of 4.
        fibers: feature vectors in one update.
        batch: images in a training batch.
        meta_epochs, sub_epochs: the rate changes after `sub_epochs` passes over the images.
        lr, lr_floor, warmup_epochs, warmup_start: see `Schedule`.
        aggregation: "train": levels are weighted by their maxima on the training images, and a
            score depends on its own image alone; "test": by those on the test set, as published.
        optimizer_steps: "own": an update moves the decoder that it trained (torch >= 2.0); "all":
            the others move on by their momentum, as with the torch of the publication.
        padding: "zeros", as the weights were trained; "reflect" in every convolution, as published.
        augment_degrees: largest rotation of a training image; 0 switches it off.
        input_size: side of the images, for protocols that ask the method.
        decode_mb: about how much memory scoring may take for intermediate results, in MB.
        precision: of encoder and flows in scoring; training is in float32.
    """

    version: ClassVar[int] = 1
    paper: ClassVar[str] = (
        "Gudovskiy, Ishizaka, Kozuka: CFLOW-AD: Real-Time Unsupervised Anomaly Detection with "
        "Localization via Conditional Normalizing Flows, WACV 2022, arXiv:2107.12571"
    )

    backbone: str = "wide_resnet50_2.tv_in1k"
    levels: int = 3
    layers: tuple[str, ...] = ()
    couplings: int = 8
    clamp: float = 1.9
    conditional: bool = True
    condition: int = 128
    fibers: int = 256
    batch: int = 32
    meta_epochs: int = 25
    sub_epochs: int = 8
    lr: float = 2e-4
    lr_floor: float = 1e-3
    warmup_epochs: int = 2
    warmup_start: float = 0.1
    aggregation: Literal["train", "test"] = "train"
    optimizer_steps: Literal["own", "all"] = "own"
    padding: Literal["zeros", "reflect"] = "zeros"
    augment_degrees: float = 5.0
    input_size: int = 256
    decode_mb: int = 128
    precision: Literal["float32", "bf16"] = "float32"

    def __post_init__(self) -> None:
        for name, choices in CHOICES.items():
            value = getattr(self, name)
            if value not in choices:
                raise MethodError(f"cflow: {name}={value!r}; {nearest(str(value), choices)}")
        counts = ("levels", "couplings", "fibers", "batch", "meta_epochs", "sub_epochs")
        for name in (*counts, "clamp", "lr", "decode_mb", "input_size"):
            if getattr(self, name) <= 0:
                raise MethodError(f"cflow: {name}={getattr(self, name)} must be above 0")
        for name in ("warmup_epochs", "warmup_start", "lr_floor", "augment_degrees"):
            if getattr(self, name) < 0:
                raise MethodError(f"cflow: {name}={getattr(self, name)} must not be below 0")
        if self.layers and len(self.layers) != self.levels:
            raise MethodError(
                f"cflow: layers names {len(self.layers)} modules, but levels={self.levels}; set "
                f"levels={len(self.layers)}"
            )
        if self.conditional and (self.condition <= 0 or self.condition % 4):
            raise MethodError(f"cflow: condition={self.condition} must be a multiple of 4")

    def prepare(self, run: Run) -> None:
        """Encoder and decoders; called before training and before a saved state is loaded."""
        taps = self.layers or deepest_layers(self.backbone, self.levels)
        self.encoder = run.backbone(self.backbone, taps)
        if self.padding == "reflect":
            reflect_padding(self.encoder, run.image_size)
        if run.device.type == "cpu" or self.precision == "bf16":
            # 1.2 times as fast on a CPU, and what tensor cores want; the values stay the same.
            self.encoder.to(memory_format=torch.channels_last)
        generator = run.generator("cflow decoders")
        self.decoders = nn.ModuleList(
            make_decoder(c, self._condition, self.couplings, self.clamp, generator)
            for c in self.encoder.channels
        ).to(run.device)
        self.maxima = torch.zeros(self.levels, dtype=torch.float64)
        self._scorer: Scorer | None = None
        self._sizes: list[tuple[int, int]] = []
        self._image_size = run.image_size

    def fit(self, train: Images, run: Run) -> Iterator[Mapping[str, float]]:
        """Train the decoders; yield loss and learning rate after each meta epoch.

        Raises:
            MethodError: too few images or fibers, or a loss that is not finite.
        """
        passes = len(train) // self.batch
        if passes == 0:
            raise MethodError(
                f"cflow: {len(train)} training images do not fill one batch of {self.batch}; "
                f"set batch to at most {len(train)}"
            )
        order = run.generator("cflow fibers")
        permute = functools.partial(torch.randperm, generator=order)
        trainer = Trainer(
            list(self.decoders), self._condition, self.fibers, self.optimizer_steps, permute
        )
        for meta_epoch in range(self.meta_epochs):
            self._scorer = None
            yield self._meta_epoch(trainer, train, meta_epoch, passes * self.sub_epochs)

    def predict(self, images: Tensor) -> Prediction:
        """Anomaly maps at the image size; with aggregation "test" log-likelihoods of the levels.

        The map is minus the sum over levels of the probability relative to the most likely
        training pixel. No constant is added: near zero float32 still tells unlikely pixels apart.
        """
        levels = self.raw(images)
        size = (images.shape[-2], images.shape[-1])
        if self.aggregation == "train":
            return Prediction(-probability_map(levels, self.maxima, size).float())
        self._sizes = [(q.shape[-2], q.shape[-1]) for q in levels]
        self._image_size = size
        return Prediction(_stacked(levels))

    def raw(self, images: Tensor) -> list[Tensor]:
        """(B, h, w) log-likelihood per dimension of each level, from the shallowest."""
        return self._score().log_likelihoods(images)

    def finish(self, raw: Prediction) -> Prediction:
        """With aggregation "test": maps from the levels' maxima over the whole test set."""
        if self.aggregation == "train":
            return raw
        stacked = raw.require_maps()
        levels = [stacked[:, i, :h, :w] for i, (h, w) in enumerate(self._sizes)]
        maxima = torch.stack([q.double().max() for q in levels])
        # Image by image: the maps in float64 are the only large array.
        total = torch.cat(
            [
                probability_map([q[i : i + 1] for q in levels], maxima, self._image_size)
                for i in range(len(stacked))
            ]
        )
        return Prediction(total.max() - total)

    @property
    def epochs(self) -> int:
        """How often `fit` yields; progress shows it."""
        return self.meta_epochs

    @property
    def is_transductive(self) -> bool:
        """True with aggregation "test"."""
        return self.aggregation == "test"

    def state(self) -> dict[str, Tensor]:
        """As `Method.state`; channels-last weights are made contiguous, as files want them."""
        return {name: value.contiguous() for name, value in super().state().items()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """The inverse of `state`.

        Raises:
            MethodError: if the state is of another backbone or other decoders.
        """
        maxima = state.get("maxima")
        if maxima is None or maxima.shape != (self.levels,):
            found = "none" if maxima is None else str(tuple(maxima.shape))
            raise MethodError(
                f"cflow: saved state has maxima {found}, expected {self.levels}, one for each "
                "level; it was saved by another method or with other levels"
            )
        super().load_state(state)
        self._scorer = None

    @property
    def _condition(self) -> int:
        return self.condition if self.conditional else 0

    def _meta_epoch(
        self, trainer: Trainer, train: Images, meta_epoch: int, batches: int
    ) -> dict[str, float]:
        schedule = Schedule(
            self.lr, self.meta_epochs, self.warmup_epochs, self.warmup_start, self.lr_floor
        )
        augment = None
        if self.augment_degrees:
            augment = functools.partial(rotate, degrees=self.augment_degrees)
        losses, index, rate = [], 0, 0.0
        for _ in range(self.sub_epochs):
            for images in train.batches(self.batch, shuffle=True, drop_last=True, augment=augment):
                with torch.no_grad():
                    features = self.encoder(images)
                rate = schedule.rate(meta_epoch, index, batches)
                losses.append(trainer.update(features, rate, meta_epoch + 1))
                index += 1
        if self.aggregation == "train":
            self._set_maxima(train)
        return {"loss": float(torch.cat(losses).mean()), "lr": rate}

    @torch.no_grad()
    def _set_maxima(self, train: Images) -> None:
        """Largest log-likelihood of each level over the training images, not augmented."""
        tops = [
            torch.stack([q.max() for q in self.raw(images)]) for images in train.batches(self.batch)
        ]
        self.maxima = torch.stack(tops).amax(0).double().cpu()

    def _score(self) -> Scorer:
        if self._scorer is None:
            self._scorer = Scorer(
                self.encoder,
                list(self.decoders),
                self._condition,
                self.clamp,
                self.precision,
                self.decode_mb,
            )
        return self._scorer


def deepest_layers(backbone: str, levels: int) -> list[int]:
    """timm's `out_indices` of the last `levels` feature maps.

    Raises:
        MethodError: an unknown name, or a network that has fewer.
    """
    split_name(backbone)
    with torch.device("meta"):
        count = len(getattr(timm.create_model(backbone), "feature_info", None) or ())
    if levels > count:
        choices = f"choose 1 to {count}" if count else "choose another backbone, such as resnet18"
        raise MethodError(
            f"cflow: levels={levels}, but {backbone} has {count} feature maps; {choices}"
        )
    return list(range(count - levels, count))


def reflect_padding(encoder: Backbone, image_size: tuple[int, int]) -> None:
    """Let every padded convolution reflect, as the published private copy of ResNet does.

    Raises:
        MethodError: a convolution that pads on its own, or images too small to reflect.
    """
    # Of a named module it is unknown where the network takes images of one size alone.
    strides = [stride for stride in encoder.strides if stride is not None] or [1]
    if min(image_size) < 2 * max(strides):
        raise MethodError(
            f"cflow: padding='reflect' needs images of at least {2 * max(strides)} pixels for "
            f"stride {max(strides)}, got {image_size[0]} x {image_size[1]}"
        )
    for name, module in encoder.named_modules():
        if not isinstance(module, nn.Conv2d) or max(module.kernel_size) == 1:
            continue
        if type(module) is not nn.Conv2d or isinstance(module.padding, str):
            raise MethodError(
                f"cflow: padding='reflect' does not reach {name} ({type(module).__name__}), which "
                "pads on its own; choose padding='zeros' or a ResNet"
            )
        if any(module.padding):
            module.padding_mode = "reflect"


def _stacked(levels: list[Tensor]) -> Tensor:
    """(B, h, w) of each level -> (B, L, H, W), smaller ones in the corner, edges repeated."""
    height = max(q.shape[-2] for q in levels)
    width = max(q.shape[-1] for q in levels)
    grown = []
    for q in levels:
        pad = (0, width - q.shape[-1], 0, height - q.shape[-2])
        grown.append(nn.functional.pad(q[:, None], pad, mode="replicate")[:, 0])
    return torch.stack(grown, 1)
