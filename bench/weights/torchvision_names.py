"""Names of torchvision's tensors in timm's networks, where the two differ."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

# ResNet, WideResNet, ResNeXt, VGG and DenseNet have the same names in both.
_TRANSFORMER = (
    (r"^class_token$", "cls_token"),
    (r"^conv_proj\.", "patch_embed.proj."),
    (r"^encoder\.pos_embedding$", "pos_embed"),
    (r"^encoder\.ln\.", "norm."),
    (r"^encoder\.layers\.encoder_layer_(\d+)\.", r"blocks.\1."),
    (r"\.ln_([12])\.", r".norm\1."),
    (r"\.self_attention\.in_proj_", ".attn.qkv."),
    (r"\.self_attention\.out_proj\.", ".attn.proj."),
    (r"\.mlp\.(?:0|linear_1)\.", ".mlp.fc1."),
    (r"\.mlp\.(?:3|linear_2)\.", ".mlp.fc2."),
)
# torchvision's batch norms of these add 1e-3 to the variance, timm's 1e-5.
_LARGE_EPSILON = ("mobilenetv3", "efficientnet_b5", "efficientnet_b6", "efficientnet_b7")


def to_timm(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`state` under the names of `expected`, timm's network without its classifier.

    A state that is in no known torchvision form comes back as it is.
    """
    if "conv_proj.weight" in state:
        return {_rename(key): value for key, value in state.items()}
    if "features.0.0.weight" in state and "conv_stem.weight" in expected:
        return _by_order(state, expected)
    return dict(state)


def norm_epsilon(name: str) -> float | None:
    """What torchvision's batch norms of a timm network add, where timm's add something else."""
    return 1e-3 if name.startswith(_LARGE_EPSILON) else None


def _rename(key: str) -> str:
    for pattern, replacement in _TRANSFORMER:
        key = re.sub(pattern, replacement, key)
    return key


def _by_order(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Match MobileNets and EfficientNets tensor by tensor: both list them in the same order."""
    theirs = [key for key in state if not key.endswith("num_batches_tracked")]
    ours = [key for key in expected if not key.endswith("num_batches_tracked")]
    # Our list may go on: the last layer of some heads is a convolution in timm.
    pairs = list(zip(theirs, ours, strict=False))
    same = all(state[a].shape == expected[b].shape for a, b in pairs)
    if len(theirs) > len(ours) or not same:
        return dict(state)
    return {b: state[a] for a, b in pairs}
