"""Tiny data sets on disk: one category of every file-based adapter, as it should look."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from bench.plugins.datasets.btad import BTAD
from bench.plugins.datasets.folder import Folder
from bench.plugins.datasets.mvtec import MVTec
from bench.plugins.datasets.visa import VisA

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bench.api import Dataset


@dataclass
class Layout:
    """Where a data set keeps the parts of one category, below its root."""

    make: Callable[..., Dataset]
    category: str
    train: str
    good: str
    bad: str
    masks: str
    image: str = "{}.png"
    mask: str = "{}_mask.png"


LAYOUTS = {
    "mvtec": Layout(
        MVTec,
        "bottle",
        "bottle/train/good",
        "bottle/test/good",
        "bottle/test/crack",
        "bottle/ground_truth/crack",
    ),
    "btad": Layout(
        BTAD,
        "01",
        "01/train/ok",
        "01/test/ok",
        "01/test/ko",
        "01/ground_truth/ko",
        image="{}.bmp",
        mask="{}.png",
    ),
    "visa": Layout(
        VisA,
        "candle",
        "candle/train/good",
        "candle/test/good",
        "candle/test/bad",
        "candle/ground_truth/bad",
        image="{}.JPG",
        mask="{}.png",
    ),
    "folder": Layout(
        Folder,
        "nuts",
        "nuts/train/good",
        "nuts/test/good",
        "nuts/test/ink",
        "nuts/ground_truth/ink",
        image="{}.jpg",
        mask="{}.png",
    ),
}


@dataclass
class Tree:
    """A tiny data set that lies below `root` as `layout` says."""

    root: Path
    layout: Layout

    def dataset(self, **options: object) -> Dataset:
        return self.layout.make(root=self.root, **options)

    def folder(self, part: str) -> Path:
        return self.root / str(getattr(self.layout, part))

    def image(self, part: str, stem: str) -> Path:
        return self.folder(part) / self.layout.image.format(stem)

    def mask(self, stem: str) -> Path:
        return self.folder("masks") / self.layout.mask.format(stem)

    def samples(self, split: str = "test", **options: object) -> list[object]:
        found = self.dataset(**options).samples(self.layout.category, split)  # type: ignore[arg-type]
        return list(found)


def draw(path: Path, shade: int = 90, size: tuple[int, int] = (12, 10), mode: str = "RGB") -> Path:
    """A small image with a gradient; the shade tells it from the others."""
    path.parent.mkdir(parents=True, exist_ok=True)
    width, height = size
    pixels = (np.arange(width * height).reshape(height, width) + shade) % 200
    Image.fromarray(pixels.astype(np.uint8)).convert(mode).save(path)
    return path


def draw_mask(path: Path, size: tuple[int, int] = (12, 10), value: int = 255) -> Path:
    """A mask with a block of 2 x 3 pixels of `value`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((size[1], size[0]), np.uint8)
    pixels[4:6, 3:6] = value
    Image.fromarray(pixels).save(path)
    return path


def build(root: Path, layout: Layout) -> Tree:
    tree = Tree(root, layout)
    shade = 0
    for part, count in (("train", 3), ("good", 2), ("bad", 2)):
        for index in range(count):
            draw(tree.image(part, f"{index:03}"), shade := shade + 7)
    for index in range(2):
        draw_mask(tree.mask(f"{index:03}"))
    return tree


@pytest.fixture(params=LAYOUTS)
def tree(request: pytest.FixtureRequest, tmp_path: Path) -> Tree:
    """The data set of each adapter in turn; the path holds the words that loaders replace."""
    return build(tmp_path / "latest test good" / "train", LAYOUTS[request.param])


@pytest.fixture
def make_tree(tmp_path: Path) -> Callable[[str], Tree]:
    """`make_tree(name)`: the data set of one adapter."""
    return lambda name: build(tmp_path / name, LAYOUTS[name])


@pytest.fixture
def draw_image() -> Callable[..., Path]:
    """`draw_image(path, shade=, size=, mode=)`."""
    return draw


@pytest.fixture
def draw_binary() -> Callable[..., Path]:
    """`draw_binary(path, size=, value=)`: a mask."""
    return draw_mask
