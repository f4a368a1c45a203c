"""Folders of images: what lies there, which mask belongs to which image, and where the root is."""

from __future__ import annotations

import logging
import os
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.api import ConfigError, DataError, Dataset, MaskRule, Sample, nearest
from bench.errors import counted
from bench.files.folders import by_stem, image_files, listing, stem

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

MASK_SUFFIXES = ("_mask", "")
"""How a mask's stem continues its image's stem; both occur in copies of one data set."""

_log = logging.getLogger("bench")
_said: set[Path] = set()


@dataclass(frozen=True)
class Tree:
    """Names of the parts of one category in the layout of MVTec AD, relative to its folder.

    Attributes:
        train: normal training images.
        good: normal test images.
        test: holds one folder for each defect type; any folder that is not `good` is a defect.
        masks: holds one folder of masks for each defect type; None: the data have no masks.
        suffixes: continuations of an image's stem that name its mask.
        rule: which pixels of a mask are anomalous.
        strict: refuse anomalous images without mask and masks without image. Otherwise the former
            leave the pixel metrics, and the latter are ignored.
        bits: of image files of 16 bits, how many the data have.

    Raises:
        ConfigError: bits outside 9 to 16.
    """

    train: str = "train/good"
    good: str = "test/good"
    test: str = "test"
    masks: str | None = "ground_truth"
    suffixes: Sequence[str] = MASK_SUFFIXES
    rule: MaskRule = "auto"
    strict: bool = True
    bits: int = 16

    def __post_init__(self) -> None:
        if not 9 <= self.bits <= 16:
            raise ConfigError(f"bits = {self.bits}; of a 16-bit file 9 to 16 can hold the data")


def pair_masks(
    images: Sequence[Path],
    masks: Sequence[Path],
    suffixes: Sequence[str] = MASK_SUFFIXES,
    strict: bool = True,
) -> list[Path | None]:
    """The mask of every image, by name: the image's stem and one of `suffixes`, NFC-normalised.

    Raises:
        DataError: two masks for an image or two images for a mask; and, if `strict`, an image
            without mask or a mask without image.
    """
    stems = by_stem(masks)
    owners: dict[Path, Path] = {}
    pairs: list[Path | None] = []
    for image in images:
        fitting = [stems[stem(image) + s] for s in suffixes if stem(image) + s in stems]
        if len(fitting) > 1:
            raise DataError(f"{image}: two masks fit, {fitting[0]} and {fitting[1]}; remove one")
        mask = fitting[0] if fitting else None
        if mask is not None and mask in owners:
            raise DataError(f"{mask}: fits two images, {owners[mask]} and {image}; rename one")
        if mask is not None:
            owners[mask] = image
        pairs.append(mask)
    if strict:
        _refuse_unpaired(images, pairs, [m for m in masks if m not in owners], suffixes)
    return pairs


def train_samples(base: Path, root: Path, tree: Tree) -> list[Sample]:
    """The normal training images of the category whose folder is `base`.

    Raises:
        DataError: as `image_files`; or there is none.
    """
    folder = base / tree.train
    images = image_files(folder, root)
    if not images:
        raise DataError(
            f"{folder}: no training images, at least 1 expected; put normal images there"
        )
    return [Sample(image, 0, "good", mask_rule=tree.rule, bits=tree.bits) for image in images]


def test_samples(base: Path, root: Path, tree: Tree) -> list[Sample]:
    """The test images of the category whose folder is `base`, sorted by path.

    A normal image gets a mask where one lies in the masks' folder: it must turn out empty.

    Raises:
        DataError: as `image_files` and `pair_masks`; or there is no test image at all.
    """
    test, good = base / tree.test, base / tree.good
    if not test.is_dir():
        raise DataError(
            f"{test}: no such folder; test images are expected in it, in one folder for each "
            f"defect type and {good.relative_to(base)}/ for normal ones"
        )
    found = listing(test, root)
    folders = {f.name: f for f in found.folders if f != good and f not in good.parents}
    if found.images and good.parent == test:
        raise DataError(
            f"{found.images[0]}: an image directly in {test.name}/; expected in "
            f"{test.name}/{good.name}/ or in the folder of a defect type"
        )
    _refuse_other_case(folders, good)
    samples = []
    if good.is_dir():
        samples += _folder_samples(good, good.name, 0, base, root, tree)
    if found.images:
        by_stem(found.images)
        samples += _samples(found.images, test.name, 1, base, root, tree)
    for name, folder in folders.items():
        samples += _folder_samples(folder, name, 1, base, root, tree)
    if not samples:
        raise DataError(f"{test}: no test images")
    known = {good.name, *folders} | ({test.name} if found.images else set())
    if tree.strict and tree.masks is not None and (base / tree.masks).is_dir():
        for folder in listing(base / tree.masks, root).folders:
            if folder.name not in known and listing(folder, root).images:
                raise DataError(f"{folder}: masks of a defect type that {test} does not have")
    return sorted(samples, key=lambda sample: os.fsencode(sample.image.as_posix()))


def _refuse_other_case(folders: Mapping[str, Path], good: Path) -> None:
    """A folder that is called like that of the normal images but for its case is no defect type."""
    for name, folder in folders.items():
        if folder.parent == good.parent and name.casefold() == good.name.casefold():
            raise DataError(
                f"{folder}: normal images are expected in {good.name}/; rename the folder, or it "
                "would count as a defect type"
            )


