"""One image from its key: scene, camera, mask and sensor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from . import board, bolt, brushed, capsule, stone, weave
from .camera import Camera, develop, draw_camera, harmless_marks
from .defects import Defect, Severity
from .masks import is_visible, mask_of_change
from .noise import Array, Mask, Pixels, stream

if TYPE_CHECKING:
    from .scene import Scene

SCENES: dict[str, Scene] = {
    module.SCENE.name: module.SCENE for module in (weave, brushed, stone, bolt, capsule, board)
}
ATTEMPTS = 20
CHANGED = 0.9
"""Share of the mask whose stored pixels differ from the clean image; less is drawn again."""


@dataclass(frozen=True)
class Key:
    """Everything that determines one image; no other image has a part in it.

    Attributes:
        kind: "good", or the defect type.
        index: number within its folder.
        severity: None for a good image.
    """

    seed: int
    size: int
    category: str
    split: Literal["train", "test"]
    kind: str
    index: int
    severity: Severity | None = None

    def stream(self, purpose: str, attempt: int = 0) -> np.random.Generator:
        """The generator of one purpose; the severity changes the defect only."""
        words = (self.category, self.split, self.kind, self.index, purpose, attempt)
        return stream(self.seed, *words)


@dataclass(frozen=True)
class Picture:
    """An image as stored.

    Attributes:
        pixels: (H, W, 3), or (H, W) for a grey category.
        mask: (H, W), None for a good image.
        clean: the same image without its defect, None for a good image.
    """

    pixels: Pixels
    mask: Mask | None = None
    clean: Pixels | None = None


def make_picture(key: Key) -> Picture:
    """Render one image. The same key gives the same pixels, whatever else is made."""
    scene = SCENES[key.category]
    camera = draw_camera(key.stream("camera"), key.size, scene.channels)
    dust = harmless_marks(key.stream("dust"), key.size)[..., None]
    noise = key.stream("sensor").standard_normal((key.size, key.size, scene.channels))
    clean = camera.expose(scene.render(key.stream("scene"), key.size, None) + dust)
    stored = develop(clean, noise)
    if key.severity is None:
        return Picture(stored)
    for attempt in range(ATTEMPTS):
        found = _spoil(key, scene, camera, dust, clean, attempt)
        if found is None:
            continue
        image, mask = found
        pixels = develop(image, noise)
        changed = pixels != stored
        changed = changed if changed.ndim == 2 else changed.any(-1)
        if changed[mask].mean() >= CHANGED:
            return Picture(pixels, mask, stored)
    raise RuntimeError(f"{key}: no visible defect in {ATTEMPTS} attempts")


def _spoil(
    key: Key, scene: Scene, camera: Camera, dust: Array, clean: Array, attempt: int
) -> tuple[Array, Mask] | None:
    """The image with its defect and the mask; None where the defect cannot be seen."""
    assert key.severity is not None
    # A defect that could not be seen comes back elsewhere, and each time a little larger.
    defect = Defect(key.kind, key.severity, key.stream("defect", attempt), 1.0 + 0.06 * attempt)
    spoiled = camera.expose(scene.render(key.stream("scene"), key.size, defect) + dust)
    change = np.abs(spoiled - clean).max(-1)
    mask = mask_of_change(change, fill=key.kind in scene.shape_types)
    if not is_visible(change, mask):
        return None
    return np.where(mask[..., None], spoiled, clean), mask
