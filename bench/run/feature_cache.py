"""Features of frozen networks that one cell computes and later cells read, bit for bit the same.

Libraries choose their kernels by the shape of a batch, so that the last bits of a feature depend on
the size of the batch that its image came in (EfficientNet-Lite0 on a CPU: 8 and 17 images give
other bits), and might depend on the image's place in it. An entry is therefore known by the image
and by what the network does, at that place of a batch of that size, to a fixed picture: sums in
another order, other weights or another padding bring that picture out with other bits.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Any

import torch

from bench.files.tensors import WHOLE
from bench.rows.provenance import cpu_name
from bench.run.feature_store import FeatureStore

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from torch import Tensor

    from bench.blocks.backbone import Backbone

FOLDER = "features"
"""Below the folder of caches."""
FORMAT = 1
"""Of entries; another one is not read."""


class FeatureCache:
    """What the networks of a cell read and store.

    Attributes:
        is_open: False: networks compute, as if there were no cache.
        in_training: whether a network was asked while the method did not predict.
        images_read: images whose features were read instead of computed.
        images_computed: images whose features were not there.
    """

    def __init__(self, store: FeatureStore) -> None:
        self.store = store
        self.is_open = True
        self.in_training = False
        self.images_read = self.images_computed = 0

    def serve(self, backbone: Backbone, identity: str) -> None:
        """Let a network read and store its features.

        Args:
            identity: of its weights.
        """
        backbone.cache = _Reader(self, identity, _hooks(backbone))

    def close(self) -> None:
        """From here on networks compute: what they cost is to be measured."""
        self.is_open = False


def open_cache(
    folder: Path | None, limit_mb: float, device: torch.device, warn: Callable[[str], None]
) -> FeatureCache | None:
    """The cache below a folder; None: there is to be none, or the device is no CPU.

    Args:
        limit_mb: 10^6 bytes of all entries together; 0: no cache.
        warn: called with one line where the cache cannot be used as asked.
    """
    if folder is None or not limit_mb:
        return None
    if device.type != "cpu":
        warn(f"feature cache: for CPUs alone; {device} computes every feature")
        return None
    return FeatureCache(FeatureStore(folder / FOLDER, limit_mb, warn))


@dataclass
class _Reader:
    """Stands before one network. A copy of the network has none: it may be changed.

    Attributes:
        hooks: that the library set inside the network.
    """

    cache: FeatureCache
    identity: str
    hooks: int
    _known: dict[Any, list[list[str]]] = field(default_factory=dict)

    def __deepcopy__(self, _memo: dict[int, Any]) -> None:
        return None

    def __call__(self, backbone: Backbone, images: Tensor) -> list[Tensor]:
        """(B, C_l, h_l, w_l) for each layer: read where all are there, else computed and stored."""
        if not self.cache.is_open or not self._is_repeatable(backbone, images):
            return backbone.compute(images)
        self.cache.in_training |= not backbone.is_scoring
        names = self._names(backbone, images)
        found = self._read(names)
        if found is not None:
            self.cache.images_read += len(images)
            return found
        features = backbone.compute(images)
        for layer, feature in zip(names, features, strict=True):
            self._write(layer, feature)
        self.cache.images_computed += len(images)
        return features

    def _is_repeatable(self, backbone: Backbone, images: Tensor) -> bool:
        """Whether a frozen network sees images of the data set, and is asked for features alone."""
        return (
            bool(getattr(images, WHOLE, False))
            and images.device.type == "cpu"
            and not images.requires_grad
            and not any(parameter.requires_grad for parameter in backbone.parameters())
            and not any(module.training for module in backbone.modules())
            and _hooks(backbone) == self.hooks
        )

    def _names(self, backbone: Backbone, images: Tensor) -> list[list[str]]:
        """Of the entries: for each layer, of each image."""
        pixels = [_digest(image) for image in images]
        return [
            [_digest(place, image) for place, image in zip(places, pixels, strict=True)]
            for places in self._places(backbone, tuple(images.shape))
        ]

    def _places(self, backbone: Backbone, shape: tuple[int, ...]) -> list[list[str]]:
        """For each layer, what the network does to a picture at each place of a batch."""
        mode = (torch.is_grad_enabled(), torch.is_inference_mode_enabled())
        state = (_condition(backbone), _state(backbone), mode)
        batch, alone = (state, shape), (state, (1, *shape[1:]))
        if alone not in self._known:
            self._known[alone] = self._looked(backbone, alone[1])
        if batch not in self._known:
            self._known[batch] = self._noted(backbone, shape, self._known[alone])
        return self._known[batch]

    def _noted(
        self, backbone: Backbone, shape: tuple[int, ...], alone: Sequence[Sequence[str]]
    ) -> list[list[str]]:
        """The same, as an earlier cell found out; else found out and noted."""
        asked = (_condition(backbone), shape)
        names = [_digest("places", asked, one) for (one,) in alone]
        notes = [self.cache.store.read(name) for name in names]
        read = [_texts(note["places"]) for note in notes if note is not None]
        if len(read) == len(names):
            return read
        found = self._looked(backbone, shape)
        for name, places in zip(names, found, strict=True):
            self.cache.store.write(name, {"places": _bytes(places)})
        return found

    def _looked(self, backbone: Backbone, shape: tuple[int, ...]) -> list[list[str]]:
        """What a batch of one fixed picture, repeated, becomes."""
        generator = torch.Generator().manual_seed(0)
        picture = torch.randn(1, *shape[1:], generator=generator)
        features = backbone.compute(picture.expand(shape).contiguous())
        machine = (FORMAT, torch.__version__, cpu_name(), torch.backends.cpu.get_cpu_capability())
        return [
            [_digest(machine, self.identity, layer, _layout(f), _digest(row)) for row in f]
            for layer, f in zip(backbone.layers, features, strict=True)
        ]

    def _read(self, names: Sequence[Sequence[str]]) -> list[Tensor] | None:
        """(B, C, h, w) of each layer, laid out as it was computed; None where one is missing."""
        features = []
        for layer in names:
            rows = []
            for name in layer:
                entry = self.cache.store.read(name)
                if entry is None:
                    return None
                ((layout, row),) = entry.items()
                rows.append(row)
            batch = torch.stack(rows)
            features.append(batch if layout == "chw" else batch.permute(0, 3, 1, 2))
        return features

    def _write(self, names: Sequence[str], feature: Tensor) -> None:
        if layout := _layout(feature):
            rows = feature if layout == "chw" else feature.permute(0, 2, 3, 1)
            for name, row in zip(names, rows, strict=True):
                self.cache.store.write(name, {layout: row})


def _hooks(backbone: Backbone) -> int:
    """Hooks inside the network, which would not be called where features are read."""
    modules = list(backbone.net.modules())
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in modules)


def _condition(backbone: Backbone) -> tuple[Any, ...]:
    """What a library may choose its kernels by, beside the shape."""
    one = torch.ones(1, 1)
    return (
        str(backbone.scoring if backbone.is_scoring else torch.float32),
        str((one @ one).dtype),  # another one under autocast
        torch.get_num_threads(),
    )


def _state(backbone: Backbone) -> tuple[tuple[int, int], ...]:
    """Another one once a parameter or a buffer was written to, or replaced."""
    tensors = chain(backbone.parameters(), backbone.buffers())
    return tuple((t.data_ptr(), 0 if t.is_inference() else t._version) for t in tensors)


def _layout(feature: Tensor) -> str:
    """In which order the numbers of an image lie; empty: in another one."""
    if feature.ndim != 4:
        return ""
    _, channels, height, width = feature.shape
    whole = channels * height * width
    if feature.stride() == (whole, height * width, width, 1):
        return "chw"
    return "hwc" if feature.stride() == (whole, 1, width * channels, channels) else ""


def _digest(*parts: object) -> str:
    """32 hex digits of texts, numbers and tensors."""
    found = hashlib.blake2b(digest_size=16)
    for part in parts:
        if isinstance(part, torch.Tensor):
            found.update(f"{part.dtype} {tuple(part.shape)}".encode())
            found.update(part.detach().contiguous().view(torch.uint8).flatten().numpy().data)
        else:
            found.update(f"{part!r}\n".encode())
    return found.hexdigest()


def _bytes(places: Sequence[str]) -> Tensor:
    """(B, 16) uint8."""
    return torch.tensor([list(bytes.fromhex(place)) for place in places], dtype=torch.uint8)


def _texts(places: Tensor) -> list[str]:
    """The inverse."""
    return [bytes(row).hex() for row in places.tolist()]
