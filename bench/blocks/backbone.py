"""Feature maps of a network: which layers exist, in which order, and their sizes."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn

from bench.blocks.architecture import Architecture, find_architecture, split_name
from bench.blocks.layout import fast_layout
from bench.blocks.taps import Taps, find_taps, gives_channels_last
from bench.errors import MethodError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from bench.api import Backbone as Extractor
else:
    Extractor = nn.Module

__all__ = ["Backbone", "build_backbone", "split_name"]

# The harness normalises images with these; a network may have been trained with others.
_MEAN = torch.tensor((0.485, 0.456, 0.406))
_STD = torch.tensor((0.229, 0.224, 0.225))


class Backbone(Extractor):
    """A feature extractor.

    Attributes:
        name: the library's, as it was asked for.
        net: the library's network.
        layers: as requested: numbers of timm, or names of modules.
        channels: channels of each requested layer, in the order requested.
        strides: input pixels per cell of each requested layer; None: not known.
        scoring: the type that products and convolutions take in scoring.
        is_scoring: whether a method predicts; the harness says so.
        cache: stands before `compute`, where the harness keeps features for later cells.
    """

    channels: list[int]
    strides: list[int | None]
    scoring = torch.float32
    is_scoring = False
    cache: Callable[[Backbone, Tensor], list[Tensor]] | None = None

    def __init__(
        self, name: str, net: nn.Module, layers: Sequence[int | str], taps: Taps | None = None
    ) -> None:
        """
        Args:
            net: without `taps`, timm's extractor of `sorted(set(layers))`.
            taps: how the outputs of named modules are read from the whole network.
        """
        super().__init__()
        self.name = name
        self.net = net
        self.layers = tuple(layers)
        self.taps = taps
        # timm returns the layers in the order of the network, whatever order was asked for.
        numbers = [layer for layer in layers if isinstance(layer, int)]
        self.order = [sorted(set(numbers)).index(number) for number in numbers]
        self._channels_last = gives_channels_last(net)
        self.source = self.statistics = ""
        self.register_buffer("_scale", None, persistent=False)
        self.register_buffer("_shift", None, persistent=False)

    def expect(self, mean: Sequence[float], std: Sequence[float]) -> None:
        """Have images, normalised by ImageNet's statistics, brought to these instead."""
        target_mean, target_std = torch.tensor(tuple(mean)), torch.tensor(tuple(std))
        if torch.equal(target_mean, _MEAN) and torch.equal(target_std, _STD):
            return
        self._scale = (_STD / target_std).view(1, 3, 1, 1)
        self._shift = ((_MEAN - target_mean) / target_std).view(1, 3, 1, 1)

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) images, ImageNet-normalised -> (B, C_l, H_l, W_l) for each layer."""
        return self.compute(images) if self.cache is None else self.cache(self, images)

    def compute(self, images: Tensor) -> list[Tensor]:
        """The same, by running the network."""
        if self._scale is not None:
            images = images * self._scale + self._shift
        images = images.contiguous(memory_format=fast_layout(images.device))
        reduced = self.is_scoring and self.scoring != torch.float32
        try:
            with torch.autocast(images.device.type, self.scoring) if reduced else nullcontext():
                features = self._features(images)
        except AssertionError as error:
            # timm asserts that a transformer's patches tile the image.
            size = f"{images.shape[-2]}x{images.shape[-1]}"
            raise MethodError(
                f"{self.name} cannot read {size} images: {error}; choose another image size"
            ) from error
        if self._channels_last:
            features = [feature.permute(0, 3, 1, 2) for feature in features]
        # Distances between features cancel: methods compute them in float32.
        return [feature.float() for feature in features] if reduced else features

    def _features(self, images: Tensor) -> list[Tensor]:
        if self.taps is not None:
            return self.taps.read(self.net, images)
        found = cast("list[Tensor]", self.net(images))
        return [found[i] for i in self.order]


def build_backbone(name: str, layers: Sequence[int] | Sequence[str]) -> Backbone:
    """The extractor of some layers of a network, with whatever weights its library draws.

    Args:
        name: timm's or torchvision's name, with or without a tag.
        layers: timm's `out_indices`, or names of modules.

    Raises:
        MethodError: unknown name, a layer that does not exist, a network without feature maps.
    """
    architecture = find_architecture(name)
    names = [layer for layer in layers if isinstance(layer, str)]
    numbers = [layer for layer in layers if not isinstance(layer, str)]
    if names and numbers:
        raise MethodError(
            f"backbone {name}: layers {tuple(layers)} are numbers and names; use one of the two"
        )
    return _build_named(name, architecture, names) if names else _build(name, architecture, numbers)


def _build_named(name: str, architecture: Architecture, layers: Sequence[str]) -> Backbone:
    tapped = find_taps(name, architecture, layers)
    net = architecture.create()
    tapped.cut(net)
    backbone = Backbone(name, net, layers, tapped.taps)
    backbone.channels = [shape[0] for shape in tapped.shapes]
    backbone.strides = tapped.strides
    return backbone


def _build(name: str, architecture: Architecture, layers: Sequence[int]) -> Backbone:
    if architecture.library == "torchvision":
        raise MethodError(
            f"backbone {name} is torchvision's, which numbers no layers; name modules, as "
            "'features.4'"
        )
    with torch.device("meta"):
        known = getattr(architecture.create(), "feature_info", None)
    if not known:
        raise MethodError(f"backbone {name} has no feature maps; choose another network")
    missing = [layer for layer in layers if layer not in range(len(known))]
    if missing or not layers:
        wrong = f"layer {missing[0]}" if missing else "no layers"
        raise MethodError(
            f"backbone {name}: {wrong} requested; choose layers from 0 to {len(known) - 1}"
        )
    try:
        net = architecture.create(features_only=True, out_indices=tuple(sorted(set(layers))))
    except (RuntimeError, AttributeError, AssertionError) as error:
        raise MethodError(
            f"backbone {name} gives no feature maps for layers {tuple(layers)} ({error}); choose "
            "other layers or another network"
        ) from error
    backbone = Backbone(name, net, layers)
    info: Any = net.feature_info
    backbone.channels = [info.channels()[i] for i in backbone.order]
    backbone.strides = [info.reduction()[i] for i in backbone.order]
    return backbone
