"""Which weights a user asked for. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Weights:
    """Which weights the command line asked for.

    Attributes:
        kind: "pretrained" looks in `folder`, in installed packages, then asks the hub.
        file: the state dict, for the kind "file".
        folder: holds <name>.safetensors, .pth or .pt.
    """

    kind: Literal["pretrained", "random", "file"]
    file: Path | None = None
    folder: Path | None = None
