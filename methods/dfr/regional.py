"""Regional features: taps of a VGG stretched to one size, averaged over cells and joined.

Stretching and averaging are linear and act on rows and columns apart, so a layer's part of the
result is A F B^T with one small matrix for each side; the stretched maps are never made.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from bench.api import MethodError, nearest
from bench.blocks.layout import fast_layout

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.api import Backbone

Padding = Literal["reflect", "zeros"]
Upsample = Literal["bilinear", "nearest"]

_NAME = re.compile(r"relu([1-9]\d*)_([1-9]\d*)")


def deepest_block(layers: Sequence[str]) -> int:
    """Number of the last block of convolutions that the layers need, from 1.

    Raises:
        ValueError: a name of another form than "relu3_2"; see `are_activations`.
    """
    found = [_NAME.fullmatch(name) for name in layers]
    if None in found:
        raise ValueError(f"{layers}: not all are activations of a VGG")
    return max(int(match[1]) for match in found if match)


def are_activations(layers: Sequence[str]) -> bool:
    """Whether these are names of a VGG's activations, and not of a network's modules."""
    return all(_NAME.fullmatch(name) for name in layers)


class Modules(nn.Module):
    """Outputs of a network's named modules, padded as the network pads: DFR on any backbone.

    Attributes:
        names, channels: as of `Taps`.
    """

    def __init__(self, extractor: Backbone, layers: Sequence[str]) -> None:
        """`extractor`: what `run.backbone` gives for these layers."""
        super().__init__()
        self.extractor = extractor
        self.names = list(layers)
        self.channels = extractor.channels

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """(B, 3, H, W) images -> (B, C, h, w) by name."""
        return dict(zip(self.names, self.extractor(images), strict=True))


class Taps(nn.Module):
    """The activations of a VGG's layers, computed as DFR does (arXiv:2012.07122).

    Convolutions pad by one pixel. In the published code the padding is a layer of its own and
    reflects, and a layer that another convolution of its block follows is tapped behind that
    convolution's padding: it is two pixels larger than its block.

    Attributes:
        names: the layers in the order of the network, which is the order of the result.
        channels: of each.
    """

    def __init__(self, net: nn.Module, layers: Sequence[str], padding: Padding) -> None:
        """`net`: timm's features of a VGG, with or without batch norm, to the last block needed.

        Raises:
            MethodError: another kind of network, or a layer that it does not have.
        """
        super().__init__()
        self.padding = padding
        blocks = _vgg_blocks(net)
        self.blocks = nn.ModuleList(nn.ModuleList(block) for block in blocks)
        known = {
            f"relu{b}_{i}": len(layers[0].weight)  # type: ignore[arg-type]
            for b, block in enumerate(blocks, 1)
            for i, layers in enumerate(block, 1)
        }
        unknown = [name for name in layers if name not in known]
        if unknown:
            raise MethodError(
                f"dfr: the backbone has no layer {unknown[0]!r}; {nearest(unknown[0], known)}"
            )
        self.names = [name for name in known if name in layers]
        self.channels = [known[name] for name in self.names]

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """(B, 3, H, W) images -> (B, C, h, w) by name; nothing behind the last is computed."""
        taps: dict[str, Tensor] = {}
        # On a CPU what follows the convolutions wants this layout, and they are no slower in it.
        x = images.contiguous(memory_format=fast_layout(images.device))
        for b, block in enumerate(self._blocks(), 1):
            if b > 1:
                x = functional.max_pool2d(x, 2)
            for i, layers in enumerate(block, 1):
                x = self._padded(x)
                if i > 1 and self.padding == "reflect":
                    self._keep(taps, f"relu{b}_{i - 1}", x)
                if len(taps) == len(self.names):
                    return taps
                x = self._activation(layers, x)
                if i == len(block) or self.padding == "zeros":
                    self._keep(taps, f"relu{b}_{i}", x)
        return taps

    def _blocks(self) -> list[list[nn.ModuleList]]:
        return [
            [layers for layers in block if isinstance(layers, nn.ModuleList)]
            for block in self.blocks
            if isinstance(block, nn.ModuleList)
        ]

    def _padded(self, x: Tensor) -> Tensor:
        if self.padding == "zeros":
            return x
        return functional.pad(x, (1, 1, 1, 1), mode="reflect")

    def _activation(self, layers: nn.ModuleList, x: Tensor) -> Tensor:
        convolution, *norms = layers
        margin = 1 if self.padding == "zeros" else 0
        x = functional.conv2d(
            x,
            convolution.weight,  # type: ignore[arg-type]
            convolution.bias,  # type: ignore[arg-type]
            padding=margin,
        )
        for norm in norms:
            x = norm(x)
        return x.relu_()

    def _keep(self, taps: dict[str, Tensor], name: str, x: Tensor) -> None:
        if name in self.names:
            taps[name] = x


def _vgg_blocks(net: nn.Module) -> list[list[nn.ModuleList]]:
    """Blocks of convolutions, each with the batch norm behind it, split at the poolings."""
    blocks: list[list[nn.ModuleList]] = [[]]
    for module in net.modules():
        if isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3) and module.groups == 1:
            blocks[-1].append(nn.ModuleList([module]))
        elif isinstance(module, nn.BatchNorm2d) and blocks[-1]:
            blocks[-1][-1].append(module)
        elif isinstance(module, nn.MaxPool2d) and blocks[-1]:
            blocks.append([])
        elif not list(module.children()) and not isinstance(module, (nn.ReLU, nn.Identity)):
            raise MethodError(
                f"dfr: the backbone has a {type(module).__name__}{_kernel(module)} and is no VGG; "
                "choose vgg19.tv_in1k, or another of timm's vgg networks"
            )
    return [block for block in blocks if block]


def _kernel(module: nn.Module) -> str:
    return f" of kernel {module.kernel_size}" if isinstance(module, nn.Conv2d) else ""


class Aggregation:
    """Brings maps to one size and averages cells of it: every layer on the same grid."""

    def __init__(
        self,
        size: tuple[int, int],
        kernel: tuple[int, int],
        stride: tuple[int, int],
        upsample: Upsample,
    ) -> None:
        """
        Args:
            size: (height, width) that every map is brought to, that of the image as published.
            kernel: (height, width) of a cell. stride: of the cells' centres.
            upsample: "bilinear" keeps the corners in place (`align_corners=True`).

        Raises:
            MethodError: a kernel or stride below 1, or a kernel larger than the padded map.
        """
        self.size, self.kernel, self.stride = size, kernel, stride
        self.upsample: Upsample = upsample
        for side, k, s in zip(size, kernel, stride, strict=True):
            if min(k, s) < 1:
                raise MethodError(f"dfr: kernel {k} and stride {s} must be at least 1")
            if k > side + 2 * max(0, (k - s) // 2):
                raise MethodError(f"dfr: kernel {k} is larger than an image side of {side} pixels")

    @property
    def grid(self) -> tuple[int, int]:
        """(height, width) of the result."""
        rows, columns = (
            (side + 2 * max(0, (k - s) // 2) - k) // s + 1
            for side, k, s in zip(self.size, self.kernel, self.stride, strict=True)
        )
        return rows, columns

    def __call__(self, maps: Sequence[Tensor]) -> Tensor:
        """(B, C_l, h_l, w_l) maps -> (B, sum of C_l, *grid), channels last in memory."""
        joined = maps[0].new_empty(len(maps[0]), *self.grid, sum(m.shape[1] for m in maps))
        start = 0
        for m in maps:
            batch, channels, height, width = m.shape
            # Channels last, both products are large ones: of rows, then of columns.
            rows = m.permute(0, 2, 3, 1).reshape(batch, height, width * channels)
            cells = (self._matrix(0, m) @ rows).view(batch, -1, width, channels)
            joined[..., start : start + channels] = self._matrix(1, m) @ cells
            start += channels
        return joined.permute(0, 3, 1, 2)

    def _matrix(self, side: int, m: Tensor) -> Tensor:
        return _cell_means(
            m.shape[2 + side],
            self.size[side],
            self.kernel[side],
            self.stride[side],
            self.upsample,
            m.dtype,
            m.device,
        )


@lru_cache(maxsize=64)
def _cell_means(
    old: int,
    new: int,
    kernel: int,
    stride: int,
    upsample: Upsample,
    dtype: torch.dtype,
    device: torch.device,
) -> Tensor:
    """(cells, old) matrix: a line of `old` samples brought to `new`, then means of its cells."""
    # The cache outlives the caller's mode: a tensor made under inference mode would not serve all.
    with torch.inference_mode(False):
        unit = torch.eye(old, dtype=torch.float64)[None]
        if upsample == "bilinear":
            lines = functional.interpolate(unit, size=new, mode="linear", align_corners=True)
        else:
            lines = functional.interpolate(unit, size=new, mode="nearest")
        margin = max(0, (kernel - stride) // 2)
        lines = functional.pad(lines, (margin, margin), mode="replicate")
        means = functional.avg_pool1d(lines, kernel, stride)
        return means[0].T.contiguous().to(device, dtype)