test_samples.__test__ = False  # type: ignore[attr-defined] # pytest: the name is no test's


def plugin_name(dataset: Dataset) -> str:
    """The name by which users call a data set: that of its file."""
    return type(dataset).__module__.rsplit(".", 1)[-1]


def absent(dataset: Dataset) -> DataError:
    """The error of a data set that is not there: where to get it, and which setting names it."""
    name = plugin_name(dataset)
    source = f"get it from {dataset.source}" if dataset.source else "put the images there"
    licence = f" (licence: {dataset.licence})" if dataset.licence else ""
    return DataError(
        f"{name}: no images in {dataset.root}; {source}{licence}, then name the folder by "
        f"--data-root DIR, by root under [datasets.{name}] in bench.toml, or by BENCH_DATA"
    )


def locate(dataset: Dataset, known: Sequence[str]) -> Path:
    """The folder that holds folders called as in `known`: the root, or one level down or up.

    Raises:
        DataError: the root is missing or empty, holds other things, or two folders in it would do.
    """
    root = dataset.root.expanduser()
    if _holds(root, known):
        return root
    if not root.is_dir():
        raise absent(dataset)
    entries = listing(root, root)
    below = [folder for folder in entries.folders if _holds(folder, known)]
    if len(below) > 1:
        raise DataError(f"{root}: both {below[0].name} and {below[1].name} would do; name one")
    if below:
        return _announce(root, below[0])
    if root.resolve().name in known:
        return _announce(root, root.resolve().parent)
    if not (entries.folders or entries.images):
        raise absent(dataset)
    found = [folder.name for folder in entries.folders]
    raise DataError(
        f"{plugin_name(dataset)}: {root} holds none of the folders {', '.join(known)}; "
        f"it holds {', '.join(found[:8]) or 'no folder'}. Name the folder by --data-root DIR, "
        f"or get the data from {dataset.source} (licence: {dataset.licence})"
    )


def category_folder(dataset: Dataset, category: str, known: Sequence[str]) -> Path:
    """The folder of a category below the located root.

    Raises:
        DataError: as `locate`; or the category is unknown or not on disk.
    """
    if category not in known:
        raise DataError(
            f"{plugin_name(dataset)}: no category {category!r}; {nearest(category, known)}"
        )
    root = locate(dataset, known)
    folder = root / category
    if not folder.is_dir():
        found = [f.name for f in listing(root, root).folders]
        raise DataError(f"{folder}: no such folder; {nearest(category, found)}")
    return folder


def _holds(folder: Path, known: Sequence[str]) -> bool:
    return any((folder / name).is_dir() for name in known)


def _announce(root: Path, used: Path) -> Path:
    if root not in _said:
        _said.add(root)
        _log.warning("%s holds no category itself; using %s", root, used)
    return used


def _folder_samples(
    folder: Path, defect: str, label: int, base: Path, root: Path, tree: Tree
) -> list[Sample]:
    return _samples(image_files(folder, root), defect, label, base, root, tree)


def _samples(
    images: Sequence[Path], defect: str, label: int, base: Path, root: Path, tree: Tree
) -> list[Sample]:
    """Samples of one folder with their masks; `defect` names the folder of the masks too."""
    masks: list[Path | None] = [None] * len(images)
    if tree.masks is not None:
        folder = base / tree.masks / defect
        if folder.is_dir():
            _refuse_mask_folders(folder, images, root)
        files = image_files(folder, root) if folder.is_dir() else []
        if label == 1 and tree.strict and images and not files:
            raise DataError(f"{folder}: no masks for the images of {images[0].parent}; {_WAY_OUT}")
        if label == 1 or files:
            masks = pair_masks(images, files, tree.suffixes, tree.strict and label == 1)
    name = defect if label else "good"
    return [
        Sample(image, label, name, mask, mask_rule=tree.rule, bits=tree.bits)
        for image, mask in zip(images, masks, strict=True)
    ]


def _refuse_mask_folders(folder: Path, images: Sequence[Path], root: Path) -> None:
    """A folder of masks for each image is a layout of its own."""
    stems = {stem(image) for image in images}
    found = [
        f for f in listing(folder, root).folders if unicodedata.normalize("NFC", f.name) in stems
    ]
    if found:
        raise DataError(
            f"{found[0]}: a folder of masks for one image, as MVTec LOCO AD has them: read that by "
            f"--dataset mvtec_loco --data-root DIR; of your own data, unite the masks of an image "
            "in one file of its name"
        )


_WAY_OUT = "or set strict_masks = false to leave such images out of the pixel metrics"


def _refuse_unpaired(
    images: Sequence[Path],
    pairs: Sequence[Path | None],
    surplus: Sequence[Path],
    suffixes: Sequence[str],
) -> None:
    missing = [image for image, mask in zip(images, pairs, strict=True) if mask is None]
    also = f"; {surplus[0]} has no image" if surplus else ""
    if missing:
        names = " or ".join(f"{missing[0].stem}{s}" for s in suffixes)
        raise DataError(
            f"{missing[0]}: no mask called {names} ({len(missing)} of "
            f"{counted(len(images), 'image')} without){also}; add the masks, {_WAY_OUT}"
        )
    if surplus:
        raise DataError(
            f"{surplus[0]}: a mask without image ({len(surplus)} of them) for "
            f"{images[0].parent if images else 'an empty folder'}; restore the image or remove the "
            "mask, or set strict_masks = false to ignore it"
        )
