"""Names of the `efficientnet_pytorch` family in timm's networks."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

_TOP = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2"}
_BLOCK = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
_PLAIN_BLOCK = {
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn1",
    "_project_conv": "conv_pw",
    "_bn2": "bn2",
}
"""Of the first stage, whose blocks have no expansion."""


def lite_to_timm(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`state` under the names of `expected`, timm's network without its classifier.

    Theirs counts the blocks through all stages, timm's within each: `_blocks.3` is `blocks.2.0`
    where the first two stages have three blocks. A state in other names comes back as it is.
    """
    if "_conv_stem.weight" not in state:
        return dict(state)
    places = list(
        dict.fromkeys(m[0] for key in expected if (m := re.match(r"blocks\.\d+\.\d+", key)))
    )
    renamed = {}
    for key, value in state.items():
        part, _, rest = key.partition(".")
        if part == "_blocks":
            number, name, end = rest.split(".", 2)
            if int(number) >= len(places):
                return dict(state)
            place = places[int(number)]
            names = _BLOCK if f"{place}.conv_pwl.weight" in expected else _PLAIN_BLOCK
            renamed[f"{place}.{names.get(name, name)}.{end}"] = value
        elif part in _TOP:
            renamed[f"{_TOP[part]}.{rest}"] = value
        elif part != "_fc":
            renamed[key] = value
    return renamed
