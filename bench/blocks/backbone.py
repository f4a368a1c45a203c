"""Feature maps of a timm network: which layers exist, in which order, and their sizes.

timm is imported where it is used: it takes seconds, and a method without a backbone needs none.
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn

from bench.errors import MethodError, nearest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

# The harness normalises images with these; a network may have been trained with others.
_MEAN = torch.tensor((0.485, 0.456, 0.406))
_STD = torch.tensor((0.229, 0.224, 0.225))


class Backbone(nn.Module):
    """A frozen timm feature extractor.

    Attributes:
        name: timm's name.
        channels: channels of each requested layer, in the order requested.
        strides: input pixels per cell of each requested layer.
    """

    def __init__(self, name: str, net: nn.Module, layers: Sequence[int]) -> None:
        """Wrap `net`, timm's extractor of `sorted(set(layers))`, whatever order it returns."""
        super().__init__()
        self.name = name
        self.net = net
        self.layers = tuple(layers)
        info: Any = net.feature_info
        # timm returns the layers in the order of the network, whatever order was asked for.
        self._order = [sorted(set(layers)).index(layer) for layer in layers]
        self.channels: list[int] = [info.channels()[i] for i in self._order]
        self.strides: list[int] = [info.reduction()[i] for i in self._order]
        self._channels_last = str(getattr(net, "output_fmt", "")).endswith("NHWC")
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
        if self._scale is not None:
            images = images * self._scale + self._shift
        if images.device.type == "cpu":
            # oneDNN convolves this layout up to half again as fast, with the same weights.
            images = images.contiguous(memory_format=torch.channels_last)
        try:
            features = cast("list[Tensor]", self.net(images))
        except AssertionError as error:
            # timm asserts that a transformer's patches tile the image.
            size = f"{images.shape[-2]}x{images.shape[-1]}"
            raise MethodError(
                f"{self.name} cannot read {size} images: {error}; choose another image size"
            ) from error
        if self._channels_last:
            features = [feature.permute(0, 3, 1, 2) for feature in features]
        return [features[i] for i in self._order]


def split_name(name: str) -> tuple[str, str]:
    """Architecture and tag of a timm name; the default tag where the name has none.

    Raises:
        MethodError: no such network, or no such tag; the message names the nearest.
    """
    import timm

    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        close = difflib.get_close_matches(architecture, timm.list_models(), n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(close)}? " if close else ""
        raise MethodError(
            f"unknown backbone {name!r}; {hint}timm.list_models() in Python lists all of them"
        )
    tags = [known.partition(".")[2] for known in timm.list_pretrained(f"{architecture}.*")]
    if tag and tag not in tags:
        raise MethodError(f"backbone {architecture} has no weights {tag!r}; {nearest(tag, tags)}")
    default = timm.get_pretrained_cfg(architecture)
    return architecture, tag or (default.tag if default is not None else "") or ""


def create_network(name: str, **options: Any) -> nn.Module:
    """timm's network, made to accept any image size that its patches tile."""
    import timm

    cfg = timm.get_pretrained_cfg(name)
    if cfg is not None and cfg.fixed_input_size:
        # Vision transformers interpolate their position code only when told to; relatives of
        # theirs do not know the option and keep their size.
        try:
            return timm.create_model(name, dynamic_img_size=True, **options)
        except TypeError as error:
            if "dynamic_img_size" not in str(error):
                raise
    return timm.create_model(name, **options)


def build_backbone(name: str, layers: Sequence[int]) -> Backbone:
    """The extractor of some layers of a timm network, with whatever weights timm draws.

    Args:
        name: timm's name, with or without a tag.
        layers: timm's `out_indices`.

    Raises:
        MethodError: unknown name, a layer that does not exist, a network without feature maps.
    """
    import timm

    split_name(name)
    with torch.device("meta"):
        known = getattr(timm.create_model(name), "feature_info", None)
    if not known:
        raise MethodError(f"backbone {name} has no feature maps; choose another network")
    missing = [layer for layer in layers if layer not in range(len(known))]
    if missing or not layers:
        wrong = f"layer {missing[0]}" if missing else "no layers"
        raise MethodError(
            f"backbone {name}: {wrong} requested; choose layers from 0 to {len(known) - 1}"
        )
    try:
        net = create_network(name, features_only=True, out_indices=tuple(sorted(set(layers))))
    except (RuntimeError, AttributeError, AssertionError) as error:
        raise MethodError(
            f"backbone {name} gives no feature maps for layers {tuple(layers)} ({error}); choose "
            "other layers or another network"
        ) from error
    return Backbone(name, net, layers)
