"""Features of a picture at three sizes, by an EfficientNet padded as one of three releases does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from bench.api import MethodError

from .flow import SCALES

if TYPE_CHECKING:
    from collections.abc import Callable

PaddingRule = Literal["0.7.1", "0.7.0", "0.6.3", "own"]

# From which of the convolutions of stride 2 on, counted from the stem, as many zeros are put before
# the first pixel as behind the last. The earlier ones have one less before: all but the last zero
# of an even input, as TensorFlow pads. "0.6.3" pads all of them so, as timm's tf_ networks do.
_CENTRED_FROM = {"0.6.3": 5, "0.7.0": 0, "0.7.1": 3}
_STRIDED = 5


class FixedPadding(nn.Module):
    """A convolution whose input is padded by fixed numbers of zeros, not the same on both sides."""

    def __init__(self, convolution: nn.Conv2d, before: int, behind: int) -> None:
        super().__init__()
        self.weight, self.bias = convolution.weight, convolution.bias
        self.stride, self.groups = convolution.stride, convolution.groups
        self.margins = (before, behind, before, behind)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.pad(x, self.margins)
        return functional.conv2d(x, self.weight, self.bias, self.stride, groups=self.groups)


def set_padding(net: nn.Module, rule: PaddingRule) -> None:
    """Pad an EfficientNet's convolutions of stride 2 as a release of efficientnet_pytorch does.

    The published code takes the network from that package, whose padding changed with each release.

    Args:
        net: timm's network; changed in place.
        rule: the release; "own" leaves the network alone.

    Raises:
        MethodError: no EfficientNet, for which the rules are made.
    """
    if rule == "own":
        return
    strided = [
        (name, module)
        for name, module in net.named_modules()
        if isinstance(module, nn.Conv2d) and module.stride == (2, 2)
    ]
    named = [n for n, _ in strided if n == "conv_stem" or n.endswith(".conv_dw")]
    if not named or len(named) != len(strided) or len(named) > _STRIDED:
        raise MethodError(
            f"csflow: padding = {rule!r} is a rule of EfficientNet, and the backbone is none; "
            "choose padding = 'own', or tf_efficientnet_b5"
        )
    for number, (name, convolution) in enumerate(strided):
        behind = convolution.kernel_size[0] // 2
        before = behind if number >= _CENTRED_FROM[rule] else behind - 1
        parent, _, child = name.rpartition(".")
        setattr(net.get_submodule(parent), child, FixedPadding(convolution, before, behind))


def three_sizes(images: Tensor) -> list[Tensor]:
    """The images, and every 2nd and 4th pixel of theirs: torch's default interpolation."""
    return [images[..., :: 2**scale, :: 2**scale] for scale in range(SCALES)]


def features_of(encoder: Callable[[Tensor], list[Tensor]], images: Tensor) -> list[Tensor]:
    """(B, 3, H, W) images -> (B, C, h, w), (B, C, h / 2, w / 2), (B, C, h / 4, w / 4).

    Raises:
        MethodError: a network whose maps do not halve with the image.
    """
    with torch.no_grad():
        features = [encoder(x.contiguous())[0] for x in three_sizes(images)]
    height, width = features[0].shape[-2:]
    sizes = [tuple(x.shape[-2:]) for x in features]
    if sizes != [(height >> scale, width >> scale) for scale in range(SCALES)]:
        text = ", ".join(f"{h}x{w}" for h, w in sizes)
        raise MethodError(
            f"csflow: the backbone's maps of the three image sizes are {text} and do not halve; "
            "choose another layer or backbone"
        )
    return features
