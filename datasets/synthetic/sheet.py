"""A contact sheet: one good image of each category and one of each defect type, outlined.

python -m bench.plugins.datasets.synthetic.sheet docs/images/synthetic.png
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from scipy import ndimage

from .defects import SEVERITIES
from .picture import SCENES, Key, Picture, make_picture

if TYPE_CHECKING:
    from .noise import Pixels

OUTLINE = (230, 40, 40)
LINE = 2
"""Pixels between a mask and its outline, so that small defects stay visible."""


def tile(picture: Picture) -> Pixels:
    """(H, W, 3) image, the mask outlined at a small distance."""
    pixels = picture.pixels
    shown = np.repeat(pixels[..., None], 3, axis=-1) if pixels.ndim == 2 else pixels.copy()
    if picture.mask is not None:
        near, far = (ndimage.binary_dilation(picture.mask, iterations=LINE + n) for n in (0, 1))
        shown[far & ~near] = OUTLINE
    return shown


def contact_sheet(size: int, seed: int = 0) -> Pixels:
    """A row for each category: a good image, then the types; severities take turns."""
    columns = 1 + max(len(scene.types) for scene in SCENES.values())
    rows = []
    for name, scene in SCENES.items():
        keys = [Key(seed, size, name, "test", "good", 0)]
        for number, kind in enumerate(scene.types):
            severity = SEVERITIES[(number + 1) % len(SEVERITIES)]
            keys.append(Key(seed, size, name, "test", kind, 0, severity))
        tiles = [tile(make_picture(key)) for key in keys]
        tiles += [np.full_like(tiles[0], 255)] * (columns - len(tiles))
        rows.append(np.concatenate(tiles, axis=1))
    return np.concatenate(rows, axis=0)


def main() -> None:
    """Write the sheet as a PNG of few colours: noise makes a full one large."""
    parser = argparse.ArgumentParser(description="Write a contact sheet of the synthetic data set.")
    parser.add_argument("file", type=Path)
    parser.add_argument("--size", type=int, default=128, help="side of a tile in pixels")
    parser.add_argument("--colours", type=int, default=256, help="2 to 256, or 0 for all")
    options = parser.parse_args()
    sheet = Image.fromarray(contact_sheet(options.size))
    if options.colours:
        sheet = sheet.quantize(
            options.colours, Image.Quantize.MAXCOVERAGE, 2, dither=Image.Dither.NONE
        )
    options.file.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(options.file, optimize=True)


if __name__ == "__main__":
    main()
