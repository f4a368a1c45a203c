"""Maps of a cell in 16 bits beside its row, with all that evaluating them again needs.

artifacts/<cell>/kept/00000.npy     (h, w) uint16 levels of the first test image, and so on
artifacts/<cell>/kept/index.npz     what the levels stand for; masks, labels, names and scores
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.errors import StoreError
from bench.evaluate.lazy import Lazy
from bench.evaluate.rounded import Levels, choose_edges
from bench.files.packed import PackedMasks
from bench.npz import DAMAGED

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

FOLDER, INDEX = "kept", "index.npz"


@dataclass(frozen=True)
class KeptMaps:
    """What was kept of a cell.

    Attributes:
        coded: (h, w) levels of each map, read when asked for.
        scores: (n,) image scores, as they were.
        tops: (n,) the highest score of each map, as it was.
    """

    levels: Levels
    coded: Sequence[NDArray[np.uint16]]
    masks: PackedMasks
    labels: NDArray[np.int64]
    scores: NDArray[Any]
    tops: NDArray[Any]
    names: list[str]

    @property
    def maps(self) -> Lazy[NDArray[Any]]:
        """The maps, rounded down to their levels."""
        return Lazy(lambda index: self.levels.decode(self.coded[index]), len(self.coded))


def keep_maps(
    folder: Path,
    maps: Sequence[NDArray[Any]],
    masks: PackedMasks,
    labels: Sequence[int],
    scores: NDArray[Any],
    names: Sequence[str],
) -> None:
    """Write maps and index below the artifacts of a cell: 2 bytes a pixel.

    Args:
        folder: of the artifacts.
        maps: (h, w) each, of one type; read twice.
    """
    target = folder / FOLDER
    target.mkdir(parents=True, exist_ok=True)
    levels = Levels.empty(choose_edges(maps))
    tops = []
    for index, one in enumerate(maps):
        np.save(_file(target, index), levels.encode(one))
        tops.append(one.max())
    np.savez_compressed(
        target / INDEX,
        edges=levels.edges,
        lowest=levels.lowest,
        highest=levels.highest,
        labels=np.array(labels),
        scores=scores,
        tops=np.array(tops),
        names=np.array(names),
        **masks.to_arrays(),
    )


def load_kept(folder: Path) -> KeptMaps:
    """What `keep_maps` wrote; maps are read when they are asked for.

    Raises:
        StoreError: nothing was kept, or it is damaged.
    """
    target = folder / FOLDER
    if not target.is_dir():
        raise StoreError(f"{folder}: no maps were kept; `bench run --keep-maps` keeps them")
    try:
        with (target / INDEX).open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            found = {name: file[name] for name in file.files}
        names = found["names"].tolist()
        return KeptMaps(
            levels=Levels(found["edges"], found["lowest"], found["highest"]),
            coded=Lazy(lambda index: _read(_file(target, index), found), len(names)),
            masks=PackedMasks.from_arrays(found),
            labels=found["labels"],
            scores=found["scores"],
            tops=found["tops"],
            names=names,
        )
    except DAMAGED as error:
        raise StoreError(f"{target / INDEX} cannot be read: {error}; run the cell again") from error


def _file(folder: Path, index: int) -> Path:
    return folder / f"{index:05d}.npy"


def _read(file: Path, index: dict[str, Any]) -> NDArray[np.uint16]:
    try:
        levels: NDArray[np.uint16] = np.load(file, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise StoreError(f"{file} cannot be read: {error}; run the cell again") from error
    if levels.dtype != np.uint16 or levels.max(initial=0) >= len(index["lowest"]):
        raise StoreError(f"{file} does not belong to {INDEX}; run the cell again")
    return levels
