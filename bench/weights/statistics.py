"""Mean and deviation of the images that a network was trained with: they come with its weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.blocks.architecture import Architecture

Colours = tuple[float, float, float]

_IMAGENET_MEAN: Colours = (0.485, 0.456, 0.406)
_IMAGENET_STD: Colours = (0.229, 0.224, 0.225)
_LITE_MEAN = 127 / 255
_LITE_STD = 128 / 255


@dataclass(frozen=True)
class Statistics:
    """What images were normalised with in training, RGB in 0 to 1; and who says so."""

    mean: Colours
    std: Colours
    origin: str

    @property
    def text(self) -> str:
        """For the row."""
        mean, std = (" ".join(f"{v:.6g}" for v in values) for values in (self.mean, self.std))
        return f"mean {mean}, std {std} ({self.origin})"


def statistics_of(architecture: Architecture, *, torchvision_weights: bool) -> Statistics | None:
    """The statistics of an architecture's weights; None where nobody states them.

    Args:
        torchvision_weights: the tensors had torchvision's names; it trains all its networks under
            ImageNet's statistics, timm does not.
    """
    if torchvision_weights or architecture.library == "torchvision":
        return Statistics(_IMAGENET_MEAN, _IMAGENET_STD, "torchvision")
    if architecture.name.startswith("tf_efficientnet_lite"):
        # timm's configuration says 0.5; the checkpoints were trained with (value - 127) / 128.
        return Statistics((_LITE_MEAN,) * 3, (_LITE_STD,) * 3, "as trained: (value - 127) / 128")
    import timm

    cfg = timm.get_pretrained_cfg(architecture.tagged)
    if cfg is None or cfg.mean is None or cfg.std is None:
        return None
    return Statistics(_colours(cfg.mean), _colours(cfg.std), "timm")


def _colours(values: tuple[float, ...]) -> Colours:
    first, *_ = values = tuple(map(float, values))
    return (values[0], values[1], values[2]) if len(values) == 3 else (first, first, first)
