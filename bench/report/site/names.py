"""How pages name things: files, encoders and what they were trained on, papers, protocols."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bench.rows.row import Row

NONE = "none"
IMAGENET = "ImageNet"
EXTRA = "extra data"
UNKNOWN = "not stated"
PRIORS = (NONE, IMAGENET, EXTRA, UNKNOWN)
"""What an encoder has seen before, as tables of the field group methods."""

_MORE_DATA = (
    *("in12k", "in21k", "in22k", "jft", "ns", "ig1b", "yfcc", "laion", "openai", "dino", "lvd"),
    *("webli", "merged", "dfn", "datacomp", "metaclip", "cc12m", "inat", "swsl", "clip", "coco"),
    *("places", "sa1b"),
)
"""How words of timm's weight tags begin that name data beyond ImageNet-1k."""

_LABELS = {
    "resnet18": "ResNet18",
    "resnet50": "ResNet50",
    "resnet101": "ResNet101",
    "wide_resnet50_2": "WRN50",
    "wide_resnet101_2": "WRN101",
    "mobilenetv3_large_100": "MobileNetV3L",
    "efficientnet_b5": "EfficientNet-B5",
    "tf_efficientnet_b5": "EfficientNet-B5",
}
"""timm's names of networks as papers call them, so that one filter finds both."""


def slug(name: str) -> str:
    """A file name without suffix, the same for the same text and different for others.

    Letters, digits, `_` and `-` stay; a text that holds anything else, or capitals, which some
    file systems do not tell apart, gets a hash.
    """
    clean = re.sub(r"[^a-z0-9_-]+", "-", name.lower()).strip("-")[:60]
    if clean and clean == name:
        return clean
    return f"{clean}-{hashlib.sha256(name.encode()).hexdigest()[:8]}".lstrip("-")


def networks(row: Row) -> list[str]:
    """timm names of the encoders: "resnet18.tv_in1k"; none where a method has no encoder."""
    if row.weights in ("", "none"):
        return []
    return [re.split(r"[@\[]", part, maxsplit=1)[0] for part in row.weights.split(", ")]


def backbone(row: Row) -> str:
    """The encoders as papers call them."""
    archs = dict.fromkeys(name.partition(".")[0] for name in networks(row))
    return ", ".join(_LABELS.get(arch, arch) for arch in archs) or NONE


def prior(row: Row) -> str:
    """What a method has seen beside the training images, by the tag of its encoder's weights.

    timm's tags name the data: "tv_in1k" is ImageNet-1k alone, "ns_jft_in1k" and every tag without
    "in1k" are more. A weights file says nothing of its training. Auxiliary pictures are extra data.
    """
    if "@" in row.auxiliary:
        return EXTRA
    found = networks(row)
    if not found or row.pretrained == "random":
        return NONE
    if row.pretrained.startswith("file:"):
        return UNKNOWN
    return max((_prior(name) for name in found), key=PRIORS.index)


def _prior(name: str) -> str:
    tag = name.partition(".")[2]
    if not tag:
        return UNKNOWN
    words = tag.split("_")
    more = any(word.startswith(_MORE_DATA) for word in words)
    return IMAGENET if "in1k" in words and not more else EXTRA


def printed_prior(encoder: str) -> str:
    """The same for the encoder that a paper names; papers' networks are ImageNet's."""
    return {"": UNKNOWN, NONE: NONE}.get(encoder, IMAGENET)


def venue(paper: Mapping[str, str]) -> str:
    """Where and when a paper appeared: "CVPR 2022, pp. 1-10"."""
    name, comma, pages = paper["venue"].partition(", ")
    return f"{name} {paper['year']}".strip() + comma + pages


def capital(text: str) -> str:
    """Text that begins with a capital, but a symbol with its number, as p50."""
    return text if text[1:2].isdigit() else text[:1].upper() + text[1:]


def protocol_words(fields: Mapping[str, Any]) -> str:
    """The fields of a protocol as one sentence; a field that is not known here as it stands."""
    left = dict(fields)
    left.pop("published", None)
    parts = [_size(left.pop("resize", None), left.pop("resample", ""))]
    crop = left.pop("crop", None)
    parts.append(f"centre crop {crop}" if crop else "no crop")
    parts.append(_masks(left.pop("mask_size", "input"), left.pop("mask_resample", "nearest")))
    score = left.pop("image_score", "method")
    parts.append("image score of the method" if score == "method" else f"image score: {score}imum")
    epoch = left.pop("epoch", "last")
    parts.append(_EPOCHS.get(epoch, f"epoch {epoch}"))
    parts += [f"{key} = {value}" for key, value in sorted(left.items())]
    return "; ".join(part for part in parts if part)


_EPOCHS = {
    "last": "last epoch",
    "oracle": "epoch chosen on the test set (†)",
    "oracle-per-metric": "epoch chosen on the test set for each metric (†)",
}


def _size(resize: Any, resample: str) -> str:
    if resize is None:
        return ""
    by = f", {resample}" if resample else ""
    if isinstance(resize, (list, tuple)):
        return f"images {' × '.join(map(str, resize))}{by}"
    if resize == "method":
        return f"input size of the method{by}"
    return f"shorter side {resize}{by}"


def _masks(size: Any, resample: str) -> str:
    where = {"input": "at the input's size", "native": "at their own size"}
    return f"masks {where.get(size, f'with shorter side {size}')}, {resample}"
